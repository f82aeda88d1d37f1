package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// graceOfThrash is nodes.downAfter while it thrashes: the least that there is.
func graceOfThrash() *metav1.Duration { return &metav1.Duration{Duration: time.Minute} }

// maxFlips is how many bits are flipped on a node's disk in all: with 16 damaged areas in a day a disk is given up.
const maxFlips = 9

// fault is one thing that is done to the cluster, and undone before it returns.
type fault struct {
	name   string
	weight int
	do     func(node string) error
}

func (t *thrash) faults() []fault {
	return []fault{
		{"power off", 4, func(n string) error { return t.off(n, 0, 30*time.Second) }},
		{"power off for long", 2, func(n string) error { return t.off(n, 75*time.Second, 100*time.Second) }},
		{"partition", 3, func(n string) error { return t.cut(n) }},
		{"partition from one", 2, func(n string) error { return t.cut(n, t.another(n)) }},
		{"partition from the API server", 2, func(n string) error { return t.cut(n, "api") }},
		{"agent killed", 3, func(n string) error { return t.s.killComponent("agent", n) }},
		{"agent stands still", 2, t.still},
		{"holder killed", 1, func(n string) error { return t.s.killComponent("holder", n) }},
		{"plugin killed", 2, func(n string) error { return t.s.killComponent("csi-node", n) }},
		{"operator killed", 2, func(string) error { return t.s.killComponent("operator", "") }},
		{"API server away", 2, t.noAPI},
		{"drain a storage node", 3, t.emptyAndFill},
		{"storage node leaves", 1, t.evictNode},
		{"bits flip", 2, t.rot},
		{"disk full", 2, t.fill},
		{"disk stands still", 2, t.slow},
		{"pod deleted", 3, func(string) error { return t.s.deletePod(t.loads[t.r.IntN(len(t.loads))].name + "-0") }},
	}
}

// another is a node that is not this one.
func (t *thrash) another(node string) string {
	for {
		if n := t.nodes[t.r.IntN(len(t.nodes))]; n != node {
			return n
		}
	}
}

// hurts notes that pods of a node may be given errors, until the function that it gives is called.
func (t *thrash) hurts(node string) (over func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := len(t.hurt)
	t.hurt = append(t.hurt, span{node: node, from: time.Now()})
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.hurt[i].to = time.Now()
	}
}

// off takes a node's power for a while.
func (t *thrash) off(node string, least, most time.Duration) error {
	defer t.hurts(node)()
	if err := t.s.machine("node", "poweroff", node); err != nil {
		return err
	}
	t.between(least, most)
	return errors.Join(t.s.machine("node", "start", node), t.serves(node))
}

// serves waits until the agent of a node serves again.
func (t *thrash) serves(node string) error {
	return t.s.until("the agent of "+node+" serves", func() error {
		pods, err := t.s.component("agent", node)
		if err == nil && !podReady(&pods[0]) {
			err = fmt.Errorf("pod %s is not ready", pods[0].Name)
		}
		if err != nil {
			return err
		}
		_, err = t.s.agentSays(node, "node", "list")
		return err
	})
}

// cut takes a node from others, or from all.
func (t *thrash) cut(node string, from ...string) error {
	defer t.hurts(node)()
	args := []string{"node", "partition", node}
	if len(from) > 0 {
		args = append(args, "--from", strings.Join(from, ","))
	}
	if err := t.s.machine(args...); err != nil {
		return err
	}
	t.between(3*time.Second, 40*time.Second)
	return errors.Join(t.s.machine("node", "heal", node), t.serves(node))
}

// still stops the agent's process for a while, as a disk or a kernel that hangs does.
func (t *thrash) still(node string) error {
	signal := func(name string) error {
		return t.s.machine("node", "exec", node, "--", "pkill", name, "-f", "^/mynetwork agent")
	}
	if err := signal("-STOP"); err != nil {
		return err
	}
	t.between(time.Second, 12*time.Second)
	if err := signal("-CONT"); err != nil && !strings.Contains(err.Error(), "it said nothing") { // it may have been replaced
		return err
	}
	return t.serves(node)
}

// onDisk runs a script on a node, in the directory of its own disk.
func (t *thrash) onDisk(node, script string) error {
	return t.s.machine("node", "exec", node, "--", "sh", "-ec", "cd /var/lib/mynetwork; mountpoint -q . || { echo no disk of its own is mounted here; exit 1; }; "+script)
}

// fill leaves no byte of the node's disk to its store, until something else that lies there goes.
func (t *thrash) fill(node string) error {
	err := t.onDisk(node, `for n in 1G 256M 64M 16M 4M 1M 64K 4K; do while fallocate -o "$(stat -c %s ballast 2>/dev/null || echo 0)" -l $n ballast 2>/dev/null; do :; done; done; [ -s ballast ]`)
	if err == nil {
		err = t.s.until("the status of "+node+" tells that its disk is full", func() error {
			n, err := t.s.storageNode(node)
			if err != nil {
				return err
			}
			if a := n.Status.Agent; a == nil || !slices.Contains(a.Pressure, "disk") || !meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionUnderPressure) {
				return fmt.Errorf("its conditions are %+v", n.Status.Conditions)
			}
			return nil
		})
		t.between(time.Second, 20*time.Second)
	}
	return errors.Join(err, t.onDisk(node, "rm ballast"), t.serves(node))
}

// slow has the node's disk stand still for moments, as one does that tries a bad sector again and again.
func (t *thrash) slow(node string) error {
	for range 2 + t.r.IntN(4) {
		err := t.onDisk(node, "fsfreeze -f .")
		t.between(300*time.Millisecond, 2500*time.Millisecond)
		if err = errors.Join(err, t.onDisk(node, "fsfreeze -u .")); err != nil {
			return err
		}
		t.between(100*time.Millisecond, 1500*time.Millisecond)
	}
	return t.serves(node)
}

// noAPI stops the API server for up to a minute.
func (t *thrash) noAPI(string) error {
	if err := t.s.machine("apiserver", "stop"); err != nil {
		return err
	}
	t.between(5*time.Second, time.Minute)
	return t.s.machine("apiserver", "start")
}

// emptyAndFill drains a storage node, waits until it is empty, or not, and takes it back.
func (t *thrash) emptyAndFill(node string) error {
	if err := t.s.schedule(node, v1alpha1.SchedulingDrained); err != nil {
		return err
	}
	var err error
	if t.r.IntN(2) == 0 {
		t.between(time.Second, 20*time.Second)
	} else {
		err = t.s.emptied(node)
	}
	return errors.Join(err, t.s.schedule(node, v1alpha1.SchedulingActive))
}

// evictNode takes a node out of the network and the cluster for good, and adds it again.
func (t *thrash) evictNode(node string) error {
	if err := errors.Join(t.s.whole(), t.s.drain(node)); err != nil {
		return err
	}
	over := t.hurts(node)
	waited, err := t.s.removed(node)
	if err != nil {
		return err
	}
	t.s.say("%s has left, and waited for %q", node, waited)
	if err := t.s.machine("node", "poweroff", node); err != nil {
		return err
	}
	err = t.s.kube.CoreV1().Nodes().Delete(t.s.ctx, node, metav1.DeleteOptions{})
	if err == nil {
		_, err = t.s.removed(node)
	}
	t.between(time.Second, 20*time.Second)
	err = errors.Join(err, t.s.machine("node", "start", node), t.s.schedulable(node, true), t.serves(node))
	over()
	return err
}

// rot flips bits on a node's disk when all copies are there, and has all that lies there read.
func (t *thrash) rot(node string) error {
	if err := t.s.whole(); err != nil {
		return err
	}
	if t.flips[node] >= maxFlips {
		return nil
	}
	found, repaired, _, err := t.s.damage(node)
	if err != nil {
		return err
	}
	if len(t.s.closed(node, "")) == 0 {
		t.s.say("%s has no closed extent yet", node)
		return nil
	}
	n, err := t.s.flip(node, "", 1+t.r.IntN(3))
	if err != nil {
		return err
	}
	t.flips[node] += n
	o, err := t.s.storageNode(node)
	if err != nil {
		return err
	}
	before := o.DeepCopy()
	o.Annotations = map[string]string{v1alpha1.AnnotationScrub: time.Now().UTC().Format(time.RFC3339)}
	if err := t.s.c.Patch(t.s.ctx, o, client.MergeFrom(before)); err != nil {
		return err
	}
	asked := time.Now().Truncate(time.Second)
	return t.s.until(fmt.Sprintf("the scrub of %s has repaired %d flipped bits", node, n), func() error {
		f, r, at, err := t.s.damage(node)
		// What the cleaner freed in between is not found; what is found is repaired.
		if err == nil && (at.Before(asked) || r-repaired < f-found) {
			err = fmt.Errorf("found %d, repaired %d, last scrubbed %s", f-found, r-repaired, at.Format(time.TimeOnly))
		}
		return err
	})
}

// deletePod deletes a pod and does not wait.
func (s *suite) deletePod(name string) error {
	return client.IgnoreNotFound(s.kube.CoreV1().Pods(s.ns).Delete(s.ctx, name, metav1.DeleteOptions{}))
}

// chores are what users do meanwhile: snapshots of volumes that are written to, restored, read, and compared.
func (t *thrash) chores(ctx context.Context, s *suite) {
	for i := 0; pause(ctx, 20*time.Second) && len(t.bad()) == 0; i++ {
		l := t.loads[i%len(t.loads)]
		limited, cancel := context.WithTimeout(ctx, choreWithin)
		c := *s
		c.ctx, c.undo = limited, nil
		if err := t.restored(&c, l, fmt.Sprintf("chore%d", i)); err != nil && ctx.Err() == nil {
			t.broken(err)
		}
		c.cleanup()
		cancel()
	}
}

// restored makes a snapshot of a load's volume, and a volume of it, and reads there what had been acknowledged before the snapshot. What the API server
// or a node that is away refuses is tried again.
func (t *thrash) restored(c *suite, l *load, name string) error {
	again := func(what string, o client.Object) error {
		return c.until(what, func() error { return ignoreExists(c.create(o)) })
	}
	l.mu.Lock()
	acked := map[int]int{}
	for p, n := range l.acked {
		acked[p] = n
	}
	l.mu.Unlock()
	snap := c.snapshot(name, l.name)
	if err := again("the snapshot is made", snap); err != nil {
		return err
	}
	if err := c.snapshotReady(snap); err != nil {
		return err
	}
	script := fmt.Sprintf(loadScript, loadPages)
	script = script[:strings.Index(script, "n=0;")] // up to what it has
	p := c.pod(name, name, script, false)
	p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	if err := errors.Join(again("the claim is made", c.claim(name, "256Mi", false, source("VolumeSnapshot", name))), again("the pod is made", p)); err != nil {
		return err
	}
	other := &load{name: name + " (a restored snapshot of " + l.name + ")", acked: acked}
	err := c.until("the restored snapshot is read", func() error {
		out, err := c.logs(name)
		if err != nil {
			return err
		}
		first := true
		for line := range strings.Lines(out) {
			other.line("a node", strings.TrimSpace(line), &first)
		}
		if _, started, _, wrong, _ := other.state(); started == 0 && len(wrong) == 0 {
			return fmt.Errorf("it has not said what it has: %s", tail(out, 2))
		}
		return nil
	})
	_, _, _, wrong, _ := other.state()
	for _, w := range wrong {
		err = errors.Join(err, errors.New(w))
	}
	if err == nil {
		t.mu.Lock()
		t.count["snapshot restored and read"]++
		t.mu.Unlock()
	}
	return err
}

// tellLie breaks a promise, which has to be found out.
func (t *thrash) tellLie(what string) error {
	switch what {
	case "lost": // a write is taken for acknowledged that never was
		l := t.loads[0]
		l.mu.Lock()
		defer l.mu.Unlock()
		l.acked[7] = 1 << 40
		return nil
	case "copies": // all copies of closed extents are spoiled
		if err := t.s.whole(); err != nil {
			return err
		}
		for _, n := range t.nodes {
			for _, f := range t.s.closed(n, "") {
				if err := spoilAll(f); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return fmt.Errorf("there is no lie %q: lost or copies", what)
}
