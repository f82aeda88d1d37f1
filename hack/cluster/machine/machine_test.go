package machine

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const hybrid = `24 1 0:21 / /proc rw - proc proc rw
29 24 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
30 29 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
31 29 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
32 29 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 29 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset,clone_children
`

func TestHierarchies(t *testing.T) {
	hs, err := hierarchies(hybrid)
	if err != nil {
		t.Fatal(err)
	}
	want := []hierarchy{
		{"/sys/fs/cgroup/unified", "cgroup2", ""},
		{"/sys/fs/cgroup/systemd", "cgroup", "none,name=systemd"},
		{"/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct"},
		{"/sys/fs/cgroup/cpuset", "cgroup", "cpuset"},
	}
	if !slices.Equal(hs, want) {
		t.Errorf("got %+v\nwant %+v", hs, want)
	}
	if !hs[3].has("cpuset") || hs[2].has("cpuset") || !hs[2].has("cpuacct") {
		t.Error("controllers of hierarchies are mixed up")
	}
	for name, text := range map[string]string{
		"version 2 alone": "30 29 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
		"none":            "24 1 0:21 / /proc rw - proc proc rw\n",
	} {
		if _, err := hierarchies(text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMountsAreParsed(t *testing.T) {
	text := `36 35 98:1 /sub /mnt/with\040blank rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue
37 35 0:53 / /run/x rw - fuse.mynetwork data rw
38 35 7:3 / /data rw - ext4 /dev/loop3
nonsense
39 35 x:3 / /data rw - ext4 /dev/loop3 rw
`
	got := parseMounts(text)
	want := []mount{
		{98, 1, "/sub", "/mnt/with blank", "ext3", "/dev/root", "rw,errors=continue"},
		{0, 53, "/", "/run/x", "fuse.mynetwork", "data", "rw"},
		{7, 3, "/", "/data", "ext4", "/dev/loop3", ""},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// TestOnlyTheNodesDevicesAreTaken holds a node's mounts against the real machine's: what both have is not the node's, and
// a power-off that took it would break what runs beside the cluster.
func TestOnlyTheNodesDevicesAreTaken(t *testing.T) {
	host := parseMounts(`1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 0:5 / /dev rw - devtmpfs devtmpfs rw
3 1 0:40 / /mnt/host rw - fuse host rw
4 1 7:0 / /mnt/loop rw - ext4 /dev/loop0 rw
5 2 0:5 /loop9 /mnt/raw rw - devtmpfs devtmpfs rw
`)
	node := parseMounts(`1 0 254:0 /n1 / rw - ext4 /dev/vda rw
2 1 0:5 / /dev rw - devtmpfs devtmpfs rw
3 1 0:40 / /mnt/host rw - fuse host rw
4 1 7:0 / /mnt/loop rw - ext4 /dev/loop0 rw
5 2 0:5 /loop9 /mnt/raw rw - devtmpfs devtmpfs rw
6 1 0:41 / /run/a rw - fuse.mynetwork a rw
7 1 0:41 / /run/b rw - fuse.mynetwork a rw
8 1 0:42 / /run/c rw - fuse c rw
9 1 7:4 / /data rw - ext4 /dev/loop4 rw
10 1 0:5 /loop5 /block rw - devtmpfs devtmpfs rw
11 1 0:5 /null /x rw - devtmpfs devtmpfs rw
12 1 0:43 / /sys/fs/fuse/connections rw - fusectl fusectl rw
13 1 0:44 / /run rw - tmpfs tmpfs rw
`)
	fuse, loops := mountedDevices(node, host)
	if !slices.Equal(fuse, []int{41, 42}) || !slices.Equal(loops, []int{4, 5}) {
		t.Errorf("FUSE %v, want [41 42]; loops %v, want [4 5]", fuse, loops)
	}
	fuse, loops = mountedDevices(node, nil)
	if !slices.Equal(fuse, []int{40, 41, 42}) || !slices.Equal(loops, []int{0, 4, 5, 9}) {
		t.Errorf("without the real machine's mounts: FUSE %v, loops %v: the test sees no difference", fuse, loops)
	}
}

func TestPathsOnDeadFUSE(t *testing.T) {
	mounts := parseMounts("6 1 0:41 / /run/a rw - fuse.mynetwork a rw\n7 1 0:42 / /run/b rw - fuse b rw\n8 1 0:41 / /tmpfs rw - tmpfs x rw\n")
	for path, want := range map[string]bool{"/run/a/x": true, "/run/ab": false, "/run/b/x": false, "/tmpfs/x": false, "/x": false} {
		if got := onFUSE(path, mounts, []int{41}); got != want {
			t.Errorf("%s: %t, want %t", path, got, want)
		}
	}
}

func TestRoutesOfPartitions(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{host(Address(2), true), "route replace blackhole 10.77.0.12/32"},
		{host(Address(2), false), "route replace 10.77.0.12/32 dev eth0"},
		{pods(3, true), "route replace blackhole 10.78.3.0/24"},
		{pods(3, false), "route replace 10.78.3.0/24 via 10.77.0.13"},
	} {
		if c.got != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
}

func TestInotifyIsCounted(t *testing.T) {
	before := inotifyUsed("self")
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if after := inotifyUsed("self"); after != before+1 {
		t.Errorf("one more instance: %d before, %d after", before, after)
	}
	if err := enough(128, 93, 35); err != nil {
		t.Error(err)
	}
	if err := enough(128, 94, 35); err == nil || !strings.Contains(err.Error(), "max_user_instances=512") {
		t.Errorf("one too many: %v, want what to do", err)
	}
}

func TestEscapesOfMountinfo(t *testing.T) {
	if got := unescape(`a\040b\134c\011`); got != "a b\\c\t" {
		t.Errorf("%q", got)
	}
	if got := strings.Count(hybrid, "\n"); len(parseMounts(hybrid)) != got {
		t.Errorf("%d lines, %d mounts", got, len(parseMounts(hybrid)))
	}
}
