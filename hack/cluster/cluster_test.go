package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

// TestCluster brings a cluster of its own up and tries on it what tests of MyNetwork rely on. It needs root and, without
// built programs, a quarter of an hour: `make cluster-test` sets the variable to the directory to use.
func TestCluster(t *testing.T) {
	dir := os.Getenv("MYNETWORK_CLUSTER_TEST")
	if dir == "" {
		t.Skip("not run: make cluster-test")
	}
	h := &harness{dir: record.Dir(dir), program: filepath.Join(dir, "bin", "cluster")}
	if err := os.MkdirAll(filepath.Dir(h.program), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", h.program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	h.run(t, "down")
	before := sysctls(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("left for a look: %s --dir %s status, and down", h.program, dir)
		}
	})
	for _, step := range []struct {
		name string
		f    func(*testing.T, *harness)
	}{
		{"up", testUp}, {"power off", testPowerOff}, {"power off with a frozen server", testPowerOffFrozen}, {"cable", testCable}, {"partial partition", testPartialPartition},
		{"API server", testAPIServer}, {"images", testImages}, {"stop and wrong names", testStop}, {"down", testDown},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.f(t, h) }) {
			t.FailNow() // later steps stand on it
		}
	}
	if after := sysctls(t); after != before {
		t.Errorf("sysctls of the machine have changed:\n%s\nbefore:\n%s", after, before)
	}
}

type harness struct {
	dir     record.Dir
	program string
}

func (h *harness) try(args ...string) (string, error) {
	cmd := exec.Command(h.program, append([]string{"--dir", string(h.dir)}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("cluster %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), err
}

func (h *harness) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := h.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (h *harness) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return h.run(t, append([]string{"kubectl"}, args...)...)
}

// in runs a shell's command on a node.
func (h *harness) in(node, command string) (string, error) {
	return h.try("node", "exec", node, "--", "bash", "-c", command)
}

// eventually polls until f is nil. The time is a limit for the test, not a promise.
func eventually(t *testing.T, within time.Duration, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %v", within, err)
		}
	}
}

// ready waits until the API says this of a node.
func (h *harness) ready(t *testing.T, node, want string) {
	t.Helper()
	eventually(t, 2*time.Minute, func() error {
		got, err := h.try("kubectl", "get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && got != want {
			err = fmt.Errorf("node %s is Ready %q, want %q", node, got, want)
		}
		return err
	})
}

// reaches tells whether one node reaches another's kubelet. A cut swallows packets, so it is tried for two seconds.
func (h *harness) reaches(from, address string) bool {
	_, err := h.in(from, "timeout 2 bash -c 'exec 3<>/dev/tcp/"+address+"/10250'")
	return err == nil
}

func (h *harness) record(t *testing.T) *record.Record {
	t.Helper()
	r, err := record.Read(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// loops are the devices of the loops that have a file, to the kernel's number of that use.
func loops(t *testing.T) map[string]string {
	t.Helper()
	dirs, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, dir := range dirs {
		seq, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "diskseq"))
		if err == nil { // else it was detached meanwhile
			m["/dev/"+filepath.Base(filepath.Dir(dir))] = string(seq)
		}
	}
	return m
}

// sysctls are those that Kubernetes likes to set.
func sysctls(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, name := range []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/hostname",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/ipv4/ip_forward"} {
		b, err := os.ReadFile("/proc/sys/" + name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s = %s", name, b)
	}
	return out.String()
}

func testUp(t *testing.T, h *harness) {
	out := h.run(t, "up", "--quick")
	if !strings.Contains(out, "3 nodes are Ready") || !strings.Contains(out, h.dir.Kubeconfig()) {
		t.Errorf("up printed %s", out)
	}
	first := h.record(t)
	h.run(t, "up")
	second := h.record(t)
	for role, p := range first.Processes {
		if second.Processes[role] != p {
			t.Errorf("a second up has replaced %s", role)
		}
	}
	if _, err := h.try("up", "--nodes", "5"); err == nil {
		t.Error("up with another number of nodes: no error")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), string(h.dir)) {
		t.Errorf("the machine sees mounts of nodes:\n%s", mounts)
	}
	links, err := exec.Command("ip", "-o", "link").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{" br0:", " v-n1", " cni0:"} {
		if strings.Contains(string(links), name) {
			t.Errorf("the machine has the link %s", name)
		}
	}
	h.kubectl(t, "create", "deployment", "plain", "--image=registry.local/tools:dev", "--replicas=3", "--", "sleep", "infinity")
	h.kubectl(t, "wait", "--for=condition=Available", "deploy/plain", "--timeout=120s")
	if got := h.kubectl(t, "exec", "deploy/plain", "--", "echo", "hello"); got != "hello" {
		t.Errorf("exec printed %q", got)
	}
	if crds := h.kubectl(t, "get", "crd", "-o", "name"); strings.Count(crds, "snapshot.storage.k8s.io") != 6 {
		t.Errorf("definitions of snapshots: %s", crds)
	}
}

// storage is a pod as a mounter is one: FUSE, a loop on a file in it, and ext4 on that, mounted for the node to see. It
// counts its starts in the file system, and writes the time into the node's disk ten times a second.
const storage = `
apiVersion: v1
kind: Pod
metadata: {name: storage-%[1]s}
spec:
  nodeName: %[1]s
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: registry.local/tools:dev
    command: [bash, -ec]
    args:
    - |
      mkdir -p /disk/files /x/fuse /x/ext4
      bindfs /disk/files /x/fuse
      [ -f /x/fuse/image ] || { truncate -s 64M /x/fuse/image; mkfs.ext4 -q /x/fuse/image; }
      mount $(losetup -f --show /x/fuse/image) /x/ext4
      echo start >> /x/ext4/starts; sync /x/ext4/starts
      while :; do date +%%s%%N > /disk/clock; sleep 0.1; done
    securityContext: {privileged: true}
    volumeMounts:
    - {name: x, mountPath: /x, mountPropagation: Bidirectional}
    - {name: disk, mountPath: /disk}
    - {name: dev, mountPath: /dev}
  volumes:
  - {name: x, hostPath: {path: /run/x, type: DirectoryOrCreate}}
  - {name: disk, hostPath: {path: /var/lib/x, type: DirectoryOrCreate}}
  - {name: dev, hostPath: {path: /dev}}
`

// store starts the storage pod on a node and waits until the node sees its file system; it answers the loop.
func (h *harness) store(t *testing.T, node string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pod.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, storage, node), 0o644); err != nil {
		t.Fatal(err)
	}
	h.kubectl(t, "apply", "-f", file)
	return h.mounted(t, node, 1)
}

// mounted waits until the node sees the file system of its storage pod, started for the nth time.
func (h *harness) mounted(t *testing.T, node string, starts int) (loop string) {
	t.Helper()
	eventually(t, 2*time.Minute, func() error {
		out, err := h.in(node, "findmnt -no SOURCE /run/x/ext4 && grep -c start /run/x/ext4/starts")
		if err != nil {
			return err
		}
		var n int
		if _, err := fmt.Sscan(out, &loop, &n); err != nil || n != starts {
			return fmt.Errorf("%q, want %d starts (%v)", out, starts, err)
		}
		return nil
	})
	return loop
}

// ticks waits until the storage pod of a node has written its clock again: its processes run.
func (h *harness) ticks(t *testing.T, node string) {
	t.Helper()
	clock := filepath.Join(h.dir.Node(node), "root/var/lib/x/clock")
	first, err := os.ReadFile(clock)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() error {
		now, err := os.ReadFile(clock)
		if err == nil && (len(now) == 0 || bytes.Equal(now, first)) {
			err = errors.New("the clock of the pod stands still")
		}
		return err
	})
}

func testPowerOff(t *testing.T, h *harness) {
	gone, stays := h.store(t, "n2"), h.store(t, "n1")
	// A loop of the machine itself, which no power-off of a node may touch.
	file := filepath.Join(t.TempDir(), "own")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 1<<20)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "-f", "--show", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	own := strings.TrimSpace(string(out))
	defer exec.Command("losetup", "-d", own).Run()
	before := loops(t)
	h.run(t, "node", "poweroff", "n2")
	after := loops(t)
	if before[gone] == "" || after[gone] == before[gone] {
		t.Errorf("the loop %s of the node is still there (%q, before %q)", gone, after[gone], before[gone])
	}
	for _, l := range []string{stays, own} {
		if before[l] == "" || after[l] != before[l] {
			t.Errorf("the loop %s of another has gone (%q, before %q)", l, after[l], before[l])
		}
	}
	h.ticks(t, "n1")
	r := h.record(t)
	for _, dir := range r.Cgroups {
		if filepath.Base(dir) != r.Name("n2") {
			continue
		}
		if procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err != nil || len(procs) > 0 {
			t.Errorf("processes of the node in %s: %q, %v", dir, procs, err)
		}
		if below, err := filepath.Glob(filepath.Join(dir, "*", "cgroup.procs")); err != nil || len(below) > 0 {
			t.Errorf("cgroups of pods are left: %v, %v", below, err)
		}
	}
	h.ready(t, "n2", "Unknown")
	h.run(t, "node", "poweroff", "n2") // once more changes nothing
	h.run(t, "node", "start", "n2")
	h.ready(t, "n2", "True")
	h.mounted(t, "n2", 2)
}

// testPowerOffFrozen powers a node off whose FUSE server hangs: nobody may wait for an answer of it.
func testPowerOffFrozen(t *testing.T, h *harness) {
	gone := h.mounted(t, "n2", 2)
	before := loops(t)
	if _, err := h.in("n2", "pkill -STOP bindfs"); err != nil {
		t.Fatal(err)
	}
	h.run(t, "node", "poweroff", "n2")
	if after := loops(t); before[gone] == "" || after[gone] == before[gone] {
		t.Errorf("the loop %s of the node is still there (%q, before %q)", gone, after[gone], before[gone])
	}
	h.run(t, "node", "start", "n2")
	h.mounted(t, "n2", 3)
}

func testCable(t *testing.T, h *harness) {
	if !h.reaches("n1", "10.77.0.12") {
		t.Fatal("n1 does not reach n2")
	}
	h.run(t, "node", "partition", "n2")
	if h.reaches("n1", "10.77.0.12") || h.reaches("n2", "10.77.0.1") {
		t.Error("n2 is reached, or reaches, though its cable is pulled")
	}
	h.ready(t, "n2", "Unknown")
	h.ticks(t, "n2") // the API gave it up, and it runs on
	h.run(t, "node", "heal", "n2")
	h.ready(t, "n2", "True")
	if !h.reaches("n1", "10.77.0.12") {
		t.Error("n2 is not reached after heal")
	}
}

func testPartialPartition(t *testing.T, h *harness) {
	h.run(t, "node", "partition", "n1", "--from", "n2")
	for _, c := range []struct {
		from, to string
		want     bool
	}{{"n1", "10.77.0.12", false}, {"n2", "10.77.0.11", false}, {"n1", "10.77.0.13", true}, {"n2", "10.77.0.13", true}} {
		if got := h.reaches(c.from, c.to); got != c.want {
			t.Errorf("%s reaches %s: %t, want %t", c.from, c.to, got, c.want)
		}
	}
	h.run(t, "node", "partition", "n1", "--from", "api")
	h.ready(t, "n1", "Unknown")
	h.ready(t, "n2", "True")
	h.run(t, "node", "heal", "n1")
	h.ready(t, "n1", "True")
	if !h.reaches("n1", "10.77.0.12") || !h.reaches("n2", "10.77.0.11") {
		t.Error("n1 and n2 do not reach each other after heal")
	}
}

func testAPIServer(t *testing.T, h *harness) {
	h.run(t, "apiserver", "stop")
	if _, err := h.try("kubectl", "get", "nodes", "--request-timeout=2s"); err == nil {
		t.Error("the API server answers though it is stopped")
	}
	h.ticks(t, "n1")
	if out := h.run(t, "status"); !strings.Contains(out, "does not answer") {
		t.Errorf("status: %s", out)
	}
	h.run(t, "apiserver", "start")
	h.kubectl(t, "get", "nodes")
}

func testImages(t *testing.T, h *harness) {
	out := t.TempDir()
	if text, err := exec.Command(h.dir.Bin("image"), "-bin", filepath.Dir(h.program), "-tag", "loaded", "-out", out, "pause").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	archive := filepath.Join(out, "extra.tar")
	if err := os.Rename(filepath.Join(out, "pause.tar"), archive); err != nil {
		t.Fatal(err)
	}
	h.run(t, "load-image", archive)
	for _, node := range []string{"n1", "n2", "n3"} {
		list, err := h.in(node, "ctr -n k8s.io images ls -q")
		if err != nil || !slices.Contains(strings.Fields(list), "registry.k8s.io/pause:loaded") {
			t.Errorf("%s does not have the image (%v): %s", node, err, list)
		}
	}
}

func testStop(t *testing.T, h *harness) {
	h.run(t, "node", "stop", "n3")
	if h.record(t).Alive("n3") {
		t.Error("n3 runs after stop")
	}
	if _, err := h.in("n3", "true"); err == nil || !strings.Contains(err.Error(), "node start n3") {
		t.Errorf("a command in a node that is off: %v, want what to do", err)
	}
	h.run(t, "node", "start", "n3")
	for _, args := range [][]string{{"node", "poweroff", "n9"}, {"node", "start", "n9"}, {"node", "partition", "n9"}, {"node", "partition", "n1", "--from", "n9"},
		{"node", "heal", "n9"}, {"node", "stop", "n9"}} {
		if _, err := h.try(args...); err == nil || !strings.Contains(err.Error(), "n1, n2, n3") {
			t.Errorf("%v: %v, want the names of the nodes", args, err)
		}
	}
	if _, err := h.try("load-image", "/nonexistent.tar"); err == nil {
		t.Error("an archive that is not there: no error")
	}
}

func testDown(t *testing.T, h *harness) {
	r, before := h.record(t), loops(t)
	var used []string
	for _, node := range []string{"n1", "n2"} {
		loop, err := h.in(node, "findmnt -no SOURCE /run/x/ext4")
		if err != nil || before[loop] == "" {
			t.Fatalf("the loop of %s: %q, %v", node, loop, err)
		}
		used = append(used, loop)
	}
	h.run(t, "down")
	for role, p := range r.Processes {
		if p.Alive() {
			t.Errorf("%s (%d) runs after down", role, p.PID)
		}
	}
	for _, dir := range r.Cgroups {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("cgroup %s is left", dir)
		}
	}
	for after, i := loops(t), 0; i < len(used); i++ {
		if after[used[i]] == before[used[i]] {
			t.Errorf("%s is left", used[i])
		}
	}
	if _, err := record.Read(h.dir); !errors.Is(err, record.ErrNone) {
		t.Errorf("the record after down: %v", err)
	}
	h.run(t, "down") // once more is no error
}
