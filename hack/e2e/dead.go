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

// missedRatio is the promise: a node that was away fetches at most so much for each byte that it missed.
const missedRatio = 1.1

// setSpec changes the MyNetwork's spec until the case has ended.
func (s *suite) setSpec(change func(*v1alpha1.MyNetworkSpec)) error {
	n, err := s.present()
	if err != nil {
		return err
	}
	was := n.Spec.DeepCopy()
	put := func(f func(*v1alpha1.MyNetworkSpec)) error {
		n, err := s.present()
		if err != nil {
			return err
		}
		before := n.DeepCopy()
		f(&n.Spec)
		return s.c.Patch(s.ctx, n, client.MergeFrom(before))
	}
	s.later(func() {
		if err := put(func(spec *v1alpha1.MyNetworkSpec) { *spec = *was }); err != nil {
			s.say("the network's spec is not what it was: %v", err)
		}
	})
	return put(change)
}

// nodeOutage: a node that returns early fetches what it missed; one that stays away is taken out, its data is made again on the others, and
// when it returns late it joins by itself.
func nodeOutage(s *suite) (string, error) {
	nodes, err := s.storageNodes()
	if err != nil {
		return "", err
	}
	sums, err := s.colds()
	if err != nil {
		return "", err
	}
	w, on, err := s.startWriter("outage")
	if err != nil {
		return "", err
	}
	if err := s.whole(); err != nil {
		return "", err
	}
	away := nodes[0].Spec.NodeName
	if away == on {
		away = nodes[1].Spec.NodeName
	}
	early, err := s.early(away, w)
	if err != nil {
		return "", err
	}
	if err := s.setSpec(func(spec *v1alpha1.MyNetworkSpec) { spec.Nodes.DownAfter = &metav1.Duration{Duration: time.Minute} }); err != nil {
		return early, err
	}
	late, err := s.late(on, w, sums)
	return early + "; " + late, err
}

// early takes a node's power for less than the grace time, while much is written, and compares what it fetches with what it missed.
func (s *suite) early(node string, w *writer) (string, error) {
	live, err := s.metric(node, "mynetwork_store_live_bytes")
	if err != nil {
		return "", err
	}
	if err := s.powerOff(node); err != nil {
		return "", err
	}
	if _, err := s.cold("missed", coldMiB, node); err != nil {
		return "", err
	}
	if err := s.goesOn("the writer", w); err != nil {
		return "", err
	}
	if err := errors.Join(s.machine("node", "start", node), s.whole()); err != nil {
		return "", err
	}
	var now, freed, fetched float64
	for name, into := range map[string]*float64{"mynetwork_store_live_bytes": &now, "mynetwork_store_freed_bytes_total": &freed, "mynetwork_replication_bytes_total": &fetched} {
		if *into, err = s.metric(node, name); err != nil {
			return "", err
		}
	}
	const mib = 1 << 20
	missed := now - live + freed
	if missed < mib {
		return "", fmt.Errorf("%s missed but %.1f MiB while it was away: that proves nothing", node, missed/mib)
	}
	ratio := fetched / missed
	result := fmt.Sprintf("%s was away for less than the grace time, missed %.1f MiB and fetched %.1f MiB (%.2f of it)", node, missed/mib, fetched/mib, ratio)
	s.say("%s", result)
	if ratio > missedRatio {
		return "", fmt.Errorf("%s, promised are %.1f", result, missedRatio)
	}
	return result, nil
}

// late takes a node's power for longer than the grace time, which ends while it is away.
func (s *suite) late(node string, w *writer, sums map[string]string) (string, error) {
	since := time.Now()
	before, err := s.fetchedBy(node)
	if err != nil {
		return "", err
	}
	layout, err := s.present()
	if err != nil {
		return "", err
	}
	stop := s.watch()
	defer stop()
	if err := s.powerOff(node); err != nil {
		return "", err
	}
	after, to, took, err := s.takenOver("outage", node, since)
	if err != nil {
		return "", err
	}
	if _, _, err := nothingLost(w, after); err != nil {
		return "", err
	}
	s.say("%s died; the writer serves on %s after %.1f s", node, to, took.Seconds())
	if err := s.newLayout(layout); err != nil {
		return "", fmt.Errorf("%s is taken out: %w", node, err)
	}
	out := time.Since(since)
	if err := s.wholeWithout(node); err != nil {
		return "", err
	}
	restored, p := time.Since(since)-out, stop()
	made, err := s.fetchedBy(node)
	if err != nil {
		return "", err
	}
	story, several := "", 0
	for name, bytes := range made {
		if more := bytes - before[name]; more > 0 {
			several++
			story += fmt.Sprintf(" %s %.0f MiB", name, more/(1<<20))
		}
	}
	s.say("taken out after %.0f s; all copies are there again %.0f s later (plan: %s), made by%s", out.Seconds(), restored.Seconds(), p.plan, story)
	if several < 2 || p.plan == "" {
		return "", fmt.Errorf("copies were made by %d nodes, want all the others to share that; the plan was %q", several, p.plan)
	}
	if err := errors.Join(s.allRead(sums, node), s.goesOn("the writer", after)); err != nil {
		return "", err
	}
	back := time.Now()
	if err := errors.Join(s.machine("node", "start", node), s.whole()); err != nil {
		return "", fmt.Errorf("%s comes back late: %w", node, err)
	}
	rejoined := time.Since(back)
	if err := errors.Join(s.allRead(sums, to), s.goesOn("the writer", after), s.told(since, v1alpha1.EventNodeTakenOut, v1alpha1.EventNodeTakenBack, v1alpha1.EventVolumeFenced)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s lost its power: serving on %s after %.1f s, taken out after %.0f s, all copies there again %.0f s later, made by%s; back late, it has its share %.0f s after it was started",
		node, to, took.Seconds(), out.Seconds(), restored.Seconds(), story, rejoined.Seconds()), nil
}

// wholeWithout waits until the others have all copies that a layout without a node gives them, and the StorageNode says that it was taken out.
func (s *suite) wholeWithout(node string) error {
	return s.until("the others have all copies without "+node, func() error {
		n, err := s.present()
		if err != nil {
			return err
		}
		var nodes v1alpha1.StorageNodeList
		if err := s.c.List(s.ctx, &nodes); err != nil {
			return err
		}
		for _, o := range nodes.Items {
			a, c := o.Status.Agent, meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReady)
			switch {
			case o.Spec.NodeName == node && (c == nil || c.Reason != v1alpha1.ReasonTakenOut):
				return fmt.Errorf("the Ready condition of %s is %s", node, describe(c))
			case o.Spec.NodeName != node && (a == nil || a.MissingCopies > 0 || a.SyncedVersion < n.Status.Layout.Version):
				return fmt.Errorf("%s waits for %d copies and holds all of layout %d of %d", o.Spec.NodeName, a.MissingCopies, a.SyncedVersion, n.Status.Layout.Version)
			}
		}
		return is(n.Status.Conditions, v1alpha1.ConditionRebalancing, metav1.ConditionFalse)
	})
}

// fetchedBy is how many bytes each node but one has fetched of copies.
func (s *suite) fetchedBy(not string) (map[string]float64, error) {
	nodes, err := s.storageNodes()
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for i := range nodes {
		if name := nodes[i].Spec.NodeName; name != not {
			if out[name], err = s.metric(name, "mynetwork_replication_bytes_total"); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// happened lists the events since a time, oldest first.
func (s *suite) happened(ctx context.Context, since time.Time) ([]corev1.Event, error) {
	list, err := s.kube.CoreV1().Events("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(list.Items, func(e corev1.Event) bool { return when(&e).Before(since.Truncate(time.Second)) })
	slices.SortFunc(out, func(a, b corev1.Event) int { return when(&a).Compare(when(&b)) })
	return out, nil
}

// when an event was told last.
func when(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil && !e.Series.LastObservedTime.IsZero():
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

// told waits until events of these reasons have been told since a time.
func (s *suite) told(since time.Time, reasons ...string) error {
	return s.until("the events tell of "+strings.Join(reasons, ", "), func() error {
		list, err := s.happened(s.ctx, since)
		if err != nil {
			return err
		}
		for _, reason := range reasons {
			if !slices.ContainsFunc(list, func(e corev1.Event) bool { return e.Reason == reason }) {
				err = errors.Join(err, fmt.Errorf("none of %d events is %s", len(list), reason))
			}
		}
		return err
	})
}
