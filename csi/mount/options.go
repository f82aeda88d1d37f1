package mount

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// options are mount options, sorted by whom they concern.
type options struct {
	attributes int      // of the mount
	flags      []string // of the file system
	values     [][2]string
}

var attributes = []struct {
	name string
	attr int
}{
	{"nosuid", unix.MOUNT_ATTR_NOSUID}, {"nodev", unix.MOUNT_ATTR_NODEV}, {"noexec", unix.MOUNT_ATTR_NOEXEC},
	{"noatime", unix.MOUNT_ATTR_NOATIME}, {"nodiratime", unix.MOUNT_ATTR_NODIRATIME},
	{"strictatime", unix.MOUNT_ATTR_STRICTATIME}, {"nosymfollow", unix.MOUNT_ATTR_NOSYMFOLLOW},
}

// without effect: defaults, and what only fstab and mount(8) know.
var idle = []string{"", "defaults", "rw", "suid", "dev", "exec", "atime", "diratime", "relatime", "async", "auto", "noauto", "nofail",
	"_netdev", "user", "nouser", "users", "owner", "group"}

// refused: these would mount something else than the volume, or elsewhere.
var refused = []string{"bind", "rbind", "move", "remount", "shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable",
	"runbindable", "loop", "offset", "sizelimit", "source", "helper", "uhelper", "logdev", "rtdev", "journal_dev", "journal_path"}

// CheckOptions reports ErrOption if one of the options, as mount(8) takes them, is refused.
func CheckOptions(list []string) error {
	_, err := parseOptions(list)
	return err
}

// parseOptions sorts options. Each may hold several, separated by commas outside of quotes.
func parseOptions(list []string) (options, error) {
	var o options
	for _, one := range list {
		for _, opt := range splitOptions(one) {
			if err := o.add(opt); err != nil {
				return options{}, err
			}
		}
	}
	return o, nil
}

func splitOptions(s string) []string {
	quoted := false
	return strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ',' && !quoted
	})
}

func (o *options) add(opt string) error {
	name, value, valued := strings.Cut(strings.TrimSpace(opt), "=")
	switch i := slices.IndexFunc(attributes, func(a struct {
		name string
		attr int
	}) bool {
		return a.name == name
	}); {
	case slices.Contains(refused, name), strings.ContainsFunc(opt, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%q: %w", name, ErrOption)
	case i >= 0 && !valued:
		o.attributes |= attributes[i].attr
	case !valued && slices.Contains(idle, name), strings.HasPrefix(name, "x-"), name == "comment":
	case valued:
		o.values = append(o.values, [2]string{name, strings.Trim(value, `"`)})
	default:
		o.flags = append(o.flags, name)
	}
	return nil
}
