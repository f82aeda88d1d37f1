package handle

import (
	"strings"
	"testing"
)

// TestGroups: a group is told by its name and its volumes, in any order.
func TestGroups(t *testing.T) {
	a := GroupOf("net", "g", []string{"x", "y"})
	if b := GroupOf("net", "g", []string{"y", "x"}); a != b {
		t.Errorf("the order of volumes matters: %s, %s", a, b)
	}
	if b := GroupOf("net", "g", []string{"x"}); a == b || !a.SameName(b) {
		t.Errorf("%s and %s: want other groups of one name", a, b)
	}
	if b := GroupOf("net", "h", []string{"x", "y"}); a.SameName(b) {
		t.Errorf("%s and %s have not one name", a, b)
	}
	if b := GroupOf("net", "g", []string{"xy", ""}); a == b {
		t.Error("where one id ends and the next begins does not matter")
	}
	if g, ok := GroupNamed("net", a.SnapshotName()); !ok || g != a {
		t.Errorf("a snapshot of %s is said to be of %s", a, g)
	}
}

// FuzzHandles: no handle or name is taken for another one.
func FuzzHandles(f *testing.F) {
	f.Add("net." + strings.Repeat("0a", 16))
	f.Add("net." + strings.Repeat("0a", 16) + "." + strings.Repeat("1b", 16))
	f.Add(strings.Repeat("0a", 16))
	f.Add("csi-clone-x")
	f.Add("net.g." + strings.Repeat("0", 32))
	f.Fuzz(func(t *testing.T, s string) {
		kinds := 0
		if v, err := ParseVolume(s); err == nil {
			if kinds++; v.String() != s {
				t.Errorf("volume %q reads as %q", s, v)
			}
		}
		if v, err := ParseSnapshot(s); err == nil {
			if kinds++; v.String() != s {
				t.Errorf("snapshot %q reads as %q", s, v)
			}
		}
		if v, err := ParseGroup(s); err == nil {
			if kinds++; v.String() != s {
				t.Errorf("group %q reads as %q", s, v)
			}
		}
		if kinds > 1 {
			t.Errorf("%q is several things", s)
		}
		n := Name(s)
		if n != s && !strings.HasPrefix(n, "csi-name-") || IsClone(n) {
			t.Errorf("Name(%q) = %q", s, n)
		}
		if _, is := GroupNamed("net", n); is {
			t.Errorf("Name(%q) = %q is of a group", s, n)
		}
	})
}
