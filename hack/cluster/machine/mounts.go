package machine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// mount is one line of proc(5)'s mountinfo.
type mount struct {
	major, minor int    // of the file system's device
	root         string // what of the file system is mounted
	point        string
	fstype       string
	source       string
	super        string // options of the super block
}

// parseMounts reads a mountinfo:
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//	      dev  root  point                       type source    super
//
// Lines that it does not understand are left out.
func parseMounts(text string) (out []mount) {
	for _, line := range strings.Split(text, "\n") {
		left, right, ok := strings.Cut(line, " - ")
		a, b := strings.Fields(left), strings.Fields(right)
		if !ok || len(a) < 6 || len(b) < 2 {
			continue
		}
		major, minor, _ := strings.Cut(a[2], ":")
		m := mount{root: unescape(a[3]), point: unescape(a[4]), fstype: b[0], source: unescape(b[1])}
		var err1, err2 error
		m.major, err1 = strconv.Atoi(major)
		m.minor, err2 = strconv.Atoi(minor)
		if err1 != nil || err2 != nil {
			continue
		}
		if len(b) > 2 {
			m.super = b[2]
		}
		out = append(out, m)
	}
	return out
}

// unescape undoes mountinfo's octal escapes of blank, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// mountsOf reads the mounts that a process sees.
func mountsOf(pid int) ([]mount, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	return parseMounts(string(b)), err
}
