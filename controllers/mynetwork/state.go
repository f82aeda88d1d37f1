package mynetwork

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/status"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// Options are the operator's own settings. Namespace is required.
type Options struct {
	// Namespace is where agents and holders run.
	Namespace string
	// Image and HolderImage are used by networks that name none.
	Image, HolderImage string
	// AgentServiceAccount and HolderServiceAccount are made by who installs the operator.
	// Empty: "mynetwork-agent" and "mynetwork-holder".
	AgentServiceAccount, HolderServiceAccount string
}

func (o Options) agentAccount() string  { return or(o.AgentServiceAccount, "mynetwork-agent") }
func (o Options) holderAccount() string { return or(o.HolderServiceAccount, "mynetwork-holder") }

// or is the first that is not empty.
func or(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// State is everything that a plan depends on.
type State struct {
	Options Options
	Now     time.Time

	Network      *v1alpha1.MyNetwork
	Others       []v1alpha1.MyNetwork // all other networks
	Nodes        []corev1.Node        // all nodes of the cluster
	StorageNodes []v1alpha1.StorageNode
	Records      []string // names of the VolumeRecords of this network, sorted

	Agents, Holders  *appsv1.DaemonSet // nil: not there
	Authority        *corev1.Secret    // nil: not there
	SnapshotAPI      bool              // the cluster serves snapshot.storage.k8s.io/v1
	GroupSnapshotAPI string            // version of groupsnapshot.storage.k8s.io that the cluster serves; empty: none

	// Layout is the present layout, nil if there is none or its body can not be fetched.
	Layout *placement.Layout
}

// Plan is what a State asks for. Apply it in the order of the fields.
type Plan struct {
	AddFinalizer    bool
	MakeAuthority   bool            // make the CA; nothing else of the plan is applied when that fails
	Apply           []client.Object // to be applied, in order
	Layout          *placement.Layout
	Delete          []client.Object // to be deleted; the next is begun when the one before is gone
	RemoveFinalizer bool            // once everything in Delete is gone
	Status          v1alpha1.MyNetworkStatus
	Outcome         status.Outcome
	Events          []Event
	RequeueAfter    time.Duration // 0: wait for a change
}

// Event is told once: when the condition that it belongs to changes.
type Event struct {
	Warning bool
	Reason  string
	Note    string
}
