package ring

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// childEnv makes this test binary the process that is killed: its value is the file with the ring.
const childEnv = "RING_TEST_CHILD"

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := child(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func mapFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return syscall.Mmap(int(f.Fd()), 0, smallSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}

// child writes until it is killed. It says each write that it has acknowledged, and, before it frees one, that it will.
func child(name string) error {
	mem, err := mapFile(name)
	if err != nil {
		return err
	}
	r, err := Open(mem, testVolume)
	if err != nil {
		return err
	}
	e := r.Epoch()
	e.Session++
	r.SetEpoch(e)
	r.AllAnswered()
	var say [16]byte
	tell := func(kind, w uint64) error {
		binary.LittleEndian.PutUint64(say[:], kind)
		binary.LittleEndian.PutUint64(say[8:], w)
		_, err := os.Stdout.Write(say[:])
		return err
	}
	for n := uint64(0); ; n++ {
		pages := n%SlotPages + 1
		w, p, err := r.Reserve(ID{}, OpWrite, n, pages)
		if err == nil {
			payloadOf(w, n, p)
			r.Commit(w)
			if err := tell('A', w); err != nil {
				return err
			}
			continue
		}
		for range 3 {
			if err := tell('F', r.Low()); err != nil {
				return err
			}
			r.Free()
		}
	}
}

// TestKilled kills a real process, again and again, on one ring: every write that it acknowledged and did not say to
// free is in the ring, whole; no write sequence is used twice.
func TestKilled(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ring")
	if err := os.WriteFile(name, make([]byte, smallSize), 0o600); err != nil {
		t.Fatal(err)
	}
	mem, err := mapFile(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(mem) }()
	if _, err := Format(mem, testVolume, testEpoch); err != nil {
		t.Fatal(err)
	}
	acked, freed := uint64(0), uint64(0)
	for round := range 25 {
		a, f := killOne(t, name, 20+37*round, acked)
		acked, freed = max(acked, a), max(freed, f)
		r, err := Open(append([]byte(nil), mem...), testVolume)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if r.Epoch().Session < testEpoch.Session || r.Next() <= acked {
			t.Fatalf("round %d: epoch %s, next %d after %d", round, r.Epoch(), r.Next(), acked)
		}
		for w := freed + 1; w <= acked; w++ {
			s, ok := r.Get(w)
			if !ok {
				t.Fatalf("round %d: acknowledged write %d is gone (low %d, next %d)", round, w, r.Low(), r.Next())
			}
			want := make([]byte, len(s.Payload))
			payloadOf(w, s.Page, want)
			if string(want) != string(s.Payload) {
				t.Fatalf("round %d: write %d is not whole", round, w)
			}
		}
	}
	if acked < 100 || freed == 0 {
		t.Fatalf("only %d writes, %d freed", acked, freed)
	}
}

// killOne runs the child until it has said n things, kills it, and reads the rest.
func killOne(t *testing.T, name string, n int, before uint64) (acked, freed uint64) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(out)
	acked = before
	for i := 0; ; i++ {
		if i == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		var say [16]byte
		if _, err := io.ReadFull(in, say[:]); err != nil {
			break
		}
		w := binary.LittleEndian.Uint64(say[8:])
		switch binary.LittleEndian.Uint64(say[:]) {
		case 'A':
			if w <= acked {
				t.Fatalf("write %d was handed out again after %d", w, acked)
			}
			acked = w
		case 'F':
			freed = w
		}
	}
	_ = cmd.Wait() // killed
	return acked, freed
}
