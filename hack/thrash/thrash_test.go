package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mynetwork.io/mynetwork/hack/command"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// device is a file that a load writes to.
func device(t *testing.T, l *load) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "device"))
	check(t, err)
	t.Cleanup(func() { _ = f.Close() })
	check(t, f.Truncate(loadPages*page))
	l.f = f
	return f
}

// TestLoadSeesWhatIsWrong: a load accepts what it wrote, and nothing else: no flipped bit, no page of another place, of another volume, or of
// an older write; after a power cut it accepts what no fsync covered, either way, and nothing older than the last fsync.
func TestLoadSeesWhatIsWrong(t *testing.T) {
	l := (&thrash{o: options{seed: 1}}).newLoad("v", 7)
	f := device(t, l)
	l.r = nil
	write := func(at int, version, salt uint64) {
		b := make([]byte, page)
		stamp(b, at, version, salt)
		_, err := f.WriteAt(b, 5*page)
		check(t, err)
	}
	l.synced[5] = 3
	l.later[5] = []uint64{8, 9}
	for name, c := range map[string]struct {
		at            int
		version, salt uint64
		present, left bool
	}{
		"the last write":   {5, 9, 7, true, true},
		"one before it":    {5, 8, 7, false, true},
		"what is synced":   {5, 3, 7, false, true},
		"never written":    {5, 0, 7, false, false},
		"an older one":     {5, 2, 7, false, false},
		"another place":    {6, 9, 7, false, false},
		"another volume's": {5, 9, 6, false, false},
	} {
		write(c.at, c.version, c.salt)
		if err := l.compare(0, mostPages, l.present); (err == nil) != c.present {
			t.Errorf("%s, with power: %v", name, err)
		}
		if err := l.compare(0, mostPages, l.survivor); (err == nil) != c.left {
			t.Errorf("%s, after a power cut: %v", name, err)
		}
	}
	write(5, 9, 7)
	_, err := f.WriteAt([]byte{1}, 5*page+4000)
	check(t, err)
	if l.compare(0, mostPages, l.survivor) == nil {
		t.Error("a changed byte is not seen")
	}
}

// TestProxiesCut: bytes of a way that is cut wait, those of the other do not, and all arrive when it is whole again.
func TestProxiesCut(t *testing.T) {
	far, err := net.Listen("tcp4", "127.0.0.1:0")
	check(t, err)
	defer far.Close()
	file := filepath.Join(t.TempDir(), "network.json")
	check(t, os.WriteFile(file, []byte(`{"nodes":[{"name":"n2","address":"`+far.Addr().String()+`"}]}`), 0o600))
	p, err := newProxies(file, 2)
	check(t, err)
	defer p.close()
	near, err := net.Dial("tcp4", p.via()["n1>n2"])
	check(t, err)
	defer near.Close()
	there, err := far.Accept()
	check(t, err)
	defer there.Close()
	pass := func(from, to net.Conn, wait time.Duration) bool {
		_, err := from.Write([]byte("x"))
		check(t, err)
		check(t, to.SetReadDeadline(time.Now().Add(wait)))
		_, err = io.ReadFull(to, make([]byte, 1))
		return err == nil
	}
	const long, short = 20 * time.Second, 300 * time.Millisecond
	if !pass(near, there, long) || !pass(there, near, long) {
		t.Fatal("nothing passes a whole network")
	}
	p.set(way{cut: true}, false, "n1>n2")
	if pass(near, there, short) {
		t.Error("a byte passed the way that is cut")
	}
	if !pass(there, near, long) {
		t.Error("the other way is cut too")
	}
	p.heal()
	check(t, there.SetReadDeadline(time.Now().Add(20*time.Second)))
	if _, err := io.ReadFull(there, make([]byte, 1)); err != nil {
		t.Errorf("what waited does not arrive: %v", err)
	}
	p.set(way{}, true, "n1>n2")
	check(t, near.SetReadDeadline(time.Now().Add(20*time.Second)))
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("a connection that was to end goes on")
	}
}

// TestDeletion: what a deletion had done before it could say so is no failure when it is asked for again; what was never there is.
func TestDeletion(t *testing.T) {
	for name, c := range map[string]struct {
		codes []int // of one answer after the other
		want  int
	}{
		"at once":                     {[]int{0}, 0},
		"deleted, as most hear later": {[]int{6, 4}, 0},
		"refused, and deleted later":  {[]int{5, 6, 0}, 0},
		"never there":                 {[]int{4}, 4},
		"asked for in a wrong way":    {[]int{2}, 2},
		"wrong after it was refused":  {[]int{6, 2}, 2},
	} {
		n := 0
		o := deletion(time.Minute, func() command.Output { n++; return command.Output{Code: c.codes[n-1]} })
		if o.Code != c.want || n != len(c.codes) {
			t.Errorf("%s: code %d after %d answers", name, o.Code, n)
		}
	}
	if o := deletion(0, func() command.Output { return command.Output{Code: 6} }); o.Code != 6 {
		t.Errorf("never answered: code %d", o.Code)
	}
}
