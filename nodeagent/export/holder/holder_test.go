package holder

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export/socket"
)

// rig is a running holder whose clock the test turns.
type rig struct {
	path  string
	ticks chan time.Time
	ended chan string
	stop  func()
	s     *Server
}

func start(t *testing.T) *rig {
	t.Helper()
	r := &rig{path: filepath.Join(t.TempDir(), "h", "s"), ticks: make(chan time.Time), ended: make(chan string, 8)}
	s, err := NewServer(Options{Socket: r.path, Ticks: r.ticks, Ended: func(name string, err error) {
		if err != nil {
			t.Error(err)
		}
		r.ended <- name
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.s = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// pipe returns the ends of a pipe.
func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	return p[0], p[1]
}

// getWhenFree gets an entry whose owner has just left: the holder may not have noticed.
func getWhenFree(t *testing.T, c *Client, name string) *Entry {
	t.Helper()
	for {
		e, err := c.Get(t.Context(), name)
		if errors.Is(err, ErrOwned) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
}

func TestKeepsAcrossOwners(t *testing.T) {
	r := start(t)
	a, b := dial(t, r.path), dial(t, r.path)
	rd, wr := pipe(t)
	defer unix.Close(rd)
	e := &Entry{Name: "vol", Meta: []byte("one"), Device: []int{wr}, Memory: []int{rd, rd}}
	if err := a.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(wr)
	if err := a.Put(t.Context(), &Entry{Name: "vol"}); !errors.Is(err, ErrExists) {
		t.Errorf("a second put: %v", err)
	}
	if err := a.UpdateMeta(t.Context(), "vol", []byte("two")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "vol"); !errors.Is(err, ErrOwned) {
		t.Errorf("an owned entry was given away: %v", err)
	}
	for what, err := range map[string]error{
		"drop": b.Drop(t.Context(), "vol"), "update": b.UpdateMeta(t.Context(), "vol", nil),
	} {
		if !errors.Is(err, ErrNotOwner) {
			t.Errorf("%s of somebody else's entry: %v", what, err)
		}
	}
	_ = a.Close()
	got := getWhenFree(t, b, "vol")
	if string(got.Meta) != "two" || len(got.Device) != 1 || len(got.Memory) != 2 || got.State != Owned {
		t.Fatalf("got %+v", got)
	}
	if _, err := unix.Write(got.Device[0], []byte("x")); err != nil {
		t.Error("the descriptor came back dead: ", err)
	}
	got.Close()
	if l, err := b.List(t.Context()); err != nil || len(l) != 1 || l[0] != (Listed{"vol", Owned}) {
		t.Errorf("list: %v, %v", l, err)
	}
	if err := b.Drop(t.Context(), "vol"); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(rd, make([]byte, 2)); n != 1 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	if n, err := unix.Read(rd, make([]byte, 2)); n != 0 || err != nil {
		t.Errorf("a dropped entry's descriptor is still open: %d, %v", n, err)
	}
	if _, err := b.Get(t.Context(), "vol"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a dropped entry: %v", err)
	}
}

// The watchdog closes what ends the device and keeps the memory; it spares an owned entry.
func TestWatchdog(t *testing.T) {
	r := start(t)
	a, b := dial(t, r.path), dial(t, r.path)
	rd, wr := pipe(t)
	defer unix.Close(rd)
	mr, mw := pipe(t)
	defer unix.Close(mw)
	if err := a.Put(t.Context(), &Entry{Name: "left", Device: []int{wr}, Memory: []int{mr}}); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(wr)
	_ = unix.Close(mr)
	if err := b.Put(t.Context(), &Entry{Name: "owned"}); err != nil {
		t.Fatal(err)
	}
	for range 2 * ticksPerPatience { // nobody has left
		r.ticks <- time.Time{}
	}
	_ = a.Close()
	getWhenFree(t, b, "left").Close() // the count starts again with each loss of an owner
	_ = b.Close()
	c := dial(t, r.path)
	getWhenFree(t, c, "owned").Close()
	for n := 1; ; n++ {
		select {
		case r.ticks <- time.Time{}:
			continue
		case name := <-r.ended:
			if name != "left" {
				t.Fatalf("%s was ended", name)
			}
			if n < ticksPerPatience {
				t.Errorf("ended after %d ticks", n)
			}
		}
		break
	}
	if n, err := unix.Read(rd, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("the device's descriptor is still open: %d, %v", n, err)
	}
	e, err := c.Get(t.Context(), "left")
	if err != nil || e.State != Ended || len(e.Device) != 0 || len(e.Memory) != 1 {
		t.Fatalf("an ended entry: %+v, %v", e, err)
	}
	e.Close()
}

func TestEndTellsClients(t *testing.T) {
	r := start(t)
	c := dial(t, r.path)
	gone := make(chan error, 1)
	go func() { gone <- Gone(t.Context(), r.path) }()
	for greeted := 0; greeted < 2; { // both clients are in
		greeted = 0
		r.s.mu.Lock()
		for x := range r.s.open {
			if x.version.Load() != 0 {
				greeted++
			}
		}
		r.s.mu.Unlock()
		runtime.Gosched()
	}
	r.stop()
	if err := <-gone; err != nil {
		t.Error(err)
	}
	if err := c.Put(t.Context(), &Entry{Name: "x"}); err == nil {
		t.Error("a put to a holder that has ended succeeded")
	}
}

func TestLimits(t *testing.T) {
	r := start(t)
	c := dial(t, r.path)
	rd, wr := pipe(t)
	defer unix.Close(rd)
	defer unix.Close(wr)
	many := make([]int, MaxFDs+1)
	for i := range many {
		many[i] = rd
	}
	for name, e := range map[string]*Entry{
		"no name":              {},
		"long name":            {Name: strings.Repeat("n", MaxName+1)},
		"long meta":            {Name: "n", Meta: make([]byte, MaxMeta+1)},
		"too many descriptors": {Name: "n", Device: many},
	} {
		if err := c.Put(t.Context(), e); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Put(t.Context(), &Entry{Name: strings.Repeat("n", MaxName), Meta: make([]byte, MaxMeta), Device: many[:MaxFDs]}); err != nil {
		t.Errorf("at the limits: %v", err)
	}
}

// A client that breaks the protocol is cut off, leaks no descriptor into the holder and harms nobody else.
func TestBadClients(t *testing.T) {
	r := start(t)
	good := dial(t, r.path)
	if err := good.Put(t.Context(), &Entry{Name: "good"}); err != nil {
		t.Fatal(err)
	}
	hello := append(binary.LittleEndian.AppendUint16(nil, MinVersion), MaxVersion, 0)
	for name, c := range map[string]struct {
		hello []byte
		t     frameType
		body  []byte
		want  error
	}{
		"no hello":        {nil, tList, nil, ErrProtocol},
		"future version":  {[]byte{9, 0, 9, 0}, tList, nil, ErrVersion},
		"short hello":     {[]byte{1}, tList, nil, ErrProtocol},
		"unknown frame":   {hello, 77, nil, ErrProtocol},
		"long frame":      {hello, tPut, make([]byte, MaxFrame+1), ErrLimit},
		"bad entry":       {hello, tPut, []byte{5, 'x'}, ErrProtocol},
		"fds not counted": {hello, tPut, appendEntry(nil, &Entry{Name: "x"}), ErrProtocol},
		"empty get":       {hello, tGet, nil, ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			rd, wr := pipe(t)
			defer unix.Close(rd)
			conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: r.path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			got := tHi
			var body []byte
			if c.hello != nil {
				if err := writeFrame(conn, tHello, c.hello, nil); err != nil {
					t.Fatal(err)
				}
				if got, body, _, err = readFrame(conn, MaxFrame); err != nil {
					t.Fatal(err)
				}
			}
			if got == tHi {
				if err := writeFrame(conn, c.t, c.body, []int{wr}); err != nil && !errors.Is(err, unix.EPIPE) {
					t.Fatal(err)
				}
				if got, body, _, err = readFrame(conn, MaxFrame); err != nil {
					t.Fatal(err)
				}
			}
			if err := parseError(body); got != tError || !errors.Is(err, c.want) {
				t.Errorf("answer %d: %v, want %v", got, err, c.want)
			}
			_ = conn.Close()
			_ = unix.Close(wr)
			for { // end of file comes with the holder's last copy
				n, err := unix.Read(rd, make([]byte, 1))
				if n == 0 && err == nil {
					break
				}
				if !errors.Is(err, unix.EAGAIN) {
					t.Fatal(n, err)
				}
			}
		})
	}
	if err := good.UpdateMeta(t.Context(), "good", []byte("m")); err != nil {
		t.Error("another client suffered: ", err)
	}
}

func TestSocketErrors(t *testing.T) {
	r := start(t)
	if err := Run(t.Context(), Options{Socket: r.path}); !errors.Is(err, socket.ErrPathInUse) {
		t.Errorf("a second holder: %v", err)
	}
	long := "/tmp/" + strings.Repeat("x", socket.MaxPath)
	if err := Run(t.Context(), Options{Socket: long}); !errors.Is(err, socket.ErrPathTooLong) {
		t.Errorf("a long path: %v", err)
	}
	if _, err := Dial(t.Context(), long); !errors.Is(err, socket.ErrPathTooLong) {
		t.Errorf("dial of a long path: %v", err)
	}
}

// The frames are as the package comment draws them.
func TestGolden(t *testing.T) {
	e := &Entry{Name: "vol", Meta: []byte{0xaa, 0xbb}, Conn: 0x01020304, Device: []int{7}, Memory: []int{8, 9}, State: Ended}
	got := fmt.Sprintf("%x\n", appendEntry(nil, e))
	want, err := os.ReadFile("testdata/entry.golden")
	if err != nil || got != string(want) {
		t.Errorf("entry is %swant %s(%v)", got, want, err)
	}
	back, err := parseEntry(appendEntry(nil, e), []int{7, 8, 9})
	if err != nil || back.Name != "vol" || back.Conn != e.Conn || back.State != Ended || back.Memory[1] != 9 {
		t.Errorf("decoded %+v, %v", back, err)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(appendEntry(nil, &Entry{Name: "vol", Meta: []byte("meta")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b, nil)
		if err != nil {
			return
		}
		if got := appendEntry(nil, e); string(got) != string(b) {
			t.Errorf("%x decodes and encodes to %x", b, got)
		}
		_ = parseError(b)
		_, _, _ = cutName(b)
	})
}
