package fuse

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// kernel plays the kernel's side over a socket that keeps messages apart, as /dev/fuse does.
type kernel struct {
	t  testing.TB
	fd int
}

// pair returns a kernel and the server's descriptor. Closing the kernel ends the server.
func pair(t testing.TB) (*kernel, int) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	// All answers of a test have room: whoever sends one must not wait (Server.send), as with /dev/fuse.
	if err := unix.SetsockoptInt(p[1], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20); err != nil {
		t.Fatal(err)
	}
	return &kernel{t, p[0]}, p[1]
}

// serve runs start on a new server and ends it with the test.
func serve(t *testing.T, m export.Backend, start func(s *Server) error) (*kernel, *Server) {
	t.Helper()
	k, fd := pair(t)
	s := New(fd, [16]byte{1}, m, Options{})
	if err := start(s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Close(k.fd)
		<-s.Done()
		_ = unix.Close(fd)
	})
	return k, s
}

// send sends one request.
func (k *kernel) send(op uint32, unique, node uint64, body []byte) {
	k.t.Helper()
	if _, err := unix.Write(k.fd, encode(op, unique, node, body)); err != nil {
		k.t.Fatal(err)
	}
}

func encode(op uint32, unique, node uint64, body []byte) []byte {
	q := make([]byte, inHeader, inHeader+len(body))
	native.PutUint32(q, uint32(inHeader+len(body)))
	native.PutUint32(q[4:], op)
	native.PutUint64(q[8:], unique)
	native.PutUint64(q[16:], node)
	return append(q, body...)
}

// reply receives one reply.
func (k *kernel) reply() (unique uint64, errno syscall.Errno, body []byte) {
	k.t.Helper()
	p := make([]byte, outHeader+MaxIO)
	n, err := unix.Read(k.fd, p)
	if err != nil || n < outHeader || int(native.Uint32(p)) != n {
		k.t.Fatalf("reply of %d bytes: %v", n, err)
	}
	return native.Uint64(p[8:]), syscall.Errno(-int32(native.Uint32(p[4:]))), p[outHeader:n]
}

// want requires that the next reply is this one.
func (k *kernel) want(unique uint64, errno syscall.Errno) []byte {
	k.t.Helper()
	u, e, body := k.reply()
	if u != unique || e != errno {
		k.t.Fatalf("reply %d: %v, want %d: %v", u, e, unique, errno)
	}
	return body
}

func writeBody(off uint64, p []byte) []byte {
	b := make([]byte, writeIn, writeIn+len(p))
	native.PutUint64(b[8:], off)
	native.PutUint32(b[16:], uint32(len(p)))
	return append(b, p...)
}

func readBody(off uint64, n uint32) []byte {
	b := make([]byte, readSize)
	native.PutUint64(b[8:], off)
	native.PutUint32(b[16:], n)
	return b
}

func fallocBody(off, n uint64, mode uint32) []byte {
	b := make([]byte, fallocSize)
	native.PutUint64(b[8:], off)
	native.PutUint64(b[16:], n)
	native.PutUint32(b[24:], mode)
	return b
}

func initBody(major, minor uint32, flags uint64) []byte {
	b := make([]byte, 64)
	native.PutUint32(b, major)
	native.PutUint32(b[4:], minor)
	native.PutUint32(b[12:], uint32(flags))
	native.PutUint32(b[16:], uint32(flags>>32))
	return b
}

var page = bytes.Repeat([]byte{'p'}, pageSize)

// The replies to a kernel of 7.45 are byte for byte those in testdata.
func TestGolden(t *testing.T) {
	m := exporttest.Volume(t, 1<<20)
	k, _ := serve(t, m, (*Server).Start)
	var got strings.Builder
	for i, q := range []struct {
		name string
		op   uint32
		node uint64
		body []byte
	}{
		{"init", opInit, 0, initBody(7, 45, ^uint64(0))},
		{"lookup", opLookup, rootNode, []byte(FileName + "\x00")},
		{"lookup of another name", opLookup, rootNode, []byte("x\x00")},
		{"getattr of the root", opGetattr, rootNode, make([]byte, 16)},
		{"open", opOpen, fileNode, make([]byte, 8)},
		{"statfs", opStatfs, rootNode, nil},
		{"interrupt", opInterrupt, 0, make([]byte, 8)},
		{"release", opRelease, fileNode, make([]byte, 24)},
	} {
		k.send(q.op, uint64(2*i+2), q.node, q.body)
		_, errno, body := k.reply()
		got.WriteString(q.name + ": " + errno.Error() + "\n" + hex.Dump(body))
	}
	want, err := os.ReadFile("testdata/replies.golden")
	if os.Getenv("REWRITE") != "" {
		err = os.WriteFile("testdata/replies.golden", []byte(got.String()), 0o600)
	} else if err == nil && got.String() != string(want) {
		t.Errorf("replies changed:\n%s", got.String())
	}
	if err != nil {
		t.Error(err)
	}
}

func TestOldKernel(t *testing.T) {
	for name, body := range map[string][]byte{
		"minor": initBody(7, protoMinMinor-1, ^uint64(0)),
		"major": initBody(6, 40, ^uint64(0)),
		"flags": initBody(7, 45, 0),
	} {
		k, s := serve(t, exporttest.Volume(t, 1<<20), (*Server).Start)
		k.send(opInit, 2, 0, body)
		k.want(2, unix.EPROTO)
		if err := s.Err(); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Requests that are not whole blocks of the volume are refused and reach no backend.
func TestRefused(t *testing.T) {
	m := exporttest.Volume(t, 1<<20)
	k, _ := serve(t, m, (*Server).Start)
	for name, q := range map[string]struct {
		op   uint32
		body []byte
		want syscall.Errno
	}{
		"unaligned write":       {opWrite, writeBody(512, page), unix.EINVAL},
		"part of a block":       {opWrite, writeBody(0, page[:512]), unix.EINVAL},
		"write past the end":    {opWrite, writeBody(1<<20, page), unix.ENOSPC},
		"write that lies":       {opWrite, append(writeBody(0, page), 'x'), unix.EIO},
		"short write":           {opWrite, nil, unix.EIO},
		"unaligned read":        {opRead, readBody(512, 4096), unix.EINVAL},
		"read of too much":      {opRead, readBody(0, 512), unix.EINVAL},
		"allocation":            {opFallocate, fallocBody(0, 4096, 0), unix.EOPNOTSUPP},
		"hole past the end":     {opFallocate, fallocBody(0, 2<<20, unix.FALLOC_FL_PUNCH_HOLE), unix.ENOSPC},
		"hole of negative size": {opFallocate, fallocBody(0, 1<<63, unix.FALLOC_FL_PUNCH_HOLE), unix.EINVAL},
		"another size":          {opSetattr, append([]byte{setattrSize}, make([]byte, setattrIn-1)...), unix.EPERM},
	} {
		k.send(q.op, 2, fileNode, q.body)
		if _, errno, _ := k.reply(); errno != q.want {
			t.Errorf("%s: %v, want %v", name, errno, q.want)
		}
	}
	if n := m.Count(exporttest.OpWrite) + m.Count(exporttest.OpDiscard) + m.Count(exporttest.OpRead); n != 0 {
		t.Errorf("%d refused requests reached the backend", n)
	}
}

// The kernel never hears ENOSYS about data: it would not ask again (invariant 1).
func TestNeverNever(t *testing.T) {
	m := exporttest.Volume(t, 1<<20)
	k, _ := serve(t, m, (*Server).Start)
	for _, cause := range []error{unix.ENOSYS, unix.EOPNOTSUPP} {
		m.SetHook(func(exporttest.Op, int64, int64) error { return cause })
		for op, body := range map[uint32][]byte{
			opWrite: writeBody(0, page), opRead: readBody(0, 4096), opFsync: make([]byte, 16),
			opFallocate: fallocBody(0, 4096, unix.FALLOC_FL_PUNCH_HOLE),
		} {
			k.send(op, 2, fileNode, body)
			k.want(2, unix.EIO)
		}
	}
	k.send(opLookup+70, 2, fileNode, nil) // the control: what is unknown is ENOSYS
	k.want(2, unix.ENOSYS)
}

// However many flushes, reads and writes wait, a reader is left for the rest (invariant 2).
func TestBlockedHoldNothing(t *testing.T) {
	m := exporttest.Volume(t, 1<<20)
	k, s := serve(t, m, (*Server).Start)
	release, arrived := make(chan struct{}), make(chan struct{}, 16)
	m.SetHook(func(op exporttest.Op, off, _ int64) error {
		if off == 0 && op != exporttest.OpAccepted {
			arrived <- struct{}{}
			<-release
		}
		return nil
	})
	const each = 4
	for i := range uint64(each) {
		k.send(opFsync, 100+i, fileNode, make([]byte, 16))
		k.send(opRead, 200+i, fileNode, readBody(0, 4096))
		k.send(opWrite, 300+i, fileNode, writeBody(0, page))
	}
	for range 3 * each {
		<-arrived
	}
	k.send(opWrite, 2, fileNode, writeBody(8192, page))
	k.want(2, 0)
	k.send(opStatfs, 4, rootNode, nil)
	k.want(4, 0)
	close(release)
	for range 3 * each {
		if _, errno, _ := k.reply(); errno != 0 {
			t.Error(errno)
		}
	}
	if n := s.away.Load(); n != 0 {
		t.Errorf("%d readers are away", n)
	}
}

// After a restart: what was accepted is answered without being applied, what was not is applied, Resent comes after the
// last question and waits for neither a flush nor a full ring.
func TestResume(t *testing.T) {
	m := exporttest.Volume(t, 1<<20)
	conn := [16]byte{1}
	if err := m.Write(export.NewRequestID(conn, 10), page, 0); err != nil { // accepted by the former server
		t.Fatal(err)
	}
	copy(m.Bytes(), "newer") // and written over since
	release := make(chan struct{})
	m.SetHook(func(op exporttest.Op, off, _ int64) error {
		if op == exporttest.OpFlush || op == exporttest.OpWrite && off == 8192 {
			<-release
		}
		return nil
	})
	k, fd := pair(t)
	for _, q := range [][]byte{
		encode(opFsync, 8|uniqueResend, fileNode, make([]byte, 16)),
		encode(opWrite, 12|uniqueResend, fileNode, writeBody(8192, page)), // not accepted, and the ring is full
		encode(opForget, 0, fileNode, make([]byte, 8)),                    // forgets overtake
		encode(opWrite, 10|uniqueResend, fileNode, writeBody(0, page)),
	} {
		if _, err := unix.Write(k.fd, q); err != nil {
			t.Fatal(err)
		}
	}
	s := New(fd, conn, m, Options{})
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = unix.Close(k.fd)
		<-s.Done()
		_ = unix.Close(fd)
	}()
	if m.Count(exporttest.OpResent) != 1 {
		t.Error("Resume returned before Resent")
	}
	var notify [64]byte
	if n, err := unix.Read(k.fd, notify[:]); err != nil || n != outHeader || native.Uint32(notify[4:]) != notifyResend {
		t.Fatalf("notification %x, %v", notify[:max(n, 0)], err)
	}
	k.want(10|uniqueResend, 0)
	if string(m.Bytes()[:5]) != "newer" {
		t.Error("an accepted request was applied again")
	}
	close(release)
	for range 2 {
		if _, errno, _ := k.reply(); errno != 0 {
			t.Error(errno)
		}
	}
	if m.Bytes()[8192] != 'p' {
		t.Error("a request that was not accepted is lost")
	}
}

// The common requests take no memory.
func TestNoAllocation(t *testing.T) {
	m := exporttest.Volume(t, 1<<20)
	null, err := unix.Open("/dev/null", unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	s := New(null, [16]byte{}, m, Options{})
	r, err := newReader(s)
	if err != nil {
		t.Fatal(err)
	}
	defer r.free()
	for name, p := range map[string][]byte{
		"write": encode(opWrite, 2, fileNode, writeBody(0, page)),
		"read":  encode(opRead, 2, fileNode, readBody(0, 4096)),
		"fsync": encode(opFsync, 2, fileNode, make([]byte, 16)),
	} {
		q, ok := parse(p)
		if !ok {
			t.Fatal(name)
		}
		if n := testing.AllocsPerRun(1000, func() { s.dispatch(r, q) }); n != 0 {
			t.Errorf("a %s allocates %v times", name, n)
		}
	}
	if n := m.Count(exporttest.OpWrite); n < 1000 {
		t.Errorf("only %d writes reached the backend", n)
	}
}

// FuzzRequest: whatever is read, the server does not panic and touches nothing outside the volume.
func FuzzRequest(f *testing.F) {
	f.Add(encode(opInit, 2, 0, initBody(7, 45, ^uint64(0))))
	f.Add(encode(opWrite, 2, fileNode, writeBody(0, page)))
	f.Add(encode(opRead, 2, fileNode, readBody(0, 4096)))
	f.Add(encode(opFallocate, 2|uniqueResend, fileNode, fallocBody(0, 4096, unix.FALLOC_FL_PUNCH_HOLE)))
	f.Add(encode(opLookup, 2, rootNode, []byte(FileName)))
	f.Add(encode(opSetattr, 2, rootNode, make([]byte, setattrIn)))
	m, err := exporttest.NewMemory(1<<20, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 4 || len(in) > MaxIO {
			return
		}
		native.PutUint32(in, uint32(len(in)))
		if q, ok := parse(in); ok {
			s := New(null, [16]byte{}, m, Options{})
			r, err := newReader(s)
			if err != nil {
				t.Fatal(err)
			}
			s.live.Add(1)
			s.dispatch(r, q)
			r.free()
			s.leave()
			<-s.Done()
		}
	})
}

func TestParseMounts(t *testing.T) {
	const info = `22 1 0:5 / /dev rw - devtmpfs devtmpfs rw
90 22 0:44 / /run/d/vol\040one rw,nosuid - fuse.mynetwork mynetwork rw,user_id=0
91 22 0:45 / /run/elsewhere/vol rw - fuse.mynetwork mynetwork rw
92 22 0:46 / /run/d/other rw - fuse.sshfs host rw
93 22 0:47 / /run/d2/vol rw - fuse.mynetwork mynetwork rw
94 22 0:48
`
	got, err := parseMounts(strings.NewReader(info), "/run/d")
	if err != nil || len(got) != 1 || got[0] != (Mounted{"/run/d/vol one", 44}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestMissingDevice(t *testing.T) {
	if _, err := openDevice("/dev/fuse-that-is-not-there"); !errors.Is(err, ErrNoDevice) {
		t.Errorf("got %v", err)
	}
}
