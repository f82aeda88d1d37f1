package device

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
)

// The test binary runs itself as the server that is killed, told by this variable what to do:
//
//	serve        serve, or follow a killed server
//	no-holder    serve, and leave nothing to the holder
//	hold-before  serve, and never accept a write below 1 MiB
//	hold-after   serve, accept the first write below 1 MiB and never answer it
//	amnesia      follow a killed server without knowing its requests again
//	no-resend    follow a killed server without having requests sent again
//	mounter      be the privileged mounter instead
//	holder       be the holder instead
//	io_uring     serve with FUSE over io_uring
//
// It prints "ready PATH", and "held" when a write is held.
const childMode = "EXPORT_TEST_CHILD"

// testTransport is the transport of the tests' devices, if they are to have another one than the chosen one: make test-vm sets it.
const testTransport = "EXPORT_TEST_TRANSPORT"

// childMounter has the path of the mounter's socket, if the child is to use one.
const childMounter = "EXPORT_TEST_MOUNTER"

const (
	mib     = 1 << 20
	volSize = 64 * mib
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		if err := child(mode, os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child serves until its standard input says that it should close the device.
func child(mode, socket, dir string) error {
	ctx := context.Background()
	switch mode {
	case "mounter":
		return serveMounter(ctx, os.Getenv(childMounter), dir)
	case "holder":
		return serveHolder(ctx, socket)
	}
	h, err := holder.Dial(ctx, socket)
	if err != nil {
		return err
	}
	var m Mounter = mounter.New(dir)
	if path := os.Getenv(childMounter); path != "" {
		if m, err = mounter.Dial(path); err != nil {
			return err
		}
	}
	d, err := serve(ctx, mode, h, m)
	if err != nil {
		return err
	}
	fmt.Println("ready", d.Path())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return d.Close(ctx)
}

func serve(ctx context.Context, mode string, h *holder.Client, mnt Mounter) (*Device, error) {
	kept, err := Recover(ctx, h, mnt, "vol")
	if errors.Is(err, holder.ErrNotFound) {
		m, err := exporttest.NewMemory(volSize, volSize)
		if err != nil {
			return nil, err
		}
		setMode(m, mode)
		o := Options{Mounter: mnt, Name: "vol", Keeper: h, Memory: []int{m.FD()}, Fuse: fuse.Options{Transport: fuse.Transport(os.Getenv(testTransport))}}
		switch mode {
		case "no-holder":
			o.Keeper = nil
			if o.Fuse.Transport == "" {
				o.Fuse.Transport = fuse.DevFuse
			}
		case "io_uring":
			o.Fuse.Transport = fuse.Uring
		}
		return Attach(ctx, m, o)
	}
	if err != nil {
		return nil, err
	}
	m, err := exporttest.OpenMemory(kept.Memory[0])
	if err != nil {
		return nil, err
	}
	setMode(m, mode)
	if mode != "no-resend" {
		return kept.Resume(m, fuse.Options{})
	}
	s := fuse.New(kept.device[0], kept.m.Conn, m, fuse.Options{})
	return &Device{path: kept.m.Path}, s.Start()
}

func setMode(m *exporttest.Memory, mode string) {
	m.SetAmnesia(mode == "amnesia")
	op := map[string]exporttest.Op{"hold-before": exporttest.OpWrite, "hold-after": exporttest.OpAccepted}
	want, ok := op[mode]
	if !ok {
		return
	}
	first := make(chan struct{}, 1)
	first <- struct{}{}
	m.SetHook(func(op exporttest.Op, off, _ int64) error {
		if op != want || off >= mib {
			return nil
		}
		select {
		case <-first:
			fmt.Println("held")
			select {}
		default:
			return nil
		}
	})
}

// server is a child process.
type server struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	path  string
	held  int // writes that were reported held before the server was ready
}

// rig is a holder and what its servers need.
type rig struct {
	tb      testing.TB
	socket  string
	dir     string
	mounter *mounter.Local
	env     []string // of the servers
	ticks   chan time.Time
	ended   chan string
	stop    func() // ends the holder
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	tmp := tb.TempDir()
	r := &rig{
		tb: tb, socket: filepath.Join(tmp, "h", "s"), dir: filepath.Join(tmp, "d"),
		ticks: make(chan time.Time), ended: make(chan string, 1),
	}
	r.mounter = mounter.New(r.dir)
	s, err := holder.NewServer(holder.Options{
		Socket: r.socket, Ticks: r.ticks, End: End, Ended: func(name string, err error) {
			if err != nil {
				tb.Error(err)
			}
			r.ended <- name
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() {
		r.stop()
		if err := Cleanup(context.Background(), nil, r.mounter, "vol"); err != nil {
			tb.Error(err)
		}
	})
	return r
}

func (r *rig) start(mode string) *server { return r.startAs(mode, nil) }

func (r *rig) startAs(mode string, as *syscall.SysProcAttr) *server {
	r.tb.Helper()
	cmd := exec.Command("/proc/self/exe", r.socket, r.dir) // which every user may run
	cmd.SysProcAttr = as
	cmd.Env = append(append(os.Environ(), r.env...), childMode+"="+mode)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		r.tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.tb.Fatal(err)
	}
	s := &server{cmd: cmd, in: in, lines: bufio.NewScanner(out)}
	r.tb.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for s.path == "" {
		if path, ok := strings.CutPrefix(s.line(r.tb), "ready "); ok {
			s.path = path
		} else {
			s.held++
		}
	}
	return s
}

// waitHeld waits for the server to hold a write.
func (s *server) waitHeld(tb testing.TB) {
	tb.Helper()
	if s.held > 0 {
		s.held--
		return
	}
	if got := s.line(tb); got != "held" {
		tb.Fatal(got)
	}
}

func (s *server) line(tb testing.TB) string {
	tb.Helper()
	if !s.lines.Scan() {
		tb.Fatal("the server ended: ", s.lines.Err())
	}
	return s.lines.Text()
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// end has the server close the device.
func (s *server) end(tb testing.TB) {
	tb.Helper()
	_ = s.in.Close()
	if err := s.cmd.Wait(); err != nil {
		tb.Error("the server did not close its device: ", err)
	}
}

func (r *rig) disk(path string) *exporttest.BlockDevice {
	r.tb.Helper()
	d, err := exporttest.OpenBlockDevice(path)
	if err != nil {
		r.tb.Fatal(err)
	}
	return d
}

// page is a block full of c.
func page(c byte) []byte {
	p := exporttest.Aligned(export.BlockSize)
	for i := range p {
		p[i] = c
	}
	return p
}

func writeLater(d *exporttest.BlockDevice, c byte, off int64) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := d.WriteAt(page(c), off)
		done <- err
	}()
	return done
}

// read returns the first byte of the block at off.
func readByte(tb testing.TB, d *exporttest.BlockDevice, off int64) byte {
	tb.Helper()
	p := page(0)
	if _, err := d.ReadAt(p, off); err != nil {
		tb.Fatal(err)
	}
	return p[0]
}

// A request that the killed server had read is sent again to the next one, however often that is killed.
func TestKilledBeforeAccepting(t *testing.T) {
	r := newRig(t)
	s := r.start("hold-before")
	d := r.disk(s.path)
	done := writeLater(d, 'a', 0)
	for range 3 {
		s.waitHeld(t)
		s.kill()
		s = r.start("hold-before")
	}
	s.kill()
	s = r.start("serve")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := readByte(t, d, 0); got != 'a' {
		t.Errorf("read %q", got)
	}
	_ = d.Close()
	s.end(t)
}

// A request that was accepted but not answered is answered by the next server and not applied over a newer write.
func TestKilledBeforeAnswering(t *testing.T) {
	for next, want := range map[string]byte{
		"serve":   'b',
		"amnesia": 'a', // the control: applied again, it undoes an acknowledged write
	} {
		t.Run(next, func(t *testing.T) {
			r := newRig(t)
			s := r.start("hold-after")
			d := r.disk(s.path)
			done := writeLater(d, 'a', 0)
			s.waitHeld(t)
			if err := <-writeLater(d, 'b', 0); err != nil {
				t.Fatal(err)
			}
			s.kill()
			s = r.start(next)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if got := readByte(t, d, 0); got != want {
				t.Errorf("read %q, want %q", got, want)
			}
			_ = d.Close()
			s.end(t)
		})
	}
}

// Nothing hangs for ever: without a server, and also with one that does not have requests sent again, the watchdog ends the device.
func TestWatchdogEnds(t *testing.T) {
	nexts := []string{"", "no-resend"}
	if os.Getenv(testTransport) == string(Ublk) {
		nexts = nexts[:1] // there, the kernel sends them again without being told
	}
	for _, next := range nexts {
		t.Run(next, func(t *testing.T) {
			r := newRig(t)
			s := r.start("hold-before")
			d := r.disk(s.path)
			defer d.Close()
			done := writeLater(d, 'a', 0)
			s.waitHeld(t)
			s.kill()
			if next != "" {
				s = r.start(next)
				if err := <-writeLater(d, 'b', 2*mib); err != nil { // new requests are served, the old one hangs
					t.Fatal(err)
				}
				s.kill()
			}
			select {
			case err := <-done:
				t.Fatalf("the write ended by itself: %v", err)
			default:
			}
			r.expire("vol")
			if err := <-done; !errors.Is(err, unix.EIO) {
				t.Errorf("the write ended with %v, want EIO", err)
			}
			r.checkEnded()
		})
	}
}

// expire ticks until the watchdog has ended name. The kill may be noticed after the first ticks.
func (r *rig) expire(name string) {
	r.tb.Helper()
	for {
		select {
		case r.ticks <- time.Time{}:
		case got := <-r.ended:
			if got != name {
				r.tb.Fatalf("the watchdog ended %s", got)
			}
			return
		}
	}
}

// checkEnded requires that an ended device gives its memory and is not served again.
func (r *rig) checkEnded() {
	r.tb.Helper()
	ctx := context.Background()
	h, err := holder.Dial(ctx, r.socket)
	if err != nil {
		r.tb.Fatal(err)
	}
	defer h.Close()
	kept, err := Recover(ctx, h, r.mounter, "vol")
	if err != nil {
		r.tb.Fatal(err)
	}
	if !kept.Ended || len(kept.Memory) != 1 {
		r.tb.Errorf("after the end: ended %v, %d memories", kept.Ended, len(kept.Memory))
	}
	if _, err := kept.Resume(nil, fuse.Options{}); !errors.Is(err, export.ErrGone) {
		r.tb.Errorf("an ended device was resumed: %v", err)
	}
	kept.Release()
}

// With io_uring a device ends with its server, as nobody could go on with it: what waits fails at once instead of hanging until
// the watchdog comes. What was acknowledged is in the memory that the holder has, and the place is free again.
func TestUringEndsWithServer(t *testing.T) {
	exporttest.NeedUring(t)
	r := newRig(t)
	s := r.start("io_uring")
	d := r.disk(s.path)
	if err := <-writeLater(d, 'a', 0); err != nil {
		t.Fatal(err)
	}
	s.kill()
	if err := <-writeLater(d, 'b', 0); !errors.Is(err, unix.EIO) {
		t.Errorf("a write without a server ended with %v, want EIO", err)
	}
	_ = d.Close()
	r.checkEnded()
	ctx := context.Background()
	h, err := holder.Dial(ctx, r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	kept, err := Recover(ctx, h, r.mounter, "vol")
	if err != nil {
		t.Fatal(err)
	}
	m, err := exporttest.OpenMemory(kept.Memory[0])
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Bytes()[0] != 'a' {
		t.Error("an acknowledged write is lost")
	}
	if err := Cleanup(ctx, h, r.mounter, "vol"); err != nil {
		t.Fatal(err)
	}
	s = r.start("io_uring")
	s.end(t)
}

// The control of the holder: without it the device ends with its server.
func TestKilledWithoutHolder(t *testing.T) {
	r := newRig(t)
	s := r.start("no-holder")
	d := r.disk(s.path)
	defer d.Close()
	if err := <-writeLater(d, 'a', 0); err != nil {
		t.Fatal(err)
	}
	s.kill()
	if err := <-writeLater(d, 'a', 0); err == nil {
		t.Error("a write succeeded with neither server nor holder")
	}
}
