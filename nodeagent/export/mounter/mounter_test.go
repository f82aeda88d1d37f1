package mounter_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/device"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/loop"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
	"mynetwork.io/mynetwork/nodeagent/export/socket"
)

const mib = 1 << 20

// rig is a mounter of either kind, and what it works on.
type rig struct {
	device.Mounter
	dir    string
	socket string // empty: none is served
}

// each runs f with both kinds of mounters.
func each(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Run("local", func(t *testing.T) {
		dir := t.TempDir()
		f(t, &rig{Mounter: mounter.New(dir), dir: dir})
	})
	t.Run("socket", func(t *testing.T) { f(t, newServed(t, uint32(os.Geteuid()))) })
}

func newServed(t *testing.T, user uint32) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), socket: filepath.Join(t.TempDir(), "m")}
	ln, err := socket.ListenFor(r.socket, os.Getegid())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s, err := mounter.NewServer(mounter.ServerOptions{Mounter: mounter.New(r.dir), Listener: ln, User: user})
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if r.Mounter, err = mounter.Dial(r.socket); err != nil {
		t.Fatal(err)
	}
	return r
}

// mount mounts a device and serves it.
func (r *rig) mount(t *testing.T, name string) (*exporttest.Memory, *fuse.Server) {
	t.Helper()
	m, err := r.Mount(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	vol := exporttest.Volume(t, mib)
	s := fuse.New(m.FD, [16]byte{1}, vol, fuse.Options{})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Discard(context.Background(), name); err != nil {
			t.Error(err)
		}
		<-s.Done()
		_ = unix.Close(m.FD)
	})
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return vol, s
}

func TestLife(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		vol, s := r.mount(t, "a.fuse")
		if _, err := r.Mount(ctx, "a.fuse"); !errors.Is(err, mounter.ErrMounted) {
			t.Errorf("a second mount: %v", err)
		}
		path, err := r.Bind(ctx, "a.fuse")
		if err != nil {
			t.Fatal(err)
		}
		if again, err := r.Bind(ctx, "a.fuse"); err != nil || again != path {
			t.Errorf("bound again: %q, %v; want %q", again, err, path)
		}
		conn, err := fuse.ConnOf(filepath.Join(r.dir, "a.fuse"))
		if err != nil {
			t.Fatal(err)
		}
		if l, err := r.List(ctx); err != nil || len(l) != 1 || l[0] != (mounter.Found{Name: "a.fuse", Conn: conn, Loop: path}) {
			t.Errorf("list: %+v, %v", l, err)
		}
		vol.Grow(2 * mib)
		if err := s.InvalidateSize(); err != nil {
			t.Fatal(err)
		}
		if n, err := r.Resize(ctx, "a.fuse"); err != nil || n != 2*mib {
			t.Errorf("resized to %d, %v", n, err)
		}
		if err := r.Unmount(ctx, "a.fuse"); !errors.Is(err, export.ErrBusy) {
			t.Errorf("unmount while bound: %v", err)
		}
		for range 2 {
			if err := errors.Join(r.Unbind(ctx, "a.fuse"), r.Unmount(ctx, "a.fuse")); err != nil {
				t.Fatal(err)
			}
		}
		<-s.Done()
		if l, err := r.List(ctx); err != nil || len(l) != 0 {
			t.Errorf("list at the end: %+v, %v", l, err)
		}
		if left, err := os.ReadDir(r.dir); err != nil || len(left) != 1 { // the directory of records
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

// What is in use is not ended, whoever asks, and goes on.
func TestBusy(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		r.mount(t, "a")
		path, err := r.Bind(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0) // as a mount does
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Unbind(ctx, "a"); !errors.Is(err, export.ErrBusy) {
			t.Errorf("unbind of a claimed device: %v", err)
		}
		p := exporttest.Aligned(export.BlockSize)
		if _, err := unix.Pread(fd, p, 0); err != nil {
			t.Errorf("after it was refused: %v", err)
		}
		if err := r.Abort(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if err := r.Discard(ctx, "a"); !errors.Is(err, export.ErrBusy) {
			t.Errorf("discard of a claimed device: %v", err)
		}
		_ = unix.Close(fd)
		if err := r.Discard(ctx, "a"); err != nil {
			t.Error(err)
		}
	})
}

// No name leads out of the directory, and what does not exist is told or is fine.
func TestNames(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc", ".hidden", ".loops", "a\x00b", strings.Repeat("x", mounter.MaxName+1)} {
			for what, f := range calls(ctx, r, name) {
				if err := f(); !errors.Is(err, mounter.ErrName) {
					t.Errorf("%s of %q: %v", what, name, err)
				}
			}
		}
		want := map[string]error{"bind": fuse.ErrNotMounted, "resize": fuse.ErrNotMounted}
		for what, f := range calls(ctx, r, "none") {
			if what == "mount" {
				continue
			}
			if err := f(); !errors.Is(err, want[what]) {
				t.Errorf("%s of nothing: %v, want %v", what, err, want[what])
			}
		}
	})
}

func calls(ctx context.Context, r *rig, name string) map[string]func() error {
	return map[string]func() error{
		"mount": func() error {
			m, err := r.Mount(ctx, name)
			if err == nil {
				_ = unix.Close(m.FD)
			}
			return err
		},
		"bind":    func() error { _, err := r.Bind(ctx, name); return err },
		"resize":  func() error { _, err := r.Resize(ctx, name); return err },
		"unbind":  func() error { return r.Unbind(ctx, name) },
		"unmount": func() error { return r.Unmount(ctx, name) },
		"abort":   func() error { return r.Abort(ctx, name) },
		"discard": func() error { return r.Discard(ctx, name) },
	}
}

// A place that is a symbolic link is not followed: nothing is mounted where it leads.
func TestSymlink(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		elsewhere := t.TempDir()
		if err := os.Symlink(elsewhere, filepath.Join(r.dir, "a")); err != nil {
			t.Fatal(err)
		}
		if m, err := r.Mount(t.Context(), "a"); !errors.Is(err, mounter.ErrName) {
			_ = unix.Close(m.FD)
			t.Errorf("a mount through a symbolic link: %v", err)
		}
		if _, err := fuse.ConnOf(elsewhere); !errors.Is(err, fuse.ErrNotMounted) {
			t.Errorf("where it leads: %v", err)
		}
		_ = unix.Unmount(elsewhere, unix.MNT_DETACH)
	})
}

// A server of a device that answers nothing holds up nobody for longer than the call says.
func TestSilent(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		m, err := r.Mount(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(m.FD)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if path, err := r.Bind(ctx, "a"); err == nil {
			t.Errorf("%s is bound to a file that nobody serves", path)
		}
		if err := r.Discard(t.Context(), "a"); err != nil {
			t.Error(err)
		}
	})
}

// A record of a device that was bound anew since names nobody.
func TestStaleRecord(t *testing.T) {
	dir := t.TempDir()
	r := &rig{Mounter: mounter.New(dir), dir: dir}
	r.mount(t, "a")
	path, err := r.Bind(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, ".loops", "a")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Unbind(t.Context(), "a"), r.Unmount(t.Context(), "a")); err != nil {
		t.Fatal(err)
	}
	other := &rig{Mounter: mounter.New(t.TempDir())}
	other.mount(t, "b")
	now, err := other.Bind(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Replace(raw, []byte(`"`+path+`"`), []byte(`"`+now+`"`), 1)
	for name, content := range map[string][]byte{"of another binding": raw, "of another version": []byte(`{"Version":9}`), "broken": []byte("{")} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := r.List(t.Context()); err != nil || len(l) != 0 {
			t.Errorf("%s: list %+v, %v", name, l, err)
		}
		if err := r.Discard(t.Context(), "a"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b, err := loop.Look(now); err != nil || b.File == "" {
		t.Errorf("the device of another was ended: %+v, %v", b, err)
	}
}

// A mounter that was killed before it recorded a loop device finds it. One whose file lies elsewhere, but looks the same, as those of
// other mount namespaces do, is left alone.
func TestNoRecord(t *testing.T) {
	dir := t.TempDir()
	r := &rig{Mounter: mounter.New(dir), dir: dir}
	under := filepath.Join(dir, "a", "volume")
	if err := errors.Join(os.Mkdir(filepath.Dir(under), 0o700), os.WriteFile(under, make([]byte, mib), 0o600)); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(under, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	path, err := loop.Attach(fd, under)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := loop.Look(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(loop.Detach(context.Background(), foreign), os.RemoveAll(filepath.Join(dir, "a"))); err != nil {
			t.Error(err)
		}
	})
	m, err := r.Mount(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(m.FD)
	s := fuse.New(m.FD, [16]byte{1}, exporttest.Volume(t, mib), fuse.Options{})
	if err := errors.Join(s.Start(), s.Ready(t.Context())); err != nil {
		t.Fatal(err)
	}
	mine, err := r.Bind(t.Context(), "a")
	if err != nil || mine == path {
		t.Fatalf("bound %s, %v; the other one is %s", mine, err, path)
	}
	if err := os.Remove(filepath.Join(dir, ".loops", "a")); err != nil {
		t.Fatal(err)
	}
	if l, err := r.List(t.Context()); err != nil || len(l) != 1 || l[0].Loop != mine {
		t.Errorf("list %+v, %v; want %s", l, err, mine)
	}
	if err := r.Unbind(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if now, err := loop.Look(path); err != nil || now != foreign {
		t.Errorf("the other one was ended: %+v, %v", now, err)
	}
	if b, err := loop.Look(mine); err != nil || b.File == under {
		t.Errorf("%s is still bound: %+v, %v", mine, b, err)
	}
	_ = unix.Unmount(filepath.Join(dir, "a"), unix.MNT_FORCE)
	<-s.Done()
}

// A server that starts removes what ended devices left, and nothing of live ones or of others.
func TestTidy(t *testing.T) {
	dir := t.TempDir()
	r := &rig{Mounter: mounter.New(dir), dir: dir}
	r.mount(t, "live")
	path, err := r.Bind(t.Context(), "live")
	if err != nil {
		t.Fatal(err)
	}
	stale := []byte(`{"Version":1,"Path":"` + path + `","Sequence":1}`)
	for name, content := range map[string][]byte{".loops/ended": stale, ".loops/gone": stale, "ended": nil, "foreign": nil, "foreign/file": {1}} {
		at := filepath.Join(dir, name)
		if content == nil {
			err = os.Mkdir(at, 0o700)
		} else {
			defer func() { _ = os.Remove(at) }()
			if err = os.MkdirAll(filepath.Dir(at), 0o700); err == nil || errors.Is(err, os.ErrExist) {
				err = os.WriteFile(at, content, 0o600)
			}
		}
		if err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	if _, err := mounter.NewServer(mounter.ServerOptions{Mounter: mounter.New(dir)}); err != nil {
		t.Fatal(err)
	}
	for name, is := range map[string]bool{"ended": false, ".loops/ended": false, ".loops/gone": false, "foreign/file": true, ".loops/live": true} {
		if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != is {
			t.Errorf("%s is there: %v, want %v", name, err == nil, is)
		}
	}
	if l, err := r.List(t.Context()); err != nil || len(l) != 1 || l[0].Loop != path {
		t.Errorf("list %+v, %v", l, err)
	}
}

// Bad clients harm only themselves, and strangers are not served.
func TestBadClients(t *testing.T) {
	r := newServed(t, uint32(os.Geteuid()))
	for name, frames := range map[string][][]byte{
		"no hello":       {frame(2, append([]byte{0, 0, 0, 0, 1}, 'a'))},
		"short hello":    {frame(1, []byte{1})},
		"other versions": {frame(1, []byte{9, 0, 9, 0})},
		"two hellos":     {frame(1, []byte{1, 0, 1, 0}), frame(1, []byte{1, 0, 1, 0})},
		"unknown":        {frame(1, []byte{1, 0, 1, 0}), frame(77, append([]byte{0, 0, 0, 0, 1}, 'a'))},
		"short name":     {frame(1, []byte{1, 0, 1, 0}), frame(2, []byte{0, 0, 0, 0, 9, 'a'})},
		"trailing bytes": {frame(1, []byte{1, 0, 1, 0}), frame(2, []byte{0, 0, 0, 0, 1, 'a', 'b'})},
		"long frame":     {frame(1, []byte{1, 0, 1, 0}), {0xff, 0xff, 0xff, 0x7f, 2, 0, 0, 0}},
	} {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: r.socket, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		last := uint8(0)
		for _, f := range frames {
			if _, err := c.Write(f); err != nil {
				break
			}
			got, _, fds, err := socket.Receive(c, 4096, 1)
			socket.CloseAll(fds)
			if err != nil {
				break
			}
			last = got
		}
		if last != 255 {
			t.Errorf("%s: the last answer is of type %d, want an error", name, last)
		}
		_ = c.Close()
	}
	if l, err := r.List(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("after them: %v, %v", l, err)
	}
}

func frame(t byte, body []byte) []byte {
	return append([]byte{byte(len(body)), 0, 0, 0, t, 0, 0, 0}, body...)
}

// Without a server, calls say what to look for; a server that comes later is found.
func TestAway(t *testing.T) {
	c, err := mounter.Dial(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Mount(ctx, "a"); !errors.Is(err, mounter.ErrAway) {
		t.Errorf("got %v", err)
	}
}
