package inspect

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// ErrNotFound tells that there is nothing of that name.
var ErrNotFound = errors.New("no such volume, claim or pod")

// Finding is one thing that is not as it should be, or worth to be known.
type Finding struct {
	Object string `json:"object"` // kind/name
	Bad    bool   `json:"bad"`    // false: for information
	What   string `json:"what"`
	Do     string `json:"do"` // what to do, or who is waited for
}

// Explain says how a volume, claim or pod is. what is pod/NAME, pvc/NAME, volume/NAME, or a NAME that is looked for in this order: volumes,
// claims and pods of the namespace.
func (f *Facts) Explain(what, namespace string) ([]Finding, error) {
	kind, name, ok := strings.Cut(what, "/")
	if !ok {
		kind, name = "", what
	}
	kind = strings.ToLower(kind)
	if kind == "" || slices.Contains([]string{"volume", "pv", "persistentvolume", "volumerecord"}, kind) {
		if r := f.record(name); r != nil {
			return f.explainRecord(r), nil
		}
	}
	if kind == "" || slices.Contains([]string{"pvc", "claim", "persistentvolumeclaim"}, kind) {
		if c := f.claim(namespace, name); c != nil {
			return f.explainClaim(c), nil
		}
	}
	if kind == "" || slices.Contains([]string{"pod", "po"}, kind) {
		if p := f.pod(namespace, name); p != nil {
			return f.explainPod(p), nil
		}
	}
	if len(f.Hidden) > 0 {
		return nil, fmt.Errorf("%q in namespace %s: %w; but not all could be read: %s", what, namespace, ErrNotFound, strings.Join(f.Hidden, "; "))
	}
	return nil, fmt.Errorf("%q in namespace %s: %w", what, namespace, ErrNotFound)
}

// list collects findings about one object.
type list struct {
	object string
	out    []Finding
}

func (l *list) bad(do, format string, args ...any) {
	l.out = append(l.out, Finding{l.object, true, fmt.Sprintf(format, args...), do})
}

func (l *list) note(do, format string, args ...any) {
	l.out = append(l.out, Finding{l.object, false, fmt.Sprintf(format, args...), do})
}

// events notes the newest warning of each reason, of the last hour.
func (l *list) events(f *Facts, events []*corev1.Event) {
	newest := map[string]*corev1.Event{}
	for _, e := range events {
		if f.Now.Sub(when(e)) < time.Hour {
			newest[e.Reason] = e
		}
	}
	reasons := make([]string, 0, len(newest))
	for r := range newest {
		reasons = append(reasons, r)
	}
	slices.Sort(reasons)
	for _, r := range reasons {
		e := newest[r]
		do := "the message says what is in the way"
		if strings.Contains(e.Message, "exceeded quota") {
			do = "raise the namespace's ResourceQuota, or claim less"
		}
		l.bad(do, "%s, %s ago: %s", r, ago(f.Now.Sub(when(e))), e.Message)
	}
}

func ago(d time.Duration) string { return max(d, 0).Round(time.Second).String() }

func (f *Facts) explainPod(p *corev1.Pod) []Finding {
	l := &list{object: "pod/" + p.Name}
	node := p.Spec.NodeName
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			l.bad("the scheduler places it as soon as what the message names is there", "it is not scheduled: %s", c.Message)
		}
	}
	if p.DeletionTimestamp != nil {
		l.note("it ends by itself, unless its node is away: then the operator frees it once its volumes are fenced", "it is being deleted since %s", ago(f.Now.Sub(p.DeletionTimestamp.Time)))
	}
	if k := find(f.Kube, func(n *corev1.Node) bool { return n.Name == node }); node != "" && k == nil && len(f.Kube) > 0 {
		l.bad("delete the pod by force once you know that the machine is off", "its node %s does not exist any more", node)
	}
	l.events(f, f.about("Pod", p.Namespace, p.Name))
	ours := false
	for _, v := range p.Spec.Volumes {
		name := ""
		switch {
		case v.PersistentVolumeClaim != nil:
			name = v.PersistentVolumeClaim.ClaimName
		case v.Ephemeral != nil:
			name = p.Name + "-" + v.Name
		default:
			continue
		}
		c := f.claim(p.Namespace, name)
		if c == nil {
			l.bad("make the claim, or correct the pod's spec.volumes", "there is no claim %s for its volume %s", name, v.Name)
			continue
		}
		sub := f.explainClaim(c)
		l.out = append(l.out, sub...)
		if r := f.recordOf(c); r != nil {
			ours = true
			f.onNode(l, r, node)
		}
	}
	if !ours && len(l.out) == 0 {
		l.note("", "it mounts no volume of MyNetwork, and nothing is known against it")
	}
	return l.out
}

// onNode says whether a volume can serve on the node that a pod is on.
func (f *Facts) onNode(l *list, r *v1alpha1.VolumeRecord, node string) {
	if node == "" {
		return
	}
	n := f.node(r.Spec.Network, node)
	switch {
	case n == nil:
		l.bad("move the pod to a node of the network (spec.nodes.selector of MyNetwork "+r.Spec.Network+"), or add the node to it", "node %s does not belong to network %s", node, r.Spec.Network)
	case n.Status.Agent == nil || !n.Status.Agent.Ready:
		l.bad("wait for the agent's pod on that node: kubectl -n "+f.System+" get pods -o wide", "the agent of network %s on node %s is not ready", r.Spec.Network, node)
	case n.Status.Fencing != nil:
		l.bad("bring the node back, or let the pod's controller start it elsewhere", "a majority of the storage nodes can not reach node %s", node)
	}
	if h := r.State.Holder; h != "" && h != node && r.Status.FencedNode != h {
		l.bad("the pod waits for node "+h+": end the pod that uses the volume there, or see what is said about that node", "the volume is held by node %s, this pod is on %s", h, node)
	}
}

func (f *Facts) recordOf(c *corev1.PersistentVolumeClaim) *v1alpha1.VolumeRecord {
	if c.Spec.VolumeName == "" {
		return nil
	}
	return f.record(c.Spec.VolumeName)
}

func (f *Facts) explainClaim(c *corev1.PersistentVolumeClaim) []Finding {
	l := &list{object: "pvc/" + c.Name}
	class := ""
	if c.Spec.StorageClassName != nil {
		class = *c.Spec.StorageClassName
	}
	sc := find(f.Classes, func(s *storageClass) bool { return s.Name == class })
	switch {
	case c.Status.Phase == corev1.ClaimLost:
		l.bad("its PersistentVolume is gone; the data is kept: see volumes without claim by kubectl mynetwork status", "the claim is lost")
	case c.Status.Phase != corev1.ClaimPending && c.Status.Phase != "":
	case class == "":
		l.bad("name a StorageClass: spec.storageClassName", "it is pending, and names no StorageClass")
	case sc == nil && len(f.Classes) > 0:
		l.bad("name one that there is: kubectl get storageclass", "it is pending: there is no StorageClass %s", class)
	case sc != nil && sc.Provisioner != v1alpha1.DriverName:
		l.note("ask who runs "+sc.Provisioner, "it is pending, and not of MyNetwork: class %s belongs to %s", class, sc.Provisioner)
	case sc != nil && sc.VolumeBindingMode != nil && *sc.VolumeBindingMode == "WaitForFirstConsumer" && c.Annotations["volume.kubernetes.io/selected-node"] == "":
		l.note("start a pod that mounts it", "it is pending until a pod that mounts it is scheduled")
	default:
		l.bad("it is waited for the CSI controller: kubectl -n "+f.System+" logs deploy/mynetwork-csi-controller -c provisioner", "it is pending since %s", ago(f.Now.Sub(c.CreationTimestamp.Time)))
	}
	for _, k := range c.Status.Conditions {
		if k.Status == corev1.ConditionTrue {
			l.note("it goes on by itself; ext4 on an old node grows when it is mounted next", "%s: %s", k.Type, k.Message)
		}
	}
	l.events(f, f.about("PersistentVolumeClaim", c.Namespace, c.Name))
	if r := f.recordOf(c); r != nil {
		l.out = append(l.out, f.explainRecord(r)...)
	} else if pv := find(f.Volumes, func(v *corev1.PersistentVolume) bool { return v.Name == c.Spec.VolumeName }); pv != nil && pv.Spec.CSI != nil && pv.Spec.CSI.Driver == v1alpha1.DriverName {
		l.bad("do not delete the claim; the data is kept: mynetwork volume orphans, and adopt, on a node", "there is no VolumeRecord %s of its volume", pv.Spec.CSI.VolumeHandle)
	}
	return l.out
}

func (f *Facts) explainRecord(r *v1alpha1.VolumeRecord) []Finding {
	l := &list{object: "volume/" + r.Spec.Name}
	if d := r.State.Deletion; d != nil {
		l.note("stores that are away free it when they are back; nothing has to be done", "it was deleted %s ago, and %d stores have freed it", ago(f.Now.Sub(d.At.Time)), len(d.Confirmed))
		return l.out
	}
	n := f.network(r.Spec.Network)
	if n == nil || string(n.UID) != r.Spec.NetworkUID {
		l.bad("make the network again with its old uid from a backup of etcd, or see mynetwork fsck --offline --rebuild-registry on the nodes", "its network %s (uid %s) is not there", r.Spec.Network, r.Spec.NetworkUID)
		return l.out
	}
	for _, kind := range []string{v1alpha1.ConditionStalled, v1alpha1.ConditionDegraded, v1alpha1.ConditionCapacityLow} {
		if c := meta.FindStatusCondition(n.Status.Conditions, kind); c != nil && c.Status == metav1.ConditionTrue {
			l.bad("see kubectl describe mynet "+n.Name, "its network %s is %s (%s): %s", n.Name, kind, c.Reason, c.Message)
		}
	}
	f.holder(l, r)
	f.grants(l, r)
	f.copies(l, r)
	f.clearing(l, r)
	l.events(f, f.about("VolumeRecord", "", r.Name))
	if !slices.ContainsFunc(l.out, func(x Finding) bool { return x.Bad }) {
		where := "detached"
		if r.State.Holder != "" {
			where = "attached on node " + r.State.Holder
		}
		l.note("", "nothing is known against it: it is %s, with %d of %d copies", where, r.State.Copies, r.Spec.Copies)
	}
	return l.out
}
