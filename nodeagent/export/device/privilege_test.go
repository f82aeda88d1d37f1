package device

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/export/loop"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
	"mynetwork.io/mynetwork/nodeagent/export/socket"
)

// agentUser is who serves devices in a cluster: nobody special.
const agentUser = 64646

// serveMounter is the child "mounter": it serves until it is killed.
func serveMounter(ctx context.Context, path, dir string) error {
	ln, err := socket.ListenFor(path, agentUser)
	if err != nil {
		return err
	}
	s, err := mounter.NewServer(mounter.ServerOptions{Mounter: mounter.New(dir), Listener: ln, User: agentUser})
	if err != nil {
		return err
	}
	fmt.Println("ready mounter")
	return s.Serve(ctx)
}

// serveHolder is the child "holder".
func serveHolder(ctx context.Context, path string) error {
	s, err := holder.NewServer(holder.Options{Socket: path})
	if err != nil {
		return err
	}
	fmt.Println("ready holder")
	return s.Serve(ctx)
}

// world is a rig whose mounter is privileged and in a mount namespace of its own, as in a container, and whose holder and
// servers are processes of a user without any capability.
type world struct {
	rig
	socket string // the mounter's
}

func newWorld(t *testing.T) *world {
	t.Helper()
	tmp, err := os.MkdirTemp("", "world")
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(tmp, "devices")
	must(os.Chmod(tmp, 0o711))
	for name, user := range map[string]int{"devices": 0, "mounter": 0, "holder": agentUser} {
		must(os.Mkdir(filepath.Join(tmp, name), 0o700))
		must(os.Chown(filepath.Join(tmp, name), user, agentUser))
	}
	must(os.Chmod(filepath.Join(tmp, "mounter"), 0o750))
	must(unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	must(unix.Mount("", dir, "", unix.MS_SHARED, ""))
	w := &world{
		rig:    rig{tb: t, socket: filepath.Join(tmp, "holder", "s"), dir: dir, mounter: mounter.New(dir)},
		socket: filepath.Join(tmp, "mounter", "s"),
	}
	w.env = []string{childMounter + "=" + w.socket}
	t.Cleanup(func() {
		if err := Cleanup(context.Background(), nil, w.mounter, "vol"); err != nil {
			t.Error(err)
		}
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = os.RemoveAll(tmp)
	})
	return w
}

// startMounter starts the privileged process.
func (w *world) startMounter() *server {
	return w.startAs("mounter", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL})
}

// startUser starts a process without privilege.
func (w *world) startUser(mode string) *server {
	return w.startAs(mode, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: agentUser, Gid: agentUser}})
}

// The server of a device needs no privilege, and neither its own kill, nor one of the mounter and the end of the mounter's mount
// namespace, is noticed by who uses the device. A mounter that was started anew finds what is there, and ends it in order.
func TestUnprivileged(t *testing.T) {
	w := newWorld(t)
	mnt := w.startMounter()
	w.startUser("holder")
	s := w.startUser("serve")
	done := later(func() error {
		return run("fio", "--name=kill", "--filename="+s.path, "--ioengine=libaio", "--direct=1", "--rw=randwrite",
			"--bs=4k", "--size=32m", "--iodepth=16", "--fsync=64", "--loops=3", "--verify=crc32c", "--verify_backlog=512", "--verify_fatal=1")
	})
	kills := 0
	w.every(s, 1500, done, t, func() {
		mnt.kill()
		s.kill()
		kills++
		mnt = w.startMounter()
		s = w.startUser("serve")
	})
	if kills < 3 {
		t.Errorf("only %d kills", kills)
	}
	t.Logf("%d kills", kills)
	// The namespace in which the loop device was bound is gone: the kernel does not show where its file is.
	if f, err := loop.File(s.path); err != nil || strings.HasPrefix(f, w.dir) {
		t.Errorf("the loop device's file is %q, %v: the test does not show what it should", f, err)
	}
	if l, err := w.mounter.List(t.Context()); err != nil || len(l) != 1 || l[0].Loop != s.path || l[0].Conn == 0 {
		t.Errorf("found %+v, %v", l, err)
	}
	path := s.path
	s.end(t)
	if l, err := w.mounter.List(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("left over: %+v, %v", l, err)
	}
	if b, err := loop.Look(path); err != nil || b.File == "/volume" {
		t.Errorf("the loop device is still bound: %+v, %v", b, err)
	}
}

// The control: with neither the mounter's help nor its own privilege, a server makes no device.
func TestUnprivilegedNeedsMounter(t *testing.T) {
	w := newWorld(t)
	w.startUser("holder")
	w.env = nil
	cmd := exec.Command("/proc/self/exe", w.rig.socket, w.dir)
	cmd.Env = append(os.Environ(), childMode+"=serve")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: agentUser, Gid: agentUser}}
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("a device without privilege: %s", out)
	}
}

// A mounted copy of a device in a foreign namespace, which a container keeps that was started meanwhile, holds up nothing.
func TestForeignCopy(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	d, disk := open(t, exporttest.Volume(t, mib), Options{Mounter: mounter.New(dir)})
	_ = disk.Close()
	cmd := exec.Command("cat") // has all mounts that are there now, for itself
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", cmd.Process.Pid)); err != nil || !strings.Contains(string(b), dir+"/vol ") {
		t.Errorf("there is no foreign copy: the test does not show what it should (%v)", err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-d.Done()
}
