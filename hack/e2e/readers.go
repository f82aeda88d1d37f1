package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kind is a kind of volume that many nodes read.
type kind struct {
	name  string // ext4, XFS or raw block
	xfs   bool
	block bool
	size  string
	write string // bash: writes for ever
	read  string // bash: tells what it sees, tries to write, says "ready", and goes on reading
}

func ext4() kind {
	return kind{name: "ext4", size: "512Mi", write: "while true; do echo line >> /data/log; sync /data/log; done",
		read: "echo sum $(sha256sum < /data/log) lines $(wc -l < /data/log); " +
			"touch /data/x 2>&1; echo ready; while sleep 0.5; do cat /data/log > /dev/null || exit 1; date +%s; done"}
}

func xfs() kind {
	k := ext4()
	k.name, k.xfs = "XFS", true
	return k
}

func rawDevice() kind {
	return kind{name: "raw block", block: true, size: "64Mi",
		write: "i=0; while true; do printf %4096d $i | dd of=/dev/data bs=4096 seek=$((i++ % 1024)) oflag=direct status=none; done",
		read: "echo sum $(sha256sum < /dev/data) bytes $(blockdev --getsize64 /dev/data); " +
			"dd if=/dev/zero of=/dev/data bs=4096 count=1 oflag=direct 2>&1; echo ready; " +
			"while sleep 0.5; do dd if=/dev/data of=/dev/null bs=1M count=4 iflag=direct status=none || exit 1; date +%s; done"}
}

// refusals are what a reader that writes is told: by a read-only file system, by a read-only device, by a container that may only read it.
func refusals() []string {
	return []string{"Read-only file system", "Permission denied", "Operation not permitted"}
}

// readers: a snapshot of a volume that is being written is mounted read-only on all nodes at once, that of the writer among them; all see the
// same, and nobody can write it. One volume has ext4, one XFS, one is raw block.
func readers(s *suite) (string, error) {
	var on []string
	for i, k := range []kind{ext4(), xfs(), rawDevice()} {
		name := fmt.Sprintf("many%d", i)
		nodes, err := s.manyReaders(name, k)
		if err != nil {
			return "", fmt.Errorf("%s: %w", k.name, err)
		}
		on = nodes
		if err := s.remove(s.pod(name+"-writer", name+"-origin", "", k.block)); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("volumes of ext4, XFS and raw block, of snapshots under writes, are each read on %s; all see the same, and writes are refused", strings.Join(on, ", ")), nil
}

// readerDies: readers go on when the node of another one loses its power.
func readerDies(s *suite) (string, error) {
	nodes, err := s.manyReaders("mourning", ext4())
	if err != nil {
		return "", err
	}
	dead := nodes[len(nodes)-1]
	if err := s.powerOff(dead); err != nil {
		return "", err
	}
	pods, err := s.kube.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{LabelSelector: "readers=mourning"})
	if err != nil {
		return "", err
	}
	lived := 0
	for _, p := range pods.Items {
		if p.Spec.NodeName == dead {
			continue
		}
		before, err := s.logs(p.Name)
		if err != nil {
			return "", err
		}
		err = s.until("the reader on "+p.Spec.NodeName+" reads on", func() error {
			now, err := s.logs(p.Name)
			if err == nil && strings.Count(now, "\n") < strings.Count(before, "\n")+10 {
				err = errors.New("it has not read ten times more")
			}
			return err
		})
		if err != nil {
			return "", err
		}
		lived++
	}
	return fmt.Sprintf("%s died; %d other readers read on", dead, lived), nil
}

// manyReaders starts a writer, and a reader of a snapshot of it on each node. It returns the readers' nodes.
func (s *suite) manyReaders(name string, k kind) (nodes []string, err error) {
	class := s.className()
	if k.xfs {
		if class, err = s.xfsClass(); err != nil {
			return nil, err
		}
	}
	claim := func(name string, from *corev1.TypedLocalObjectReference) *corev1.PersistentVolumeClaim {
		c := s.claim(name, k.size, k.block, from)
		c.Spec.StorageClassName = &class
		return c
	}
	if err := s.create(claim(name+"-origin", nil)); err != nil {
		return nil, err
	}
	if err := s.create(s.pod(name+"-writer", name+"-origin", k.write, k.block)); err != nil {
		return nil, err
	}
	if _, err := s.running(name + "-writer"); err != nil {
		return nil, err
	}
	snap := s.snapshot(name, name+"-origin")
	if err := errors.Join(s.create(snap), s.snapshotReady(snap)); err != nil {
		return nil, err
	}
	many := claim(name, source("VolumeSnapshot", name))
	many.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany}
	spec := s.podSpec(name, k.read, k.block)
	spec.RestartPolicy = corev1.RestartPolicyAlways
	labels := map[string]string{"readers": name}
	set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec}}}
	if err := errors.Join(s.create(many), s.create(set)); err != nil {
		return nil, err
	}
	err = s.until("a reader runs on each node", func() error {
		nodes, err = s.alike(name)
		return err
	})
	return nodes, err
}

// alike tells where readers run, and reports an error unless there is one on each node, all see the same and none can write.
func (s *suite) alike(name string) (on []string, err error) {
	nodes, err := s.kube.CoreV1().Nodes().List(s.ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	pods, err := s.kube.CoreV1().Pods(s.ns).List(s.ctx, metav1.ListOptions{LabelSelector: "readers=" + name})
	if err != nil {
		return nil, err
	}
	seen := ""
	for _, p := range pods.Items {
		out, err := s.logs(p.Name)
		if err != nil || !strings.Contains(out, "ready") {
			return nil, fmt.Errorf("the reader on %q, phase %s: %w", p.Spec.NodeName, p.Status.Phase, errors.Join(err, errors.New("it has said nothing")))
		}
		what, _, _ := strings.Cut(out, "\n")
		if seen == "" {
			seen = what
		}
		refused := slices.ContainsFunc(refusals(), func(r string) bool { return strings.Contains(out, r) })
		if what != seen || !refused {
			return nil, fmt.Errorf("the reader on %s says %q, another one %q", p.Spec.NodeName, out, seen)
		}
		on = append(on, p.Spec.NodeName)
	}
	if len(on) != len(nodes.Items) {
		return nil, fmt.Errorf("readers on %q, want %d", on, len(nodes.Items))
	}
	return on, nil
}
