package storagenode_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// Fetch implements storagenode.Bodies.
func (w *world) Fetch(_ context.Context, _ *v1alpha1.MyNetwork, hash [32]byte) ([]byte, error) {
	if b, ok := w.bodies[hash]; ok {
		return b, nil
	}
	return nil, mynetwork.ErrNoBody
}

// publish makes the network's layout one that takes all data from some nodes, with which everything else is in place.
func (w *world) publish(version int64, from ...string) {
	w.t.Helper()
	var l *placement.Layout
	for l == nil || l.Version() < uint64(version) {
		var members []placement.Node
		for i, name := range []string{"a", "b", "c"} {
			m := placement.Node{ID: name, Weight: 100 + uint64(i)}
			if l != nil {
				m.Weight += l.Version()
			}
			for _, f := range from {
				if f == name {
					m.State = placement.Draining
				}
			}
			members = append(members, m)
		}
		next, err := placement.Compute(members, placement.Params{Replicas: 2}, l)
		if err != nil {
			w.t.Fatal(err)
		}
		l = next
	}
	body, err := l.AppendBinary(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	hash := l.Hash()
	w.bodies[hash] = body
	n := &v1alpha1.MyNetwork{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: "main"}, n); err != nil {
		w.t.Fatal(err)
	}
	n.Status.Layout = &v1alpha1.LayoutStatus{Version: version, Hash: hex.EncodeToString(hash[:])}
	if err := w.client.Status().Update(w.t.Context(), n); err != nil {
		w.t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		w.edit(name, func(n *v1alpha1.StorageNode) {
			if a := n.Status.Agent; a != nil {
				a.SyncedVersion, a.InPlaceVersion = version, version
			}
		})
	}
}

// record is a volume of the network.
func record(id, name string, change func(*v1alpha1.VolumeRecord)) *v1alpha1.VolumeRecord {
	r := &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: "u-1." + id}, Spec: v1alpha1.VolumeRecordSpec{Network: "main", VolumeID: strings.Repeat(id, 32), Name: name, Copies: 3}}
	if change != nil {
		change(r)
	}
	return r
}

// TestDeletion: a node goes when nobody counts on it, and until then says who does. Each reason to wait is the only one: without it the
// node goes.
func TestDeletion(t *testing.T) {
	agent := func(node string, change func(*v1alpha1.AgentStatus)) func(*world) {
		return func(w *world) { w.edit(node, func(n *v1alpha1.StorageNode) { change(n.Status.Agent) }) }
	}
	empty := agent("c", func(a *v1alpha1.AgentStatus) { a.Copies = 0 })
	for name, c := range map[string]struct {
		first  func(*world)
		change func(*world)
		gone   bool
		reason string
		says   []string
	}{
		"holds copies": {nil, agent("c", func(a *v1alpha1.AgentStatus) { a.LeavingVolumes = []string{strings.Repeat("1", 32)} }), false, v1alpha1.ReasonDraining, []string{"7 copies", "shop/orders"}},
		"holds last": {empty, agent("c", func(a *v1alpha1.AgentStatus) {
			a.LastCopies, a.LastVolumes = 1, []string{strings.Repeat("1", 32), strings.Repeat("9", 32)}
		}), false, v1alpha1.ReasonLastCopies, []string{"1 pieces", "shop/orders, volume 9999"}},
		"says nothing": {nil, func(w *world) { w.edit("c", func(n *v1alpha1.StorageNode) { n.Status.Agent = nil }) }, false, v1alpha1.ReasonLastCopies, []string{"has not said"}},
		"is empty":     {empty, nil, true, "", nil},
		"never held any": {nil, func(w *world) {
			w.edit("c", func(n *v1alpha1.StorageNode) { n.Status.Agent, n.Status.LayoutVersion = nil, 0 })
		}, true, "", nil},
		"a journal elsewhere may name it": {empty, agent("a", func(a *v1alpha1.AgentStatus) {
			a.InPlaceVersion, a.UnplacedVolumes = 1, []string{strings.Repeat("1", 32)}
		}), false,
			v1alpha1.ReasonVolumesNotInPlace, []string{"open on a", "layout 1 last, not with 2", "shop/orders"}},
		"a journal here may name it":  {empty, agent("c", func(a *v1alpha1.AgentStatus) { a.InPlaceVersion = 0 }), false, v1alpha1.ReasonVolumesNotInPlace, []string{"open on c"}},
		"others lack copies":          {empty, agent("b", func(a *v1alpha1.AgentStatus) { a.MissingCopies = 4 }), false, v1alpha1.ReasonVolumesNotInPlace, []string{"b waits for 4 copies"}},
		"others may lack copies":      {empty, agent("b", func(a *v1alpha1.AgentStatus) { a.SyncedVersion = 1 }), false, v1alpha1.ReasonVolumesNotInPlace, []string{"not known yet whether b"}},
		"another has not spoken":      {empty, func(w *world) { w.edit("b", func(n *v1alpha1.StorageNode) { n.Status.Agent = nil }) }, false, v1alpha1.ReasonVolumesNotInPlace, []string{"agent of b"}},
		"the layout has it still":     {empty, func(w *world) { w.publish(3) }, false, v1alpha1.ReasonVolumesNotInPlace, []string{"layout 3 puts data there"}},
		"the layout can not be had":   {empty, func(w *world) { clear(w.bodies) }, false, v1alpha1.ReasonVolumesNotInPlace, []string{"can not be fetched"}},
		"a volume is attached there":  {empty, func(w *world) { w.hold("c", 5, 5) }, false, v1alpha1.ReasonVolumesAttached, []string{"shop/orders", "Move their pods"}},
		"a volume was attached there": {empty, func(w *world) { w.hold("c", 4, 5) }, true, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, record("1", "pvc-1", func(r *v1alpha1.VolumeRecord) {
				r.Spec.Claim = &v1alpha1.ClaimReference{Namespace: "shop", Name: "orders"}
			}))
			w.settle()
			w.publish(2, "c")
			for _, f := range []func(*world){c.first, c.change} {
				if f != nil {
					f(w)
				}
			}
			if err := w.client.Delete(t.Context(), w.node("c")); err != nil {
				t.Fatal(err)
			}
			w.settle()
			err := w.client.Get(t.Context(), client.ObjectKey{Name: "main.c"}, &v1alpha1.StorageNode{})
			if gone := err != nil && client.IgnoreNotFound(err) == nil; gone != c.gone {
				t.Fatalf("gone is %v", gone)
			}
			if !c.gone {
				w.says("c", c.reason, c.says...)
				w.told(c.reason, c.says...)
			}
		})
	}
}

// hold notes that a node has volume 1 in an epoch, of which now is the newest.
func (w *world) hold(node string, epoch, now int64) {
	w.t.Helper()
	r := &v1alpha1.VolumeRecord{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: "u-1.1"}, r); err != nil {
		w.t.Fatal(err)
	}
	r.State.Holder, r.State.HolderEpoch, r.Fact.Epoch = node, epoch, now
	if err := w.client.Update(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
}

// says checks the reason and the words of a node's Ready.
func (w *world) says(name, reason string, words ...string) {
	w.t.Helper()
	c := meta.FindStatusCondition(w.node(name).Status.Conditions, v1alpha1.ConditionReady)
	if c == nil || c.Reason != reason {
		w.t.Errorf("%+v, want %s", c, reason)
		return
	}
	for _, word := range words {
		if !strings.Contains(c.Message, word) {
			w.t.Errorf("%q does not say %q", c.Message, word)
		}
	}
	if strings.Contains(c.Message, "whole") {
		w.t.Errorf("%q names a volume that misses nothing", c.Message)
	}
}

// told checks that an event was made with a reason and words.
func (w *world) told(reason string, words ...string) {
	w.t.Helper()
	var all []string
next:
	for len(w.events.Events) > 0 {
		e := <-w.events.Events
		all = append(all, e)
		for _, word := range append(words, reason) {
			if !strings.Contains(e, word) {
				continue next
			}
		}
		return
	}
	w.t.Errorf("no event says %s %q: %q", reason, words, all)
}

// TestDeadLeaves: a node that is lost for good goes once its copies were made again; volumes for which there are too few nodes do not
// hold it up, as it is no help to them. Another node that is lost too is not asked.
func TestDeadLeaves(t *testing.T) {
	for name, c := range map[string]struct {
		copies int32
		change func(*world)
		gone   bool
	}{
		"all is made again":       {2, nil, true},
		"copies are being made":   {2, func(w *world) { w.edit("a", func(n *v1alpha1.StorageNode) { n.Status.Agent.MissingCopies = 1 }) }, false},
		"volumes are not placed":  {2, func(w *world) { w.edit("a", func(n *v1alpha1.StorageNode) { n.Status.Agent.InPlaceVersion = 1 }) }, false},
		"there are too few nodes": {3, func(w *world) { w.edit("a", func(n *v1alpha1.StorageNode) { n.Status.Agent.InPlaceVersion = 1 }) }, true},
		"another is lost too": {2, func(w *world) {
			for _, name := range []string{"d", "e"} {
				o := w.node("c").DeepCopy()
				o.ObjectMeta = metav1.ObjectMeta{Name: "main." + name, Finalizers: []string{v1alpha1.Finalizer}}
				if o.Spec.NodeName = name; name == "d" {
					o.Status.Agent.InPlaceVersion = 0
				}
				if err := w.client.Create(w.t.Context(), o); err != nil {
					w.t.Fatal(err)
				}
			}
			for _, who := range []string{"a", "b", "e"} {
				w.edit(who, func(n *v1alpha1.StorageNode) { n.Status.Agent.Unreachable = []string{"c", "d"} })
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, record("1", "whole", func(r *v1alpha1.VolumeRecord) { r.Spec.Copies = c.copies }))
			w.publish(2, "c")
			w.edit("a", func(n *v1alpha1.StorageNode) { n.Status.Agent.Unreachable = []string{"c"} })
			w.edit("b", func(n *v1alpha1.StorageNode) { n.Status.Agent.Unreachable = []string{"c"} })
			w.edit("c", func(n *v1alpha1.StorageNode) {
				n.Status.Fencing = &v1alpha1.FencingStatus{Since: metav1.NewTime(start)}
			})
			if c.change != nil {
				c.change(w)
			}
			if err := w.client.Delete(t.Context(), w.node("c")); err != nil {
				t.Fatal(err)
			}
			w.settle()
			w.now = w.now.Add(2*mynetwork.DownAfter - 1)
			w.settle()
			w.says("c", v1alpha1.ReasonLastCopies, "7 copies were here")
			w.now = w.now.Add(1)
			w.settle()
			err := w.client.Get(t.Context(), client.ObjectKey{Name: "main.c"}, &v1alpha1.StorageNode{})
			if gone := err != nil && client.IgnoreNotFound(err) == nil; gone != c.gone {
				t.Errorf("gone is %v", gone)
			}
		})
	}
}

// TestDrained: a node counts as drained once it could go; volumes that are attached there are named.
func TestDrained(t *testing.T) {
	var many []client.Object
	var ids []string
	for i := range 8 {
		id := fmt.Sprintf("%x", i+1)
		many, ids = append(many, record(id, "v"+id, nil)), append(ids, strings.Repeat(id, 32))
	}
	w := newWorld(t, many...)
	w.edit("c", func(n *v1alpha1.StorageNode) {
		n.Spec.Scheduling, n.Status.Agent.Copies = v1alpha1.SchedulingDrained, 0
	})
	w.publish(2, "c")
	w.edit("a", func(n *v1alpha1.StorageNode) { n.Status.Agent.InPlaceVersion, n.Status.Agent.UnplacedVolumes = 1, ids })
	w.settle()
	w.says("c", v1alpha1.ReasonVolumesNotInPlace, "of v1, v2, v3, v4, v5 and 3 more")
	w.edit("a", func(n *v1alpha1.StorageNode) { n.Status.Agent.InPlaceVersion, n.Status.Agent.UnplacedVolumes = 2, nil })
	w.settle()
	w.says("c", v1alpha1.ReasonDrained, "can be shut down")
	w.hold("c", 5, 5)
	w.settle()
	w.says("c", v1alpha1.ReasonDrained, "attached there: v1")
}

// TestWaitsSayForWhat: a node that is dead for too long, one that drains and one that leaves say what they wait for, and for which volumes.
func TestWaitsSayForWhat(t *testing.T) {
	short := record("1", "pvc-1", func(r *v1alpha1.VolumeRecord) {
		r.Spec.Claim, r.State.Copies = &v1alpha1.ClaimReference{Namespace: "shop", Name: "orders"}, 2
	})
	whole := record("2", "whole", func(r *v1alpha1.VolumeRecord) { r.State.Copies = 3 })
	w := newWorld(t, short, whole)
	w.edit("a", func(n *v1alpha1.StorageNode) {
		n.Status.Agent.MissingCopies, n.Status.Agent.Unreachable = 5, []string{"c"}
	})
	w.edit("b", func(n *v1alpha1.StorageNode) { n.Status.Agent.Unreachable = []string{"c"} })
	w.edit("c", func(n *v1alpha1.StorageNode) {
		n.Status.Fencing = &v1alpha1.FencingStatus{Since: metav1.NewTime(start)}
	})
	w.settle()
	w.says("c", v1alpha1.ReasonUnreachable, "waited for 10m")
	w.now = w.now.Add(mynetwork.DownAfter)
	w.settle()
	w.says("c", v1alpha1.ReasonTakenOut, "wait for 5 copies", "shop/orders", "joins by itself")
	w.edit("a", func(n *v1alpha1.StorageNode) { n.Status.Agent.Unreachable = nil })
	w.edit("b", func(n *v1alpha1.StorageNode) { n.Status.Agent.Unreachable = nil })
	w.edit("c", func(n *v1alpha1.StorageNode) { n.Spec.Scheduling = v1alpha1.SchedulingDrained })
	w.settle()
	w.says("c", v1alpha1.ReasonDraining, "7 copies", "shop/orders")
	w.edit("c", func(n *v1alpha1.StorageNode) { n.Status.Agent.LastCopies = 2 })
	w.settle()
	w.says("c", v1alpha1.ReasonLastCopies, "7 copies", "2 of them", "shop/orders")
	if err := w.client.Delete(t.Context(), w.node("c")); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.says("c", v1alpha1.ReasonLastCopies, "2 pieces", "shop/orders")
}
