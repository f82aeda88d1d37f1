package storagenode

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/failover"
	"mynetwork.io/mynetwork/controllers/guard"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// Options are the operator's own settings. All are required.
type Options struct {
	// Namespace is where guard pods run.
	Namespace string
	// GuardImage is an image that does nothing until it is told to end, as registry.k8s.io/pause.
	GuardImage string
}

// State is everything that a plan depends on.
type State struct {
	Options      Options
	Now          time.Time
	Network      *v1alpha1.MyNetwork // nil: there is none
	Name         string              // of the network
	StorageNodes []v1alpha1.StorageNode
	Nodes        map[string]*corev1.Node // by name
	Guards       []corev1.Pod            // the guard pods of the network
	Kubelets     map[string]failover.Kubelet
	Records      int                      // VolumeRecords of the network
	Fenced       map[string][]string      // by node: records that were taken from it, by name
	Skews        map[string]time.Duration // of nodes' clocks against the API server's; who is missing is not known
	Copies       int                      // the most that a volume is to have
	Short        []string                 // volumes that are known to have fewer copies than they should, by claim or name, sorted

	// What follows is filled in while a node is to leave, or has last copies.
	Layout   *placement.Layout   // the present one; nil: there is none, or its body can not be had now
	Called   map[string]string   // volumes by id: by claim or name
	Attached map[string][]string // by node: the volumes that it has, as far as is known, by claim or name, sorted
}

// Plan is what a State asks for.
type Plan struct {
	Statuses        map[string]v1alpha1.StorageNodeStatus // by StorageNode, without the agents' reports
	Guards          []*corev1.Pod                         // to create
	DropGuards      []*corev1.Pod                         // to delete
	Budget          *policyv1.PodDisruptionBudget         // to apply; nil: none
	Taint, Untaint  []string                              // Kubernetes nodes
	AddFinalizer    []string                              // StorageNodes
	RemoveFinalizer []string
	TooMany         string // why the dead are not believed
	Waits           bool   // some node is suspected and may be dead soon
}

// Compute says what a State asks for. It is pure.
func Compute(s *State) *Plan {
	p := &Plan{Statuses: map[string]v1alpha1.StorageNodeStatus{}}
	judged := failover.State{Network: s.Network, StorageNodes: s.StorageNodes, Kubelets: s.Kubelets, Now: s.Now}
	if judged.Network == nil {
		judged.Network = &v1alpha1.MyNetwork{}
	}
	for _, n := range s.Nodes {
		judged.Nodes = append(judged.Nodes, *n)
	}
	slices.SortFunc(judged.Nodes, func(a, b corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	verdict := failover.Judge(&judged)
	p.Taint, p.Untaint, p.TooMany = verdict.Taint, verdict.Untaint, verdict.TooMany
	p.Waits = len(verdict.Suspect) > len(verdict.Dead)
	for i := range s.StorageNodes {
		n := &s.StorageNodes[i]
		r := report{state: s, node: n, dead: slices.Contains(verdict.Suspect, n.Spec.NodeName), tooMany: verdict.TooMany}
		p.Statuses[n.Name] = r.status()
		has := slices.Contains(n.Finalizers, v1alpha1.Finalizer)
		switch {
		case n.DeletionTimestamp == nil && !has:
			p.AddFinalizer = append(p.AddFinalizer, n.Name)
		case n.DeletionTimestamp != nil && has && r.leave() == wait{}:
			p.RemoveFinalizer = append(p.RemoveFinalizer, n.Name)
		}
	}
	p.guards(s)
	return p
}

// guards plans the guard pods and their budget.
func (p *Plan) guards(s *State) {
	if s.Network == nil {
		for i := range s.Guards {
			p.DropGuards = append(p.DropGuards, &s.Guards[i])
		}
		return
	}
	running := map[string]*corev1.Pod{}
	for i := range s.Guards {
		running[s.Guards[i].Labels[v1alpha1.LabelNode]] = &s.Guards[i]
	}
	layout := int64(0)
	if s.Network.Status.Layout != nil {
		layout = s.Network.Status.Layout.Version
	}
	var nodes []guard.Node
	for i := range s.StorageNodes {
		n := &s.StorageNodes[i]
		nodes = append(nodes, guard.Of(n, layout, ready(running[short(n.Spec.NodeName)])))
	}
	budget := guard.Decide(nodes)
	wanted, guarded := map[string]bool{}, set(budget.Guarded)
	for i := range s.StorageNodes {
		n := &s.StorageNodes[i]
		if !guarded[n.Name] || n.DeletionTimestamp != nil {
			continue
		}
		key := short(n.Spec.NodeName)
		wanted[key] = true
		if running[key] == nil {
			p.Guards = append(p.Guards, guardPod(s, n))
		}
	}
	for i := range s.Guards {
		g := &s.Guards[i]
		over := g.Status.Phase == corev1.PodFailed || g.Status.Phase == corev1.PodSucceeded
		if (over || !wanted[g.Labels[v1alpha1.LabelNode]]) && g.DeletionTimestamp == nil {
			p.DropGuards = append(p.DropGuards, g)
		}
	}
	if len(budget.Guarded) > 0 {
		p.Budget = disruptionBudget(s, budget.MinAvailable)
	}
}

func set(names []string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[n] = true
	}
	return out
}

func ready(pod *corev1.Pod) bool {
	return pod != nil && pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func labels(s *State) map[string]string {
	return map[string]string{"app.kubernetes.io/name": "mynetwork", v1alpha1.LabelNetwork: s.Name, v1alpha1.LabelComponent: "guard"}
}

// guardPod runs on its node as long as that takes pods: it tolerates what a failing node gets, and no cordon.
func guardPod(s *State, n *v1alpha1.StorageNode) *corev1.Pod {
	l := labels(s)
	l[v1alpha1.LabelNode] = short(n.Spec.NodeName)
	tolerations := []corev1.Toleration{{Key: v1alpha1.TaintUnreachable, Operator: corev1.TolerationOpExists}}
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeDiskPressure, corev1.TaintNodeMemoryPressure} {
		tolerations = append(tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists})
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: mynetwork.GuardName(s.Name) + "-" + short(n.Spec.NodeName), Namespace: s.Options.Namespace, Labels: l,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(n, v1alpha1.GroupVersion().WithKind("StorageNode"))},
		},
		Spec: corev1.PodSpec{
			Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
					{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{n.Spec.NodeName}}}}}}}},
			AutomountServiceAccountToken:  new(false),
			TerminationGracePeriodSeconds: new(int64(0)),
			Tolerations:                   append(tolerations, s.Network.Spec.Nodes.Tolerations...),
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), RunAsUser: new(int64(65535)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{Name: "guard", Image: s.Options.GuardImage, SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}}},
		},
	}
}
