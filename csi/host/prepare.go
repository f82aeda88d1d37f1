package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/csi/handle"
)

// Reasons of what a node lacks.
const (
	// ReasonNoFuse: the node gives no /dev/fuse; no volume can be attached there.
	ReasonNoFuse = v1alpha1.ReasonNodeWithoutFuse
	// ReasonNoLoop: the node gives no loop devices; no volume can be attached there.
	ReasonNoLoop = v1alpha1.ReasonNodeWithoutLoop
	// ReasonDirectory: a directory cannot be made or is not fit; the agent's pod waits for it.
	ReasonDirectory = "DirectoryNotPrepared"
	// ReasonSpace: the disk has too little space for a store.
	ReasonSpace = "TooLittleSpace"
	// ReasonShared: the data share a file system with the kubelet, and too little of it is left to others.
	ReasonShared = "SharedFileSystem"
)

// leastSpace is the size of the smallest disk that can have a store, in bytes.
const leastSpace = 1 << 30

// sharedReserve is the least reserve, in percent, on the kubelet's own file system: else volumes evict pods.
const sharedReserve = 20

// Network is what is prepared.
type Network struct {
	UID, Name string
	Path      string // of data: MyNetwork's spec.storage.path
	Reserve   int    // percent of the file system that are left to others
}

// Problem is what a node lacks.
type Problem struct {
	Reason string
	Err    error
}

// Paths are where a Host works.
type Paths struct {
	Run     string // /run/mynetwork
	Root    string // the node's root directory, below which data lie: /host
	Kubelet string // its directory, as it is below Root
	Dev     string // /dev
	SELinux string // /sys/fs/selinux, where the kernel has it
}

// Devices is the directory of a network's mounts.
func (p *Paths) Devices(uid string) string { return filepath.Join(p.Run, v1alpha1.PlaceDevices, uid) }

// Mounter is the path of a network's mounter's socket.
func (p *Paths) Mounter(uid string) string { return filepath.Join(p.Run, uid, v1alpha1.PlaceMounter) }

// Sockets makes the directories of sockets and mounts.
func (p *Paths) Sockets(n Network) error {
	if !handle.ValidNetwork(n.UID) {
		return fmt.Errorf("%w: %q is no uid", ErrPath, n.UID)
	}
	fd, err := open("/", p.Run)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := tree(fd, p.Run, p.labels(), dir{path: v1alpha1.PlaceDevices, mode: 0o711}, dir{path: n.UID, mode: 0o711}); err != nil {
		return err
	}
	devices, err := open("/", filepath.Join(p.Run, v1alpha1.PlaceDevices))
	if err != nil {
		return err
	}
	defer unix.Close(devices)
	if err := tree(devices, filepath.Join(p.Run, v1alpha1.PlaceDevices), p.labels(), dir{path: n.UID, mode: 0o700}); err != nil {
		return err
	}
	own, err := open("/", filepath.Join(p.Run, n.UID))
	if err != nil {
		return err
	}
	defer unix.Close(own)
	agents := func(socket string) dir {
		return dir{path: filepath.Dir(socket), owner: v1alpha1.AgentUser, group: v1alpha1.AgentUser, mode: 0o700}
	}
	if err := tree(own, filepath.Join(p.Run, n.UID), p.labels(), agents(v1alpha1.PlaceControl), agents(v1alpha1.PlaceHolder),
		dir{path: filepath.Dir(v1alpha1.PlaceMounter), group: v1alpha1.AgentUser, mode: 0o750}); err != nil {
		return err
	}
	return note(own, v1alpha1.PlaceName, n.Name+"\n")
}

// Forget removes the directories of sockets and mounts of a network that nobody uses. Its data stay.
func (p *Paths) Forget(uid string) error {
	if !handle.ValidNetwork(uid) {
		return fmt.Errorf("%w: %q is no uid", ErrPath, uid)
	}
	root, err := os.OpenRoot(p.Run) // no symbolic link leads out of it
	if err != nil {
		return fmt.Errorf("open %s: %w", p.Run, err)
	}
	defer root.Close()
	for _, dir := range []string{filepath.Join(v1alpha1.PlaceDevices, uid), uid} {
		if err := root.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove %s: %w", filepath.Join(p.Run, dir), err)
		}
	}
	return nil
}

// Data makes the directories of data, and says what the disk lacks.
func (p *Paths) Data(n Network) (problems []Problem) {
	add := func(reason string, err error) {
		if err != nil {
			problems = append(problems, Problem{reason, err})
		}
	}
	fd, err := open(p.Root, n.Path)
	if err != nil {
		add(ReasonDirectory, err)
		return problems
	}
	defer unix.Close(fd)
	agents := dir{owner: v1alpha1.AgentUser, group: v1alpha1.AgentUser, mode: 0o700}
	named := func(name string) dir { d := agents; d.path = name; return d }
	add(ReasonDirectory, tree(fd, n.Path, p.labels(), named(n.UID)))
	if len(problems) > 0 {
		return problems
	}
	own, err := enter(fd, n.UID, filepath.Join(n.Path, n.UID), agents, true)
	if err != nil {
		add(ReasonDirectory, err)
		return problems
	}
	defer unix.Close(own)
	add(ReasonDirectory, tree(own, filepath.Join(n.Path, n.UID), p.labels(), named("store"), named("agent")))
	add(ReasonSpace, p.space(own, n))
	add(ReasonShared, p.shared(own, n))
	return problems
}

// space reports a disk on which no store fits.
func (p *Paths) space(fd int, n Network) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return fmt.Errorf("space of %s: %w", n.Path, err)
	}
	if size := int64(st.Blocks) * st.Bsize; size < leastSpace {
		return fmt.Errorf("%w: the file system of %s has %d bytes, a store needs %d; mount a larger disk there", ErrSpace, n.Path, size, int64(leastSpace))
	}
	return nil
}

// shared reports data on the kubelet's file system that leave too little of it.
func (p *Paths) shared(fd int, n Network) error {
	if n.Reserve >= sharedReserve || p.Kubelet == "" {
		return nil
	}
	var mine, theirs unix.Stat_t
	if err := unix.Fstat(fd, &mine); err != nil {
		return fmt.Errorf("file system of %s: %w", n.Path, err)
	}
	if err := unix.Stat(filepath.Join(p.Root, p.Kubelet), &theirs); err != nil {
		return nil // it is not there: nobody to share with
	}
	if mine.Dev != theirs.Dev {
		return nil
	}
	return fmt.Errorf("%w: %s is on the file system of the kubelet, of which the reserve of %d %% is left to others: pods can be evicted when volumes fill it; "+
		"set spec.storage.reservePercent to at least %d, or mount a disk of its own there", ErrSpace, n.Path, n.Reserve, sharedReserve)
}

// Lacks says what the node lacks for any network.
func (p *Paths) Lacks() (problems []Problem) {
	for _, d := range []struct{ name, reason, do string }{
		{"fuse", ReasonNoFuse, "load the module fuse on the node (modprobe fuse)"},
		{"loop-control", ReasonNoLoop, "load the module loop on the node (modprobe loop)"},
	} {
		f, err := os.OpenFile(filepath.Join(p.Dev, d.name), os.O_RDWR, 0)
		if err != nil {
			problems = append(problems, Problem{d.reason, fmt.Errorf("no volume can be attached: %w; %s", err, d.do)})
			continue
		}
		_ = f.Close()
	}
	return problems
}

// Report writes for the agent of a network what the node lacks to attach volumes, if it is not what was written before.
func (p *Paths) Report(n Network, problems []Problem) error {
	var text strings.Builder
	for _, l := range problems {
		fmt.Fprintf(&text, "%s: %s\n", l.Reason, strings.Join(strings.Fields(l.Err.Error()), " "))
	}
	dir := filepath.Join(p.Run, n.UID, filepath.Dir(v1alpha1.PlaceMounter))
	before, err := os.ReadFile(filepath.Join(dir, v1alpha1.NameLacks)) // root's directory: nobody else can put a link there
	if err == nil && string(before) == text.String() {
		return nil
	}
	fd, err := open("/", dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return note(fd, v1alpha1.NameLacks, text.String())
}

// labels tells whether the host has SELinux.
func (p *Paths) labels() bool {
	_, err := os.Stat(filepath.Join(p.SELinux, "enforce"))
	return err == nil
}

// Prepared lists the networks whose sockets were prepared before, from the directories alone.
func (p *Paths) Prepared() (out []Network, err error) {
	entries, err := os.ReadDir(p.Run)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	for _, e := range entries {
		st, err := os.Lstat(filepath.Join(p.Run, e.Name(), filepath.Dir(v1alpha1.PlaceMounter)))
		if err == nil && st.IsDir() && handle.ValidNetwork(e.Name()) {
			out = append(out, Network{UID: e.Name()})
		}
	}
	return out, nil
}
