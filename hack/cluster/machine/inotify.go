package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

// inotify instances that components of Kubernetes 1.36 and containerd hold, counted on a cluster without pods.
const (
	inotifyPlane = 11
	inotifyNode  = 8
)

// CheckInotify answers an error if the machine does not allow the inotify instances that the processes will want that are
// yet to be started. The limit is per user and shared by all clusters of the machine; a kubelet that meets it ends again
// and again with "too many open files", and so may those of other clusters.
func CheckInotify(r *record.Record) error {
	need := 0
	if !r.Alive(hubRole) {
		need += inotifyPlane
	}
	for _, node := range r.Settings.Nodes {
		if !r.Alive(node) {
			need += inotifyNode
		}
	}
	if need == 0 {
		return nil
	}
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_user_instances")
	if err != nil {
		return err
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	return enough(limit, inotifyUsed("[0-9]*"), need)
}

func enough(limit, used, need int) error {
	if used+need <= limit {
		return nil
	}
	return fmt.Errorf("the cluster needs %d inotify instances, and of the %d that the machine allows %d are in use: stop another cluster, or raise the limit (sysctl fs.inotify.max_user_instances=%d)",
		need, limit, used, 4*limit)
}

// inotifyUsed counts the instances of the processes whose pids match, whoever's they are: in a test cluster all are root's.
func inotifyUsed(pids string) int {
	fds, err := filepath.Glob("/proc/" + pids + "/fd/*")
	if err != nil {
		return 0
	}
	used := 0
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && target == "anon_inode:inotify" {
			used++
		}
	}
	return used
}
