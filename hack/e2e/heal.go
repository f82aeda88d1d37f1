package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// cold volumes are attached nowhere while nodes come and go: so many, and so much on each.
const (
	coldVolumes = 4
	coldMiB     = 80
)

// cold makes a claim whose volume holds random bytes and is attached nowhere, and gives what sha256sum says of them. They are written on another node
// than the one named.
func (s *suite) cold(name string, mib int, not string) (sum string, err error) {
	if err := s.create(s.claim(name, fmt.Sprintf("%dMi", 2*mib), false, nil)); err != nil {
		return "", err
	}
	p := s.pod(name+"-fill", name, fmt.Sprintf("head -c %dM /dev/urandom > /data/f; sync; sha256sum /data/f", mib), false)
	p.Spec.Affinity = notOn(not)
	if err := s.create(p); err != nil {
		return "", err
	}
	if sum, err = s.succeeded(p.Name); err != nil {
		return "", err
	}
	return sum, s.remove(p)
}

// colds makes cold volumes, and gives by claim what they hold.
func (s *suite) colds() (map[string]string, error) {
	sums := map[string]string{}
	for i := range coldVolumes {
		name := fmt.Sprintf("cold%d", i)
		sum, err := s.cold(name, coldMiB, "none")
		if err != nil {
			return nil, err
		}
		sums[name] = sum
	}
	return sums, nil
}

// allRead has every cold volume read on another node than the one named.
func (s *suite) allRead(sums map[string]string, not string) error {
	for name, want := range sums {
		if err := s.reads(name, want, not); err != nil {
			return err
		}
	}
	return nil
}

// reads has another pod read a cold volume, on another node than the one named, and compares.
func (s *suite) reads(name, want, not string) error {
	p := s.pod(fmt.Sprintf("%s-read-%x", name, time.Now().UnixNano()), name, "sha256sum /data/f", false)
	p.Spec.Affinity = notOn(not)
	if err := s.create(p); err != nil {
		return err
	}
	got, err := s.succeeded(p.Name)
	if err == nil && got != want {
		err = fmt.Errorf("volume %s reads %q, %q was written", name, got, want)
	}
	return errors.Join(err, s.remove(p))
}

// steadyScript writes a file once, and reads it for ever, past the page cache.
const steadyScript = `
head -c 64M /dev/urandom > /data/f; sync
want=$(sha256sum < /data/f)
n=0
while got=$(dd if=/data/f bs=1M iflag=direct status=none | sha256sum) && [ "$got" = "$want" ]; do n=$((n+1)); echo "resumed 0"; echo "acked $n"; sleep 0.2; done
echo "failed: read $got, wrote $want"; sleep infinity`

// progress is what the status said while data moved.
type progress struct {
	plan, last string
	bytes      int64
	seen       map[string]bool // summaries
	rated      bool            // a rate and an end were told
}

// watch notes what the network's status says of data that moves, until stop is called.
func (s *suite) watch() (stop func() progress) {
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan progress, 1)
	go func() {
		p := progress{seen: map[string]bool{}}
		for ctx.Err() == nil {
			if n, err := s.present(); err == nil && n.Status.Rebalance != nil {
				r := n.Status.Rebalance
				if p.plan == "" {
					p.plan, p.bytes = fmt.Sprintf("layout %d, %d shards, %s", r.Layout, r.Shards, r.Summary), r.Bytes.Value()
				}
				p.last, p.seen[r.Summary], p.rated = r.Summary, true, p.rated || !r.Finishes.IsZero() && r.BytesPerSecond != nil
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
		done <- p
		close(done) // to stop again gives nothing
	}()
	return func() progress { cancel(); return <-done }
}

// emptied waits until a node holds nothing any more and says so.
func (s *suite) emptied(node string) error {
	return s.until(node+" is empty", func() error {
		n, err := s.storageNode(node)
		if err != nil {
			return err
		}
		c := meta.FindStatusCondition(n.Status.Conditions, v1alpha1.ConditionReady)
		if a := n.Status.Agent; a == nil || a.Copies > 0 || c == nil || c.Reason != v1alpha1.ReasonDrained {
			return fmt.Errorf("its Ready condition is %s", describe(c))
		}
		return nil
	})
}

// goesOn waits until a pod has had something acknowledged, or verified, that it had not before.
func (s *suite) goesOn(what string, w *writer) error {
	before, _, _ := w.state()
	return s.until(what+" goes on", func() error {
		if after, _, failed := w.state(); failed || after <= before {
			return fmt.Errorf("acked %d before, %d now, failed %t", before, after, failed)
		}
		return nil
	})
}

// drained: a storage node under load is emptied, gets its data back, changes its mind half-way, and leaves.
func drained(s *suite) (string, error) {
	nodes, err := s.storageNodes()
	if err != nil {
		return "", err
	}
	sums, err := s.colds()
	if err != nil {
		return "", err
	}
	if err := errors.Join(s.create(s.claim("steady", "256Mi", false, nil)), s.create(s.set("steady", "steady", steadyScript))); err != nil {
		return "", err
	}
	w, node, err := s.startWriter("drained")
	if err != nil {
		return "", err
	}
	steady := newWriter()
	reads, err := s.running("steady-0")
	if err != nil {
		return "", err
	}
	if err := s.follow("steady-0", steady.line); err != nil {
		return "", err
	}
	s.later(func() { _ = s.schedule(node, v1alpha1.SchedulingActive) })
	if err := s.whole(); err != nil {
		return "", err
	}
	story, err := s.emptyAndBack(node, w, steady, sums)
	if err != nil {
		return story, err
	}
	half, err := s.changeOfMind(node, w, steady)
	if err != nil {
		return story, err
	}
	other := ""
	for i := range nodes {
		if name := nodes[i].Spec.NodeName; name != node && name != reads {
			other = name
		}
	}
	gone, err := s.leaves(other, sums)
	if err != nil {
		return story, err
	}
	if err := errors.Join(s.goesOn("the writer", w), s.goesOn("the reader", steady)); err != nil {
		return story, err
	}
	acked, _, _ := w.state()
	verified, _, _ := steady.state()
	return fmt.Sprintf("%s; %s; %s; %d lines acknowledged, %d readings of 64 MiB right meanwhile", story, half, gone, acked, verified), nil
}

// emptyAndBack drains the node on which the writer runs, looks at every byte, and takes it back.
func (s *suite) emptyAndBack(node string, w, steady *writer, sums map[string]string) (string, error) {
	had, err := s.metric(node, "mynetwork_store_extents")
	if err != nil {
		return "", err
	}
	start, stop := time.Now(), s.watch()
	if err := s.scheduled(node, v1alpha1.SchedulingDrained); err != nil {
		return "", err
	}
	if err := s.emptied(node); err != nil {
		return "", err
	}
	took, p := time.Since(start), stop()
	s.say("%s drained in %.1f s; the plan was: %s; then %d more summaries, rate and end told: %t", node, took.Seconds(), p.plan, max(len(p.seen)-1, 0), p.rated)
	if p.plan == "" || p.bytes == 0 {
		return "", fmt.Errorf("the status showed no plan while %s was drained", node)
	}
	if err := errors.Join(s.goesOn("the writer", w), s.goesOn("the reader", steady), s.allRead(sums, node)); err != nil {
		return "", err
	}
	start = time.Now()
	if err := errors.Join(s.scheduled(node, v1alpha1.SchedulingActive), s.whole()); err != nil {
		return "", err
	}
	has, err := s.metric(node, "mynetwork_store_extents")
	return fmt.Sprintf("%s, with the writer on it, emptied of %.0f copies in %.0f s (plan: %s), has %.0f again %.0f s after it was taken back", node, had,
		took.Seconds(), p.plan, has, time.Since(start).Seconds()), err
}

// changeOfMind drains a node, and takes that back when about half has gone.
func (s *suite) changeOfMind(node string, w, steady *writer) (string, error) {
	had, err := s.metric(node, "mynetwork_store_extents")
	if err != nil {
		return "", err
	}
	if err := s.scheduled(node, v1alpha1.SchedulingDrained); err != nil {
		return "", err
	}
	left := had
	err = s.until("some copies have left "+node, func() (err error) {
		if left, err = s.metric(node, "mynetwork_store_extents"); err == nil && left > had*3/4 {
			err = fmt.Errorf("%.0f of %.0f are there", left, had)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	if err := errors.Join(s.scheduled(node, v1alpha1.SchedulingActive), s.whole(), s.goesOn("the writer", w), s.goesOn("the reader", steady)); err != nil {
		return "", err
	}
	has, err := s.metric(node, "mynetwork_store_extents")
	return fmt.Sprintf("a drain was taken back when %.0f of %.0f copies were left, then it had %.0f", left, had, has), err
}

// leaves takes a node out of the cluster for good, in the order that people are told, and then has it join anew.
func (s *suite) leaves(node string, sums map[string]string) (string, error) {
	start, back := time.Now(), false
	s.later(func() {
		if !back {
			_ = errors.Join(s.machine("node", "start", node), s.schedulable(node, true))
		}
	})
	if err := s.drain(node); err != nil {
		return "", err
	}
	waited, err := s.removed(node)
	if err != nil {
		return "", err
	}
	took := time.Since(start)
	// While it is chosen the operator makes it a StorageNode again: it goes from Kubernetes too.
	if err := s.machine("node", "poweroff", node); err != nil {
		return "", err
	}
	if err := s.kube.CoreV1().Nodes().Delete(s.ctx, node, metav1.DeleteOptions{}); err != nil {
		return "", err
	}
	if _, err := s.removed(node); err != nil {
		return "", err
	}
	if err := errors.Join(s.whole(), s.allRead(sums, node)); err != nil {
		return "", err
	}
	away := time.Now()
	back = true
	if err := errors.Join(s.machine("node", "start", node), s.schedulable(node, true), s.whole()); err != nil {
		return "", fmt.Errorf("%s joins again: %w", node, err)
	}
	return fmt.Sprintf("%s left after %.0f s (waited for: %s), its Node was deleted, every byte is read without it; started again it has joined, and has its copies, after %.0f s",
		node, took.Seconds(), waited, time.Since(away).Seconds()), nil
}

// removed deletes a StorageNode, if there is one, and waits until it is gone, or another one has its place; what it said that it waited for is given.
func (s *suite) removed(node string) (waited string, err error) {
	n, err := s.storageNode(node)
	if err == nil {
		err = s.c.Delete(s.ctx, n)
	}
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	err = s.until("the StorageNode of "+node+" is gone", func() error {
		now, err := s.storageNode(node)
		switch {
		case apierrors.IsNotFound(err), err == nil && now.UID != n.UID:
			return nil
		case err != nil:
			return err
		}
		c := meta.FindStatusCondition(now.Status.Conditions, v1alpha1.ConditionReady)
		if c != nil && c.Reason != v1alpha1.ReasonDeleting && now.DeletionTimestamp != nil {
			waited, _, _ = strings.Cut(c.Reason+": "+c.Message, ". ")
		}
		return fmt.Errorf("its Ready condition is %s", describe(c))
	})
	return waited, err
}
