package machine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

// Space that a cluster needs, in bytes: memory of three nodes and the control plane, disk of programs, Go's caches and images.
const (
	needMemory = 3 << 30
	needDisk   = 12 << 30
)

// Check says what keeps this machine from running nodes, before anything is built. It makes what a node is made of, namespaces, mounts,
// cgroups, links, and takes it away again.
func Check(r *record.Record) error {
	errs := []error{CheckInotify(r), enoughSpace(string(r.Dir()))}
	for _, dev := range []string{"/dev/fuse", "/dev/loop-control"} {
		f, err := os.OpenFile(dev, os.O_RDWR, 0)
		if err != nil {
			errs = append(errs, fmt.Errorf("devices: %w", err))
			continue
		}
		errs = append(errs, f.Close())
	}
	cgroups, err := Cgroups(r, "check")
	errs = append(errs, err)
	if err == nil {
		errs = append(errs, trial(string(r.Dir()), cgroups))
	}
	return errors.Join(errors.Join(errs...), RemoveCgroups(r))
}

func enoughSpace(dir string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return err
	}
	if free := s.Bavail * uint64(s.Bsize); free < needDisk {
		return fmt.Errorf("disk: %s has %d GiB free, a cluster needs %d", dir, free>>30, needDisk>>30)
	}
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		var kib uint64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 && kib<<10 < needMemory {
			return fmt.Errorf("memory: %d MiB are available, a cluster needs %d", kib>>10, needMemory>>20)
		}
	}
	return nil
}

// trial runs Trial in namespaces and cgroups as a node has them.
func trial(dir string, cgroups []string) error {
	root, err := os.MkdirTemp(dir, "check")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	cmd := exec.Command(Self, "internal", "trial", "--cgroups", strings.Join(cgroups, ","), root)
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return errors.New(strings.TrimSpace(string(out)))
	case err != nil:
		return fmt.Errorf("namespaces: %w", err)
	}
	return nil
}

// Trial does in a node's namespaces what a node's start does, below root.
func Trial(root string, cgroups []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts: make / private: %w", err)
	}
	hs, err := readHierarchies()
	if err != nil {
		return fmt.Errorf("cgroups: %w", err)
	}
	if err := join(cgroups); err != nil {
		return fmt.Errorf("cgroups: %w", err)
	}
	if err := bind(root, root, false); err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	for _, dir := range []string{"dev", "proc", "sys", "run", "lower", "upper", "work", "over"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := kernel(root, hs); err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", filepath.Join(root, "lower"), filepath.Join(root, "upper"), filepath.Join(root, "work"))
	if err := unix.Mount("overlay", filepath.Join(root, "over"), "overlay", 0, layers); err != nil {
		return fmt.Errorf("mounts: overlay on the file system of %s, which images need: %w", root, err)
	}
	if err := ip("", "link set lo up", "link add br0 type bridge", "link add v0 type veth peer name v1", "link set v0 master br0 up"); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if err := forward(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader("table ip check {\n chain c {\n type nat hook prerouting priority dstnat;\n ip daddr 10.0.0.1 tcp dport 1 dnat to 10.0.0.2:2\n }\n}\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("network: nftables, which kube-proxy needs: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Explain prints what Check found, a line each.
func Explain(w io.Writer, err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(w, "  "+strings.TrimSpace(line))
	}
}
