package failover

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// Limits of how many nodes may be taken for dead at once. A fault of the network looks like the death of many nodes.
const (
	maxZones   = 1
	maxPercent = 30
)

// Claim is what is known of a PersistentVolumeClaim that a pod mounts.
type Claim struct {
	Ours     bool   // bound to a volume of this driver and network
	Record   string // name of the VolumeRecord
	ReadOnly bool   // the volume can not be written at all
}

// State is everything that is judged.
type State struct {
	Network      *v1alpha1.MyNetwork
	StorageNodes []v1alpha1.StorageNode
	Nodes        []corev1.Node
	Pods         []corev1.Pod                // of the nodes in question
	Claims       map[string]map[string]Claim // by namespace and name
	Records      map[string]*v1alpha1.VolumeRecord
	Kubelets     map[string]Kubelet // of the suspects; who is missing gives no sign
	Now          time.Time
}

// Kubelet is the last sign of life of a node's kubelet: its Lease.
type Kubelet struct {
	Renewed time.Time     // by the API server's clock, or, if it does not say, by the node's
	Lasts   time.Duration // how long a renewal holds; the kubelet renews after a quarter
}

// AgentAway is how long an agent that peers can not reach is waited for while the kubelet of its node lives: an agent that is
// upgraded or restarted is away for seconds, and its devices wait for it; they give up after 5 minutes.
const AgentAway = 2 * time.Minute

// alive tells whether the kubelet renewed its Lease in time, with a fifth more for its ways. If the operator's clock differs from the API
// server's, it tells wrong; then an agent's restart frees the node's pods, or a death is seen late. Fencing does not depend on it.
func (k Kubelet) alive(now time.Time) bool {
	return now.Sub(k.Renewed) < k.Lasts*3/10
}

// Plan is what is to be done.
type Plan struct {
	Suspect []string  // nodes that a majority can not reach, by name
	Dead    []string  // those of them whose kubelet gives no sign either, or whose agent is away for AgentAway
	TooMany string    // not empty: why nothing is done about them
	Taint   []string  // nodes to taint
	Untaint []string  // nodes to take the taint from
	Fence   []string  // VolumeRecords to take from their node
	Delete  []PodName // pods to delete with grace period 0
	Kept    []Kept    // pods of dead nodes that a person has to judge
}

// PodName names a pod.
type PodName struct{ Namespace, Name, Node string }

// Kept is a pod that is not deleted, with the reason and the command that would delete it.
type Kept struct {
	PodName
	Reason, Command string
}

// MaxWatched is how many other nodes a storage node watches: those that follow it in the order of names, around the end.
const MaxWatched = 64

// waits tells of a suspect that it is not taken for dead yet.
func (s *State) waits(node string) bool {
	if k, ok := s.Kubelets[node]; !ok || !k.alive(s.Now) {
		return false
	}
	for i := range s.StorageNodes {
		if n := &s.StorageNodes[i]; n.Spec.NodeName == node {
			return n.Status.Fencing == nil || s.Now.Sub(n.Status.Fencing.Since.Time) < AgentAway
		}
	}
	return false
}

// Suspects lists the nodes that a majority can not reach, sorted. The majority is counted over all storage nodes that should watch the
// node, and itself if it is one, never over those that answer: the smaller half of a split network, or each half of an even one,
// takes nobody for dead. Words of nodes that are dead themselves are old and do not count.
func Suspects(nodes []v1alpha1.StorageNode) []string {
	sorted := slices.SortedFunc(slices.Values(nodes), func(a, b v1alpha1.StorageNode) int { return cmp.Compare(a.Spec.NodeName, b.Spec.NodeName) })
	return accused(sorted, accused(sorted, nil))
}

// accused lists who has a majority of words against it, without the words of some.
func accused(sorted []v1alpha1.StorageNode, without []string) (out []string) {
	n := len(sorted)
	against, voters := make([]int, n), make([]int, n)
	for i := range sorted {
		w := &sorted[i]
		if !stores(w) {
			continue
		}
		voters[i]++
		silent := w.Status.Agent == nil || slices.Contains(without, w.Spec.NodeName)
		for k := 1; k <= min(MaxWatched, n-1); k++ {
			x := (i + k) % n
			voters[x]++
			if !silent && slices.Contains(w.Status.Agent.Unreachable, sorted[x].Spec.NodeName) {
				against[x]++
			}
		}
	}
	for i := range sorted {
		if against[i]*2 > voters[i] {
			out = append(out, sorted[i].Spec.NodeName)
		}
	}
	return out
}

// stores tells whether a node holds data, or did when it was last heard of.
func stores(n *v1alpha1.StorageNode) bool {
	return n.Status.LayoutVersion > 0 || n.Status.Agent != nil && len(n.Status.Agent.Stores) > 0
}

// Judge makes the plan.
func Judge(s *State) Plan {
	p := Plan{Suspect: Suspects(s.StorageNodes)}
	p.Dead = slices.DeleteFunc(slices.Clone(p.Suspect), func(n string) bool { return s.waits(n) })
	p.TooMany = TooMany(s.StorageNodes, p.Dead)
	for i := range s.Nodes {
		n := &s.Nodes[i]
		dead, tainted, suspect := slices.Contains(p.Dead, n.Name), slices.ContainsFunc(n.Spec.Taints, isOurs), slices.Contains(p.Suspect, n.Name)
		switch {
		case dead && !tainted && p.TooMany == "":
			p.Taint = append(p.Taint, n.Name)
		case !suspect && tainted:
			p.Untaint = append(p.Untaint, n.Name)
		}
	}
	if p.TooMany != "" {
		return p
	}
	for i := range s.Pods {
		p.pod(s, &s.Pods[i])
	}
	slices.Sort(p.Fence)
	p.Fence = slices.Compact(p.Fence)
	slices.SortFunc(p.Delete, comparePods)
	slices.SortFunc(p.Kept, func(a, b Kept) int { return comparePods(a.PodName, b.PodName) })
	return p
}

func comparePods(a, b PodName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func isOurs(t corev1.Taint) bool { return t.Key == v1alpha1.TaintUnreachable }

// Taint is what a dead node gets: it keeps pods away, and evicts none.
func Taint() corev1.Taint {
	return corev1.Taint{Key: v1alpha1.TaintUnreachable, Effect: corev1.TaintEffectNoSchedule}
}

// TooMany says why so many dead are not believed; empty if they are.
func TooMany(nodes []v1alpha1.StorageNode, dead []string) string {
	zones := map[string]bool{}
	for i := range nodes {
		if n := &nodes[i]; slices.Contains(dead, n.Spec.NodeName) {
			zones[n.Status.Zone] = true
		}
	}
	switch {
	case len(dead) <= 1:
		return ""
	case len(zones) > maxZones:
		return fmt.Sprintf("%d nodes in %d zones look dead at once: look at the network between them. To act anyway, delete the nodes' objects", len(dead), len(zones))
	case len(dead)*100 > maxPercent*len(nodes):
		return fmt.Sprintf("%d of %d nodes look dead at once, more than %d %%: look at the network between them. To act anyway, delete the nodes' objects",
			len(dead), len(nodes), maxPercent)
	}
	return ""
}

// pod decides about one pod of a dead node.
func (p *Plan) pod(s *State, pod *corev1.Pod) {
	if !slices.Contains(p.Dead, pod.Spec.NodeName) || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || stays(pod) {
		return
	}
	records, reason := volumes(s, pod)
	if len(records) == 0 && reason == "" {
		return // a pod without our volumes is Kubernetes' own business
	}
	name := PodName{pod.Namespace, pod.Name, pod.Spec.NodeName}
	if reason == "" {
		reason = refused(s, pod)
	}
	if reason != "" {
		if ours(s, pod) {
			p.Kept = append(p.Kept, Kept{name, reason, fmt.Sprintf("kubectl delete pod --namespace %s %s --grace-period=0 --force", pod.Namespace, pod.Name)})
		}
		return
	}
	all := true
	for _, r := range records {
		if !Fenced(s.Records[r], pod.Spec.NodeName) {
			all = false
			p.Fence = append(p.Fence, r)
		}
	}
	if all {
		p.Delete = append(p.Delete, name)
	}
}

// stays tells of pods that start nowhere else.
func stays(pod *corev1.Pod) bool {
	if _, static := pod.Annotations["kubernetes.io/config.mirror"]; static {
		return true
	}
	c := metav1.GetControllerOf(pod)
	return c != nil && c.Kind == "DaemonSet"
}

// refused says what speaks against deleting a pod by force, apart from its volumes.
func refused(s *State, pod *corev1.Pod) string {
	switch {
	case s.Network.Spec.Failover == v1alpha1.FailoverManual:
		return "failover of the network is Manual"
	case pod.Annotations[v1alpha1.AnnotationFailover] == "never":
		return "the pod is annotated " + v1alpha1.AnnotationFailover + ": never"
	}
	return ""
}

// volumes lists the VolumeRecords that a pod may write, or says which volume of it can not be fenced.
func volumes(s *State, pod *corev1.Pod) (records []string, reason string) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		claim := ""
		switch {
		case v.HostPath != nil && !readOnly(pod, v.Name):
			return records, "it writes to the hostPath " + v.HostPath.Path
		case v.PersistentVolumeClaim != nil:
			if v.PersistentVolumeClaim.ReadOnly {
				continue
			}
			claim = v.PersistentVolumeClaim.ClaimName
		case v.Ephemeral != nil:
			claim = pod.Name + "-" + v.Name
		case foreign(v):
			return records, "its volume " + v.Name + " is not of this network and can not be fenced"
		default:
			continue
		}
		switch c, known := s.Claims[pod.Namespace][claim]; {
		case !known:
			return records, "its claim " + claim + " is not known"
		case c.ReadOnly:
		case !c.Ours:
			return records, "its claim " + claim + " is not of this network and can not be fenced"
		default:
			records = append(records, c.Record)
		}
	}
	return records, ""
}

// foreign tells of volumes outside of the pod that are neither claims nor known to be private or read-only.
func foreign(v *corev1.Volume) bool {
	return v.EmptyDir == nil && v.ConfigMap == nil && v.Secret == nil && v.DownwardAPI == nil && v.Projected == nil && v.Image == nil && v.HostPath == nil &&
		v.PersistentVolumeClaim == nil && v.Ephemeral == nil
}

// readOnly tells whether no container of a pod can write to a volume.
func readOnly(pod *corev1.Pod, volume string) bool {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			for _, m := range list[i].VolumeMounts {
				if m.Name == volume && !m.ReadOnly {
					return false
				}
			}
		}
	}
	return true
}

// ours tells whether a pod uses any volume of the network: only then is what becomes of it our business.
func ours(s *State, pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		switch {
		case v.PersistentVolumeClaim != nil:
			return s.Claims[pod.Namespace][v.PersistentVolumeClaim.ClaimName].Ours
		case v.Ephemeral != nil:
			return s.Claims[pod.Namespace][pod.Name+"-"+v.Name].Ours
		}
		return false
	})
}

// Fenced tells whether a node can no longer write a volume: another epoch than its own was taken by the operator's word and a majority
// of replicas promised it, or the node gave the volume back, or another one took it over. A record that is not there tells nothing.
func Fenced(r *v1alpha1.VolumeRecord, node string) bool {
	switch {
	case r == nil:
		return false
	case r.Status.FencedNode == node && r.Status.FencedEpoch > r.State.HolderEpoch:
		return true
	}
	return r.State.Holder != node
}
