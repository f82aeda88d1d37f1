package mount

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mounted is something that is mounted below the root.
type Mounted struct {
	Path     string // as the kubelet names it
	Device   uint64 // number of the device that is shown: under its file system, or as such
	FS       string // kind of file system; empty: the device as such
	ReadOnly bool   // the mount, or the file system
}

// List lists what is mounted below the root, later mounts after those that they cover.
func (m *Mounter) List() ([]Mounted, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("table of mounts: %w", err)
	}
	var out []Mounted
	for _, line := range bytes.Split(table, []byte("\n")) {
		e, ok := parseLine(string(line))
		if !ok {
			continue
		}
		rel, below := strings.CutPrefix(e.path, m.real+"/")
		if !below {
			continue
		}
		x := Mounted{Path: m.root + "/" + rel, Device: e.device, FS: e.fs, ReadOnly: e.readOnly}
		if (e.fs == "devtmpfs" || e.fs == "tmpfs") && e.root != "/" {
			var st unix.Stat_t
			if unix.Lstat(e.path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
				x.Device, x.FS = st.Rdev, ""
			}
		}
		out = append(out, x)
	}
	return out, nil
}

// entry is a line of /proc/self/mountinfo.
type entry struct {
	device   uint64
	root     string // what of the file system is mounted
	path     string
	fs       string
	readOnly bool
}

// parseLine reads a line of /proc/self/mountinfo: see proc_pid_mountinfo(5).
func parseLine(line string) (e entry, ok bool) {
	before, after, ok := strings.Cut(line, " - ")
	a, b := strings.Fields(before), strings.Fields(after)
	if !ok || len(a) < 6 || len(b) < 3 {
		return e, false
	}
	major, minor, _ := strings.Cut(a[2], ":")
	ma, err1 := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	if err1 != nil || err2 != nil {
		return e, false
	}
	ro := func(opts string) bool { return opts == "ro" || strings.HasPrefix(opts, "ro,") }
	return entry{device: unix.Mkdev(uint32(ma), uint32(mi)), root: unescape(a[3]), path: unescape(a[4]), fs: b[0],
		readOnly: ro(a[5]) || ro(b[2])}, true
}

// unescape replaces \ooo by the byte of that octal number.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
