package main

import (
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// readerScript prints what a reader sees, tries to write, and goes on reading.
const readerScript = "echo sum $(sha256sum < /data/log) lines $(wc -l < /data/log); " +
	"touch /data/x 2>&1; echo ready; while sleep 0.5; do cat /data/log > /dev/null || exit 1; date +%s; done"

// readers: a snapshot of a volume that is being written is mounted read-only on all nodes at once, that of the writer among them; all see the
// same, and nobody can write it.
func readers(s *suite) (string, error) {
	nodes, err := s.manyReaders("many")
	if err != nil {
		return "", err
	}
	if err := s.remove(s.pod("many-writer", "many-origin", "", false)); err != nil {
		return "", err
	}
	return fmt.Sprintf("one volume of a snapshot under writes is read on %s; all see the same, and writes are refused with EROFS", strings.Join(nodes, ", ")), nil
}

// readerDies: readers go on when the node of another one loses its power.
func readerDies(s *suite) (string, error) {
	nodes, err := s.manyReaders("mourning")
	if err != nil {
		return "", err
	}
	dead := nodes[len(nodes)-1]
	if err := s.machine("node", "poweroff", dead); err != nil {
		return "", err
	}
	s.later(func() { s.nodeBack(dead) })
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
func (s *suite) manyReaders(name string) (nodes []string, err error) {
	if err := s.create(s.claim(name+"-origin", "512Mi", false, nil)); err != nil {
		return nil, err
	}
	if err := s.create(s.pod(name+"-writer", name+"-origin", "while true; do echo line >> /data/log; sync /data/log; done", false)); err != nil {
		return nil, err
	}
	if _, err := s.running(name + "-writer"); err != nil {
		return nil, err
	}
	snap := s.snapshot(name, name+"-origin")
	if err := errors.Join(s.create(snap), s.snapshotReady(snap)); err != nil {
		return nil, err
	}
	claim := s.claim(name, "512Mi", false, source("VolumeSnapshot", name))
	claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany}
	spec := s.podSpec(name, readerScript, false)
	spec.RestartPolicy = corev1.RestartPolicyAlways
	labels := map[string]string{"readers": name}
	set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec}}}
	if err := errors.Join(s.create(claim), s.create(set)); err != nil {
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
		if what != seen || !strings.Contains(out, "Read-only file system") {
			return nil, fmt.Errorf("the reader on %s says %q, another one %q", p.Spec.NodeName, out, seen)
		}
		on = append(on, p.Spec.NodeName)
	}
	if len(on) != len(nodes.Items) {
		return nil, fmt.Errorf("readers on %q, want %d", on, len(nodes.Items))
	}
	return on, nil
}
