package nbd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// client is a plain NBD client: one request at a time on each of its connections.
type client struct {
	path       string
	structured bool
	conns      sync.Pool
	mu         sync.Mutex
	all        []net.Conn
}

var _ exporttest.Disk = (*client)(nil)

// dial connects and goes into transmission; it returns the export's size.
func (c *client) dial() (net.Conn, int64, error) {
	conn, err := net.Dial("unix", c.path)
	if err != nil {
		return nil, 0, err
	}
	c.mu.Lock()
	c.all = append(c.all, conn)
	c.mu.Unlock()
	size, err := hello(conn, c.structured)
	return conn, size, err
}

func hello(conn net.Conn, structured bool) (int64, error) {
	if _, err := io.ReadFull(conn, make([]byte, 18)); err != nil {
		return 0, err
	}
	b := be.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes)
	if structured {
		b = appendOption(b, optStructured, nil)
	}
	b = appendOption(b, optGo, make([]byte, 6)) // the default export, no information asked for
	if _, err := conn.Write(b); err != nil {
		return 0, err
	}
	var size int64
	for {
		head := make([]byte, 20)
		if _, err := io.ReadFull(conn, head); err != nil {
			return 0, err
		}
		data := make([]byte, be.Uint32(head[16:]))
		if _, err := io.ReadFull(conn, data); err != nil {
			return 0, err
		}
		opt, kind := be.Uint32(head[8:]), be.Uint32(head[12:])
		switch {
		case kind >= repErr:
			return 0, fmt.Errorf("option %d: answer %#x", opt, kind)
		case kind == repInfo && be.Uint16(data) == infoExport:
			size = int64(be.Uint64(data[2:]))
		case kind == repAck && opt == optGo:
			return size, nil
		}
	}
}

func appendOption(b []byte, opt uint32, data []byte) []byte {
	b = be.AppendUint64(b, magicOption)
	b = be.AppendUint32(b, opt)
	b = be.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func appendRequest(b []byte, q request, payload []byte) []byte {
	b = be.AppendUint32(b, magicRequest)
	b = be.AppendUint16(b, q.flags)
	b = be.AppendUint16(b, q.cmd)
	b = be.AppendUint64(b, q.cookie)
	b = be.AppendUint64(b, q.off)
	b = be.AppendUint32(b, q.n)
	return append(b, payload...)
}

// do makes one request.
func (c *client) do(q request, payload, into []byte) error {
	conn, _ := c.conns.Get().(net.Conn)
	if conn == nil {
		var err error
		if conn, _, err = c.dial(); err != nil {
			return err
		}
	}
	q.cookie = 0xfeed<<32 | q.off
	if _, err := conn.Write(appendRequest(nil, q, payload)); err != nil {
		return err
	}
	errno, err := answer(conn, q, into)
	if err != nil {
		return err
	}
	c.conns.Put(conn)
	if errno != 0 {
		return syscall.Errno(errno)
	}
	return nil
}

// answer reads a simple reply or one chunk.
func answer(conn net.Conn, q request, into []byte) (errno uint32, err error) {
	var head [simpleSize]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return 0, err
	}
	if be.Uint64(head[8:]) != q.cookie {
		return 0, fmt.Errorf("cookie %x, want %x", head[8:], q.cookie)
	}
	if be.Uint32(head[:]) == magicSimple {
		if errno = be.Uint32(head[4:]); errno == 0 {
			_, err = io.ReadFull(conn, into)
		}
		return errno, err
	}
	var n [4]byte
	if _, err := io.ReadFull(conn, n[:]); err != nil {
		return 0, err
	}
	data := make([]byte, be.Uint32(n[:]))
	if _, err := io.ReadFull(conn, data); err != nil {
		return 0, err
	}
	switch kind := be.Uint16(head[6:]); {
	case be.Uint32(head[:]) != magicChunk || be.Uint16(head[4:]) != chunkDone:
		return 0, fmt.Errorf("chunk %x", head)
	case kind == chunkError:
		return be.Uint32(data), nil
	case kind == chunkOffsetData && be.Uint64(data) == q.off && len(data) == 8+len(into):
		copy(into, data[8:])
		return 0, nil
	default:
		return 0, fmt.Errorf("chunk %x of %d bytes", head, len(data))
	}
}

func (c *client) Size() (int64, error) {
	_, size, err := c.dial()
	return size, err
}

func (c *client) ReadAt(p []byte, off int64) (int, error) {
	return len(p), c.do(request{cmd: cmdRead, off: uint64(off), n: uint32(len(p))}, nil, p)
}

func (c *client) WriteAt(p []byte, off int64) (int, error) {
	return len(p), c.do(request{cmd: cmdWrite, off: uint64(off), n: uint32(len(p))}, p, nil)
}

func (c *client) Flush() error { return c.do(request{cmd: cmdFlush}, nil, nil) }

func (c *client) Discard(off, n int64) error {
	return c.do(request{cmd: cmdTrim, off: uint64(off), n: uint32(n)}, nil, nil)
}

func (c *client) Zero(off, n int64) error {
	return c.do(request{cmd: cmdZeroes, flags: cmdFlagNoHole, off: uint64(off), n: uint32(n)}, nil, nil)
}

func (c *client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.all {
		_ = conn.Close()
	}
	return nil
}

func openServer(tb testing.TB, b export.Backend, structured bool) (*Server, *client) {
	tb.Helper()
	path := tb.TempDir() + "/p/s"
	s, err := Serve(b, Options{Socket: path, Name: "vol"})
	if err != nil {
		tb.Fatal(err)
	}
	c := &client{path: path, structured: structured}
	tb.Cleanup(func() {
		_ = c.Close()
		if err := s.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return s, c
}

func TestSuite(t *testing.T) {
	for name, structured := range map[string]bool{"simple": false, "structured": true} {
		t.Run(name, func(t *testing.T) {
			exporttest.Run(t, exporttest.Front{
				Open: func(tb testing.TB, b export.Backend) (export.Device, exporttest.Disk) {
					return openServer(tb, b, structured)
				},
				Errnos: true,
			})
		})
	}
}

// Writes that are not whole blocks change their own bytes only, also beside each other.
func TestUnaligned(t *testing.T) {
	m := exporttest.Volume(t, 4<<20)
	_, c := openServer(t, m, true)
	const part = 500
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if _, err := c.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, part), int64(i*part+7)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := make([]byte, 200*part)
	if _, err := c.ReadAt(got, 7); err != nil {
		t.Fatal(err)
	}
	for i, b := range got {
		if b != byte(i/part+1) {
			t.Fatalf("byte %d is of write %d", i, b-1)
		}
	}
	for _, r := range [][2]int64{{100, 50}, {4000, 200}, {3 * part, 12000}, {8192, 4096}} {
		want := append([]byte(nil), m.Bytes()...)
		clear(want[r[0] : r[0]+r[1]])
		if err := c.Zero(r[0], r[1]); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Bytes(), want) {
			t.Errorf("zeroing %d at %d cleared something else", r[1], r[0])
		}
	}
	want := append([]byte(nil), m.Bytes()...)
	clear(want[16384:20480])
	if err := c.Discard(16000, 4500); err != nil || !bytes.Equal(m.Bytes(), want) {
		t.Errorf("an unaligned trim does not keep to whole blocks: %v", err)
	}
	if m.Pending() != 0 {
		t.Errorf("%d requests without an answer", m.Pending())
	}
}

// A write with FUA is flushed before it is answered.
func TestFUA(t *testing.T) {
	m := exporttest.Volume(t, 1<<20)
	_, c := openServer(t, m, true)
	p := make([]byte, 4096)
	if err := c.do(request{cmd: cmdWrite, n: 4096}, p, nil); err != nil || m.Count(exporttest.OpFlush) != 0 {
		t.Fatalf("without FUA: %v, %d flushes", err, m.Count(exporttest.OpFlush))
	}
	if err := c.do(request{cmd: cmdWrite, flags: cmdFlagFUA, n: 4096}, p, nil); err != nil || m.Count(exporttest.OpFlush) != 1 {
		t.Fatalf("with FUA: %v, %d flushes", err, m.Count(exporttest.OpFlush))
	}
	m.SetHook(func(op exporttest.Op, _, _ int64) error {
		if op == exporttest.OpFlush {
			return syscall.EIO
		}
		return nil
	})
	if err := c.do(request{cmd: cmdWrite, flags: cmdFlagFUA, n: 4096}, p, nil); err != syscall.EIO {
		t.Errorf("with FUA and a failing flush: %v", err)
	}
}

func TestRefused(t *testing.T) {
	_, c := openServer(t, exporttest.Volume(t, 1<<20), true)
	for name, r := range map[string]struct {
		q    request
		want syscall.Errno
	}{
		"unknown command":        {request{cmd: 99, n: 1}, syscall.EINVAL},
		"unknown flag":           {request{cmd: cmdFlush, flags: 1 << 9}, syscall.EINVAL},
		"read past the end":      {request{cmd: cmdRead, off: 1 << 20, n: 1}, syscall.EINVAL},
		"zeroes past the end":    {request{cmd: cmdZeroes, off: 1<<20 - 1, n: 2}, syscall.ENOSPC},
		"offset that overflows":  {request{cmd: cmdTrim, off: ^uint64(0), n: 2}, syscall.EINVAL},
		"empty read":             {request{cmd: cmdRead}, syscall.EINVAL},
		"status without context": {request{cmd: cmdBlockStatus, n: 4096}, syscall.EINVAL},
	} {
		if err := c.do(r.q, nil, nil); err != r.want {
			t.Errorf("%s: %v, want %v", name, err, r.want)
		}
	}
}
