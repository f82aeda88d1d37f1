package disk_test

import (
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/disk"
)

// TestUsage: of a file system whose super-user keeps a reserve, used and total are what df says, and what is left is what others may take.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	o, err := disk.OpenOS(dir)
	if err != nil {
		t.Fatal(err)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	total, used, err := o.Usage()
	const noise = 1 << 30 // what others write meanwhile
	if left := total - used; err != nil || max(left-int64(st.Bavail)*st.Bsize, int64(st.Bavail)*st.Bsize-left) > noise {
		t.Errorf("%d left, statfs says %d; %v", left, int64(st.Bavail)*st.Bsize, err)
	}
	if d := used - int64(st.Blocks-st.Bfree)*st.Bsize; max(d, -d) > noise {
		t.Errorf("%d used, %d more than statfs says", used, d)
	}
}
