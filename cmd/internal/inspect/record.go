package inspect

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

type (
	storageClass = storagev1.StorageClass
	condition    = metav1.Condition
)

// holder says what is known of who writes the volume.
func (f *Facts) holder(l *list, r *v1alpha1.VolumeRecord) {
	st := &r.State
	if st.Holder == "" {
		return
	}
	n := f.node(r.Spec.Network, st.Holder)
	fenced := r.Status.FencedNode == st.Holder && r.Status.FencedEpoch > st.HolderEpoch
	switch {
	case fenced:
		l.bad("a pod that still runs there gets I/O errors: delete it. The volume attaches wherever its next pod starts",
			"it was taken from node %s, which could not be reached: epoch %d is fenced by %d", st.Holder, st.HolderEpoch, r.Status.FencedEpoch)
	case r.Fact.Epoch > st.HolderEpoch:
		l.note("who took it says so with its next report; if it lasts, see the agents' logs for the volume's name", "node %s held it in epoch %d, and somebody took epoch %d since", st.Holder, st.HolderEpoch, r.Fact.Epoch)
	case n == nil:
		l.bad("if that machine is off for good, the operator frees the volume; see kubectl describe mynet "+r.Spec.Network, "its holder, node %s, is no node of network %s any more", st.Holder, r.Spec.Network)
	case n.Status.Fencing != nil:
		l.bad("wait: the operator fences the volume, which takes seconds, and frees its pods; if spec.failover is Manual, or the pod has an event PodKept, do what that says",
			"its holder, node %s, is unreachable since %s", st.Holder, ago(f.Now.Sub(n.Status.Fencing.Since.Time)))
	case n.Status.Agent == nil || !n.Status.Agent.Ready:
		l.bad("wait for the agent's pod there; its devices pause meanwhile and lose nothing", "the agent of its holder, node %s, is not ready", st.Holder)
	}
}

// grants says which nodes wait for the right to attach it.
func (f *Facts) grants(l *list, r *v1alpha1.VolumeRecord) {
	for i := range r.Requests {
		q := &r.Requests[i]
		a := find(r.Status.Answers, func(a *v1alpha1.VolumeAnswer) bool { return a.Node == q.Node && a.ID == q.ID })
		what := "attach"
		if q.Deletion != nil {
			what = "delete"
		}
		switch {
		case a == nil:
			l.bad("the operator answers within seconds: is it there? kubectl -n "+f.System+" get pods -l app.kubernetes.io/component=operator",
				"node %s has asked for the right to %s it %s ago, and got no answer", q.Node, what, ago(f.Now.Sub(q.At.Time)))
		case a.Refused != "":
			l.bad("do what the reason says; the node asks again by itself", "node %s has no right to %s it: %s", q.Node, what, a.Refused)
		case q.Attach && !a.NotAfter.IsZero() && f.Now.After(a.NotAfter.Time):
			l.bad("the operator renews grants at a third of their life: is it there?", "the grant of node %s ended %s ago", q.Node, ago(f.Now.Sub(a.NotAfter.Time)))
		}
	}
}

// copies says whether it has all its copies, and what is in the way of new ones.
func (f *Facts) copies(l *list, r *v1alpha1.VolumeRecord) {
	var away, full, broken []string
	storage, unreachable := 0, 0
	for i := range f.Nodes {
		n := &f.Nodes[i]
		if n.Spec.Network != r.Spec.Network || !n.Status.Storage {
			continue
		}
		storage++
		if n.Status.Fencing != nil || n.Status.Agent == nil || !n.Status.Agent.Ready {
			away = append(away, n.Spec.NodeName)
			if n.Status.Fencing != nil {
				unreachable++
			}
			continue
		}
		for _, s := range n.Status.Agent.Stores {
			switch s.State {
			case v1alpha1.StoreFull:
				full = append(full, n.Spec.NodeName+":"+s.Path)
			case v1alpha1.StoreQuarantined, v1alpha1.StoreMissing, v1alpha1.StoreNew:
				broken = append(broken, n.Spec.NodeName+":"+s.Path+" ("+string(s.State)+")")
			}
		}
	}
	want, have := int(r.Spec.Copies), int(r.State.Copies)
	adapts(l, f.Now, r)
	if have > 0 && have < want {
		do := "copies are made again by themselves; nothing is in the way that is known"
		if len(away)+len(full)+len(broken) > 0 || storage < want {
			do = "see what is in the way below; copies are made again by themselves after that"
		}
		l.bad(do, "part of it has %d of %d copies", have, want)
	}
	if storage < want {
		l.bad("add storage nodes, or lower the copies by a VolumeAttributesClass", "it wants %d copies, and network %s has %d storage nodes", want, r.Spec.Network, storage)
	}
	if len(away) > 0 {
		l.bad("bring them back, or delete the StorageNode of one that is gone for good", "storage nodes are away: %s", strings.Join(away, ", "))
	}
	if len(full) > 0 {
		l.bad("add nodes or disks, or delete volumes and snapshots; trim file systems (fstrim)", "stores are full: %s", strings.Join(full, ", "))
	}
	if len(broken) > 0 {
		l.bad("see kubectl describe snode for each: mount the disk, or replace it and approve the new store", "stores do not serve: %s", strings.Join(broken, ", "))
	}
	if r.State.DataLoss != "" {
		l.bad("look at what replicas keep: mynetwork volume tails "+r.Spec.Name+", in the agent's pod", "DataLoss: it is weak, and went on without replicas that may alone have had acknowledged writes")
	}
	if r.Spec.Writes == v1alpha1.WriteWeak {
		if unreachable > 0 {
			l.bad("bring the nodes back if you can: they may have the newest writes. Forcing it without them loses those", "it is weak: writes were answered after one copy, which may be on a node that is away. Recovery waits for all replicas")
		} else {
			l.note("clone it with strong writes if it must survive the loss of a node", "it is weak: the loss of one node may lose flushed writes")
		}
	}
}

// AgentSocket is the agent's control socket in its pod.
const AgentSocket = "/run/mynetwork/sockets/" + v1alpha1.PlaceControl

// IsAgent tells whether a pod is an agent's.
func IsAgent(p *corev1.Pod) bool { return p.Labels[v1alpha1.LabelComponent] == "agent" }

// NetworkOf is the network that a pod of MyNetwork belongs to.
func NetworkOf(p *corev1.Pod) string { return p.Labels[v1alpha1.LabelNetwork] }

// VolumeID gives the id and the network of a volume, named as for Explain, or by its claim.
func (f *Facts) VolumeID(name, namespace string) (id, network string, err error) {
	r := f.record(strings.TrimPrefix(name, "volume/"))
	if r == nil {
		if c := f.claim(namespace, strings.TrimPrefix(name, "pvc/")); c != nil {
			r = f.recordOf(c)
		}
	}
	if r == nil {
		return "", "", fmt.Errorf("%q in namespace %s: %w", name, namespace, ErrNotFound)
	}
	return r.Spec.VolumeID, r.Spec.Network, nil
}

// clearing says which stores of the network get space back.
func (f *Facts) clearing(l *list, r *v1alpha1.VolumeRecord) {
	for i := range f.Nodes {
		n := &f.Nodes[i]
		if n.Spec.Network != r.Spec.Network || n.Status.Agent == nil {
			continue
		}
		for _, s := range n.Status.Agent.Stores {
			if s.Clearing != "" {
				l.note("it goes on by itself: Deleted, Unreferenced, Surplus; after Exhausted add nodes or disks, or delete volumes and snapshots",
					"store %s of node %s is short of space, and gets some back: %s", s.Path, n.Spec.NodeName, s.Clearing)
			}
		}
	}
}

// adapts says that the number of copies follows reads, and when it last did.
func adapts(l *list, now time.Time, r *v1alpha1.VolumeRecord) {
	if least, most := r.Spec.MinCopies, r.Spec.MaxCopies; least > 0 && least < most {
		last := "it has not changed by itself yet"
		if why := r.State.CopiesReason; why != "" {
			last = fmt.Sprintf("it last changed by itself %s ago: %s", ago(now.Sub(r.State.CopiesChanged.Time)), why)
		}
		l.note("it follows how much the volume is read while it is attached; minCopies and maxCopies of its ContentGroup are the bounds, and end it if they are taken away",
			"%d copies are wanted, of %d to %d; %s", r.Spec.Copies, least, most, last)
	}
}
