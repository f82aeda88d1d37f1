package ublk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// What goes to the kernel, byte for byte. The codes are those that a C compiler makes of the kernel's own macros.
func TestWire(t *testing.T) {
	for code, want := range map[uint32]uint32{
		ctlGetInfo: 0x80207502, ctlAdd: 0xc0207504, ctlDelete: 0xc0207505, ctlStart: 0xc0207506, ctlStop: 0xc0207507, ctlSetParameters: 0xc0207508,
		ctlStartRecovery: 0xc0207510, ctlEndRecovery: 0xc0207511, ctlGetFeatures: 0x80207513, ctlDeleteLater: 0x80207514,
		ctlUpdateSize: 0xc0207515, ctlTryStop: 0xc0207517, ioFetch: 0xc0107520, ioCommit: 0xc0107521,
	} {
		if code != want {
			t.Errorf("code %#x, want %#x", code, want)
		}
	}
	m := exporttest.Volume(t, 32*mib)
	p, ro := newParameters(m), newParameters(readOnly{m})
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"control": {bytesOf(&controlCmd{device: 1, queue: noQueue, size: 64, addr: 0x1122334455667788, arg: 9}),
			"01000000 ffff 4000 8877665544332211 0900000000000000 0000000000000000"},
		"device": {bytesOf(&deviceInfo{queues: 1, depth: 128, state: 2, maxIO: MaxIO, device: anyDevice, pid: 7, flags: flagRecovery | flagReissue, cookie: 5}),
			"0100 8000 0200 0000 00000400 ffffffff 07000000 00000000 1800000000000000 0500000000000000" + strings.Repeat("00", 24)},
		"parameters": {bytesOf(&p), "40000000 03000000 0c000000 0c0c0c0c 00020000 00000000 0000010000000000 0000000000000000" +
			"00000000 00100000 00002000 00002000 0100 0000 00000000"},
		"read-only": {bytesOf(&ro)[8:12], "0d000000"},
		"tag":       {bytesOf(&tagCmd{tag: 3, result: -5, addr: 0x1000}), "0000 0300 fbffffff 0010000000000000"},
	} {
		if want, _ := hex.DecodeString(strings.ReplaceAll(c.want, " ", "")); !bytes.Equal(c.got, want) {
			t.Errorf("%s: %x, want %x", name, c.got, want)
		}
	}
}

type readOnly struct{ export.Backend }

func (readOnly) ReadOnly() bool { return true }

func TestFeatures(t *testing.T) {
	if err := checkFeatures(needed|1<<30, true); err != nil {
		t.Error(err)
	}
	for _, lacks := range []uint64{flagRecovery, flagReissue, flagIoctlCodes, flagUpdateSize} {
		if err := checkFeatures(needed&^lacks, true); !errors.Is(err, ErrUnavailable) {
			t.Errorf("without %#x: %v", lacks, err)
		}
	}
	if err := checkFeatures(needed, false); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without privilege: %v", err)
	}
}

// Each request is done, or refused, and answered with its length.
func TestRequests(t *testing.T) {
	for _, slow := range []bool{false, true} {
		m := exporttest.Volume(t, mib)
		m.SetSlow(slow)
		k := newKernel(t, m, fresh(t), begin(m))
		k.write(0, 'a', 4096)
		k.mustAnswer(0, 4096)
		k.send(1, opRead, 4096, 8192)
		k.mustAnswer(1, 8192)
		if k.buf[1][0] != 'a' || k.buf[1][4096] != 0 {
			t.Error("wrong bytes")
		}
		k.send(2, opFlush, 0, 0)
		k.mustAnswer(2, 0)
		k.send(3, opDiscard, 4096, 4096)
		k.mustAnswer(3, 4096)
		k.write(0, 'b', 0)
		k.mustAnswer(0, 4096)
		k.send(0, opWriteZeroes, 0, 4096)
		k.mustAnswer(0, 4096)
		if got := m.Bytes()[:8192]; !bytes.Equal(got, make([]byte, 8192)) {
			t.Error("not cleared")
		}
		for name, r := range map[string]struct {
			op     uint32
			off, n int64
			want   int32
		}{
			"behind the end": {opRead, mib, 4096, -int32(unix.ENOSPC)}, "across the end": {opWrite, mib - 4096, 8192, -int32(unix.ENOSPC)},
			"no block": {opWrite, 512, 4096, -int32(unix.EINVAL)}, "nothing": {opRead, 0, 0, -int32(unix.EINVAL)},
			"too long": {opWrite, 0, MaxIO + 4096, -int32(unix.EIO)}, "unknown": {10, 0, 4096, -int32(unix.EIO)},
		} {
			k.send(2, r.op, r.off, r.n)
			if got := k.answer(); got.result != r.want {
				t.Errorf("%s: %d, want %d", name, got.result, r.want)
			}
		}
		k.stop()
		if n := m.Pending(); n != 0 {
			t.Errorf("%d accepted requests without an answer", n)
		}
		if a, w := m.Count(exporttest.OpAnswered), m.Count(exporttest.OpWrite)+m.Count(exporttest.OpDiscard)+m.Count(exporttest.OpZero); a != w {
			t.Errorf("%d answers for %d changes", a, w)
		}
	}
}

// A FUA write is flushed before its answer, and fails with its flush.
func TestFlushed(t *testing.T) {
	m := exporttest.Volume(t, mib)
	k := newKernel(t, m, fresh(t), begin(m))
	k.send(0, opWrite|flagFUA, 0, 4096)
	k.mustAnswer(0, 4096)
	if m.Count(exporttest.OpFlush) != 1 {
		t.Error("not flushed")
	}
	m.SetHook(func(op exporttest.Op, _, _ int64) error {
		if op == exporttest.OpFlush {
			return unix.ENOSYS // which must not reach the kernel as it is
		}
		return nil
	})
	k.send(0, opWrite|flagFUA, 0, 4096)
	k.mustAnswer(0, -int32(unix.EIO))
}

// stuck makes a server that accepts a write to tag 1 and never answers it, and forgets that server: the table is as it leaves it.
func stuck(t *testing.T, m *exporttest.Memory) *table {
	t.Helper()
	tb := fresh(t)
	k := newKernel(t, m, tb, begin(m))
	k.write(1, 'x', 0) // the tag's former use
	k.mustAnswer(1, 4096)
	accepted, release := make(chan struct{}), make(chan struct{})
	m.SetHook(func(op exporttest.Op, _, _ int64) error {
		if op == exporttest.OpAccepted {
			close(accepted)
			<-release
		}
		return nil
	})
	k.write(1, 'a', 0)
	<-accepted
	m.SetHook(nil)
	t.Cleanup(func() { close(release) }) // before the server's end
	return tb
}

// A request that is sent again under its tag is known again, and answered without being applied; another one under its tag is new; and one that
// comes under another tag is applied once more, but no slot of the ring stays taken for it.
func TestSentAgain(t *testing.T) {
	for name, c := range map[string]struct {
		tag  int
		off  int64
		kept bool // tags
		want byte // at offset 0
	}{
		"the same":        {1, 0, true, 'n'},
		"another place":   {1, 8192, true, 'n'},
		"another tag":     {2, 0, false, 'a'},
		"tags not kept":   {1, 0, false, 'a'}, // then nothing is known again
		"tag of a reader": {3, 0, true, 'a'},
	} {
		t.Run(name, func(t *testing.T) {
			m := exporttest.Volume(t, mib)
			tb := stuck(t, m)
			copy(m.Bytes(), bytes.Repeat([]byte{'n'}, 4096)) // a newer write
			next := &table{fd: -1, mem: tb.mem, conn: tb.conn}
			pending := m.Pending()
			k := newKernel(t, m, next, func(s *server) { s.recover(c.kept) })
			writes := m.Count(exporttest.OpWrite)
			k.write(c.tag, 'a', c.off)
			k.mustAnswer(c.tag, 4096)
			k.stop()
			if got := m.Bytes()[0]; got != c.want {
				t.Errorf("read %q, want %q", got, c.want)
			}
			if again := m.Count(exporttest.OpWrite) > writes; again != (name != "the same") {
				t.Errorf("applied once more: %v", again)
			}
			if want := pending - 1; name != "tag of a reader" && m.Pending() != want {
				t.Errorf("%d requests without an answer, want %d", m.Pending(), want)
			}
		})
	}
}

// The table marks an answer before the kernel sees it, and the backend hears of it after.
func TestOrderOfAnswers(t *testing.T) {
	m := exporttest.Volume(t, mib)
	tb := fresh(t)
	k := newKernel(t, m, tb, begin(m))
	seen := make(chan [2]bool, 1)
	k.handed = func() {
		_, open := tb.unanswered(0)
		seen <- [2]bool{open, m.Count(exporttest.OpAnswered) > 0}
	}
	k.write(0, 'a', 0)
	k.mustAnswer(0, 4096)
	if got := <-seen; got != [2]bool{false, false} {
		t.Errorf("when the kernel got the answer: unanswered in the table %v, backend told %v", got[0], got[1])
	}
	k.stop()
	if m.Count(exporttest.OpAnswered) != 1 {
		t.Error("the backend was not told")
	}
}

// What waits fails when the device is cut off, and a worker's late end harms nothing.
func TestAbort(t *testing.T) {
	m := exporttest.Volume(t, mib)
	k := newKernel(t, m, fresh(t), begin(m))
	held, release := make(chan struct{}), make(chan struct{})
	m.SetHook(func(op exporttest.Op, _, _ int64) error {
		if op == exporttest.OpWrite {
			close(held)
			<-release
		}
		return nil
	})
	k.write(0, 'a', 0)
	<-held
	old := &k.buf[0][0]
	k.s.abort()
	k.mustAnswer(0, -int32(unix.EIO))
	k.send(0, opRead, 0, 4096)
	k.mustAnswer(0, -int32(unix.EIO))
	if &k.buf[0][0] == old {
		t.Error("the kernel may write into a buffer that a worker has")
	}
	close(release)
	k.stop()
	if n := m.Pending(); n != 0 {
		t.Errorf("%d requests without an answer", n)
	}
}

func TestNames(t *testing.T) {
	if c := cookieOf("/run/a/x"); c != 0xc8da80b8c4275075 || c == cookieOf("/run/b/x") { // devices that were made before have it
		t.Errorf("a name's mark is %#x", c)
	}
}

// The table as it lies in memory, which the next version has to read.
func TestTableGolden(t *testing.T) {
	tb := fresh(t)
	d := ioDesc{opFlags: opWrite | flagFUA, sectors: 8, start: 16}
	tb.begin(1, &d)
	tb.end(1)
	id := tb.begin(1, &d)
	if got, ok := tb.unanswered(1); !ok || got != id || !tb.same(1, &d) {
		t.Error("not known again")
	}
	if _, ok := tb.unanswered(0); ok {
		t.Error("an unused tag is unanswered")
	}
	if n := binary.LittleEndian.Uint64(id[16:]); n != 1<<numberBits|2 || !bytes.Equal(id[:3], []byte{1, 2, 3}) {
		t.Errorf("identity %x", id)
	}
	got := hex.EncodeToString(tb.mem[:headSize+tags*entrySize]) + "\n"
	want, err := os.ReadFile(filepath.Join("testdata", "table.golden"))
	if err != nil || string(want) != got {
		t.Errorf("the table is\n%s, golden is\n%s (%v)", got, want, err)
	}
}

func TestBadTables(t *testing.T) {
	for name, spoil := range map[string]func(mem []byte){
		"version": func(mem []byte) { mem[0]++ },
		"tags":    func(mem []byte) { binary.LittleEndian.PutUint32(mem[4:], 5000) },
		"short":   func(mem []byte) { binary.LittleEndian.PutUint32(mem[4:], 200) },
		"none":    func(mem []byte) { binary.LittleEndian.PutUint32(mem[4:], 0) },
	} {
		tb := fresh(t)
		spoil(tb.mem)
		fd, err := unix.Dup(tb.fd)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openTable(fd); !errors.Is(err, ErrTable) {
			t.Errorf("%s: %v", name, err)
		}
		tb.mem[0] = tableVersion
	}
}
