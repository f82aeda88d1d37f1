package fuse

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// The test binary runs itself as a server that is killed, told by this variable what to do:
//
//	serve TRANSPORT    serve a new connection
//	hold TRANSPORT     serve a new connection, and keep each write below 1 MiB waiting
//	follow TRANSPORT   serve a connection that a killed server has left, having requests sent again
//
// Descriptor 3 is /dev/fuse, 4 the volume's memory; it prints "ready", and "held" for each write that waits.
const childMode = "FUSE_TEST_CHILD"

const mib = 1 << 20

func TestMain(m *testing.M) {
	if mode, transport, ok := strings.Cut(os.Getenv(childMode), " "); ok {
		if err := child(mode, Transport(transport)); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(mode string, t Transport) error {
	m, err := exporttest.OpenMemory(4)
	if err != nil {
		return err
	}
	s := New(3, [16]byte{1}, m, Options{Transport: t})
	switch mode {
	case "follow":
		err = follow(s)
	case "hold":
		m.SetHook(func(op exporttest.Op, off, _ int64) error {
			if op == exporttest.OpWrite && off < mib {
				fmt.Println("held")
				select {}
			}
			return nil
		})
		fallthrough
	default:
		err = s.Start()
	}
	if err != nil {
		return err
	}
	<-s.ready
	if got, err := s.Transport(); got != t {
		return fmt.Errorf("transport %s, not %s: %w", got, t, err)
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// follow is Resume, and with Uring all that the kernel's interface has: NOTIFY_RESEND, what then comes over /dev/fuse, and
// new entries for each queue.
func follow(s *Server) error {
	if s.opt.Transport != Uring {
		return s.Resume()
	}
	readers, err := s.newReaders()
	if err == nil {
		err = s.readResent(readers[0])
	}
	if err == nil {
		err = s.startRings()
	}
	if err != nil {
		return err
	}
	s.initialised(true)
	s.run(readers)
	return nil
}

// needUring skips a test that takes FUSE over io_uring, or turns the kernel's switch on for as long as the test runs where
// the environment says that it may: MYNETWORK_TEST_URING=1. Connections that exist are not touched by the switch.
func needUring(tb testing.TB) {
	tb.Helper()
	exporttest.NeedUring(tb)
	if err := OffersUring(); err != nil {
		tb.Fatal(err)
	}
}

// killed is a mount whose servers are children, and whose descriptors this process holds.
type killed struct {
	t    *testing.T
	dir  string
	fd   int
	file int // the volume's file
	m    *exporttest.Memory
	cmd  *exec.Cmd
	out  *bufio.Scanner
}

func newKilled(t *testing.T) *killed {
	t.Helper()
	k := &killed{t: t, dir: filepath.Join(t.TempDir(), "vol"), m: exporttest.Volume(t, 4*mib)}
	if err := os.Mkdir(k.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	if k.fd, err = Mount(k.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Abort(k.dir); err != nil {
			t.Error(err)
		}
		_ = unix.Close(k.file)
		_ = unix.Close(k.fd)
		if err := Unmount(k.dir, true); err != nil {
			t.Error(err)
		}
	})
	return k
}

func (k *killed) start(mode string, tr Transport) {
	k.t.Helper()
	k.cmd = exec.Command(os.Args[0])
	k.cmd.Env = append(os.Environ(), childMode+"="+mode+" "+string(tr))
	k.cmd.Stderr = os.Stderr
	k.cmd.ExtraFiles = []*os.File{k.dup(k.fd), k.dup(k.m.FD())}
	if _, err := k.cmd.StdinPipe(); err != nil {
		k.t.Fatal(err)
	}
	out, err := k.cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	cmd := k.cmd
	k.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for _, f := range k.cmd.ExtraFiles {
		_ = f.Close()
	}
	k.out = bufio.NewScanner(out)
	k.line("ready")
}

// dup is a descriptor that the os package may own.
func (k *killed) dup(fd int) *os.File {
	k.t.Helper()
	c, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		k.t.Fatal(err)
	}
	return os.NewFile(uintptr(c), "descriptor")
}

func (k *killed) line(want string) {
	k.t.Helper()
	if !k.out.Scan() || k.out.Text() != want {
		k.t.Fatalf("the server said %q, not %q: %v", k.out.Text(), want, k.out.Err())
	}
}

func (k *killed) kill() {
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
}

// open opens the volume's file, without package os.
func (k *killed) open() {
	k.t.Helper()
	var err error
	if k.file, err = unix.Open(filepath.Join(k.dir, FileName), unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0); err != nil {
		k.t.Fatal(err)
	}
}

// write writes a page from a thread on one CPU, so that its queue is known.
func (k *killed) write(cpu int, c byte, off int64) <-chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good
		var set unix.CPUSet
		set.Set(cpu)
		err := unix.SchedSetaffinity(0, &set)
		if err == nil {
			p := exporttest.Aligned(pageSize)
			p[0] = c
			_, err = unix.Pwrite(k.file, p, off)
		}
		done <- err
	}()
	return done
}

// What the kernel does with a request that a killed server had: over /dev/fuse it is sent again, over io_uring it is not,
// although the connection goes on. This is why io_uring is not chosen where a holder keeps devices. A kernel that sends such
// requests again fails this test: then the choice can be another one.
func TestKilledServer(t *testing.T) {
	for _, tr := range []Transport{DevFuse, Uring} {
		t.Run(string(tr), func(t *testing.T) {
			if tr == Uring {
				needUring(t)
			}
			k := newKilled(t)
			k.start("hold", tr)
			k.open()
			done := k.write(0, 'a', 0)
			k.line("held")
			k.kill()
			k.start("follow", tr)
			for cpu := range runtime.NumCPU() { // new requests are served, whatever their queue
				if err := <-k.write(cpu, 'b', 2*mib); err != nil {
					t.Fatal(err)
				}
			}
			if tr == DevFuse {
				if err := <-done; err != nil || k.m.Bytes()[0] != 'a' {
					t.Errorf("the write ended with %v", err)
				}
				return
			}
			select {
			case err := <-done:
				t.Fatalf("the write ended with %v: has the kernel learned to send it again?", err)
			default:
			}
			if err := Abort(k.dir); err != nil {
				t.Fatal(err)
			}
			if err := <-done; !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ECONNABORTED) {
				t.Errorf("after the abort the write ended with %v", err)
			}
		})
	}
}

// load is many writers at once.
type load struct {
	wg       sync.WaitGroup
	done     atomic.Int64 // writes
	stop     atomic.Bool
	canceled atomic.Int64 // writers that ended with ECANCELED
	err      atomic.Pointer[error]
}

func (k *killed) load() *load {
	l := &load{}
	for i := range int64(32) {
		l.wg.Go(func() {
			p := exporttest.Aligned(pageSize)
			for !l.stop.Load() {
				if _, err := unix.Pwrite(k.file, p, mib+i*pageSize); err != nil {
					l.err.Store(&err)
					if errors.Is(err, unix.ECANCELED) {
						l.canceled.Add(1)
					}
					return
				}
				l.done.Add(1)
			}
		})
	}
	return l
}

// wait waits until n writes have succeeded, or one has failed.
func (l *load) wait(n int64) {
	for l.done.Load() < n && l.err.Load() == nil {
		runtime.Gosched()
	}
}

// A kill under load is a pause over /dev/fuse. Over io_uring the kernel fails at once what it was about to give to the dying
// threads, so that no next server, however clever, could save it.
func TestKilledUnderLoad(t *testing.T) {
	const some = 2000
	t.Run(string(DevFuse), func(t *testing.T) {
		k := newKilled(t)
		k.start("serve", DevFuse)
		k.open()
		l := k.load()
		for range 10 {
			l.wait(l.done.Load() + some)
			k.kill()
			k.start("follow", DevFuse)
		}
		l.wait(l.done.Load() + some)
		l.stop.Store(true)
		l.wg.Wait()
		if err := l.err.Load(); err != nil {
			t.Errorf("a write failed: %v", *err)
		}
	})
	t.Run(string(Uring), func(t *testing.T) {
		needUring(t)
		const kills = 40 // almost each of them cancels something
		for i := range kills {
			k := newKilled(t)
			k.start("serve", Uring)
			k.open()
			l := k.load()
			l.wait(some)
			k.kill()
			if err := Abort(k.dir); err != nil { // what was in entries would wait for ever
				t.Fatal(err)
			}
			l.wg.Wait()
			if n := l.canceled.Load(); n > 0 {
				t.Logf("kill %d: the kernel canceled %d writes", i, n)
				return
			}
		}
		t.Errorf("%d kills canceled nothing: has the kernel learned to keep such requests?", kills)
	})
}
