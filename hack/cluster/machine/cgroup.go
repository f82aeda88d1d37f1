package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

// hierarchy is one mounted cgroup hierarchy.
type hierarchy struct {
	dir     string // where the real machine mounts it
	fstype  string // "cgroup" or "cgroup2"
	options string // of a version 1 mount: "cpu", "cpu,cpuacct", "none,name=systemd"
}

// name is the directory below /sys/fs/cgroup that a node mounts it on.
func (h hierarchy) name() string { return filepath.Base(h.dir) }

func (h hierarchy) has(controller string) bool {
	for _, o := range strings.Split(h.options, ",") {
		if o == controller {
			return true
		}
	}
	return false
}

// hierarchies lists the cgroup hierarchies in the text of a mountinfo.
func hierarchies(mountinfo string) ([]hierarchy, error) {
	var out []hierarchy
	for _, m := range parseMounts(mountinfo) {
		if m.fstype != "cgroup" && m.fstype != "cgroup2" {
			continue
		}
		h := hierarchy{dir: m.point, fstype: m.fstype}
		if m.fstype == "cgroup" {
			h.options = controllers(m.super)
		}
		out = append(out, h)
	}
	if len(out) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted")
	}
	if len(out) == 1 && out[0].fstype == "cgroup2" {
		return nil, errors.New("this machine has cgroup version 2 alone: nodes are made with version 1 or hybrid (boot with systemd.unified_cgroup_hierarchy=0)")
	}
	return out, nil
}

// controllers picks the options that name a hierarchy out of its super block's options.
func controllers(super string) string {
	var out []string
	for _, o := range strings.Split(super, ",") {
		switch {
		case o == "rw" || o == "ro" || strings.HasPrefix(o, "release_agent=") || o == "xattr" || o == "clone_children":
		case strings.HasPrefix(o, "name="):
			out = append(out, "none", o)
		default:
			out = append(out, o)
		}
	}
	return strings.Join(out, ",")
}

func readHierarchies() ([]hierarchy, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return hierarchies(string(b))
}

// Cgroups makes a cgroup in every hierarchy, records them first, and answers their directories.
func Cgroups(r *record.Record, what string) ([]string, error) {
	hs, err := readHierarchies()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, h := range hs {
		dir := filepath.Join(h.dir, r.Name(what))
		dirs = append(dirs, dir)
		if err := r.AddCgroup(dir); err != nil {
			return nil, err
		}
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if h.has("cpuset") { // an empty set admits no process
			for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
				b, err := os.ReadFile(filepath.Join(h.dir, f))
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, f), b, 0o644)
				}
				if err != nil {
					return nil, err
				}
			}
		}
	}
	return dirs, nil
}

// SetShares weighs the processor time of the cgroups of Cgroups; 1024 is what each other process of the machine has.
func SetShares(dirs []string, shares int) error {
	for _, dir := range dirs {
		f := filepath.Join(dir, "cpu.shares")
		if _, err := os.Stat(f); err != nil {
			continue
		}
		if err := os.WriteFile(f, []byte(strconv.Itoa(shares)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroups removes the cgroups below dir, and dir itself if self is set. No process may be in them.
func removeCgroups(dir string, self bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs error
	for _, e := range entries {
		if e.IsDir() {
			errs = errors.Join(errs, removeCgroups(filepath.Join(dir, e.Name()), true))
		}
	}
	if !self {
		return errs
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		errs = errors.Join(errs, fmt.Errorf("remove cgroup %s: %w", dir, err))
	}
	return errs
}

// RemoveCgroups removes every recorded cgroup and takes it off the record.
func RemoveCgroups(r *record.Record) error {
	var errs error
	var left []string
	for _, dir := range r.Cgroups {
		if err := removeEventually(dir, true); err != nil {
			errs = errors.Join(errs, err)
			left = append(left, dir)
		}
	}
	r.Cgroups = left
	return errors.Join(errs, r.Save())
}
