package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// StorageNode is one node of a network. The operator makes it when a Kubernetes node joins, and keeps it when that node goes:
// the data may still be there. Deleting it takes the node out of the network for good, and is held until no last copy is there.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=snode,categories=mynetwork
// +kubebuilder:selectablefield:JSONPath=`.spec.network`
// +kubebuilder:selectablefield:JSONPath=`.spec.nodeName`
// +kubebuilder:printcolumn:name="Network",type=string,JSONPath=`.spec.network`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Used",type=string,JSONPath=`.status.summary`
// +kubebuilder:printcolumn:name="Activity",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Zone",type=string,JSONPath=`.status.zone`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.nodeName`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type StorageNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what people want of this node.
	Spec StorageNodeSpec `json:"spec"`
	// status is what the operator and the node's agent found.
	// +optional
	Status StorageNodeStatus `json:"status,omitzero"`
}

// Scheduling says whether data is placed on a node.
// +kubebuilder:validation:Enum=Active;Cordoned;Drained
type Scheduling string

// The ways to use a node.
const (
	// SchedulingActive: data is placed here.
	SchedulingActive Scheduling = "Active"
	// SchedulingCordoned: no new data is placed here, what is here stays.
	SchedulingCordoned Scheduling = "Cordoned"
	// SchedulingDrained: all copies move away.
	SchedulingDrained Scheduling = "Drained"
)

// StorageNodeSpec is what people want of a node. The operator writes network and nodeName once, and the rest never.
type StorageNodeSpec struct {
	// network is the name of the MyNetwork.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a node can not move to another network: delete this StorageNode, and let the operator make one for the other network"
	Network string `json:"network"`
	// nodeName is the name of the Kubernetes node.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="nodeName can not be changed, the data stays on its disk: delete this StorageNode, the operator makes one for each chosen node"
	NodeName string `json:"nodeName"`
	// scheduling says whether data is placed here. Active: yes. Cordoned: nothing new. Drained: what is here moves away too.
	// +optional
	// +kubebuilder:default=Active
	Scheduling Scheduling `json:"scheduling,omitempty"`
	// weight is the node's share relative to others, in GiB. Without it, the capacity that its agent reports.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967296
	Weight *int64 `json:"weight,omitempty"`
	// zone is the failure domain. Without it, the node's label topology.kubernetes.io/zone.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Zone *string `json:"zone,omitempty"`
	// approvedStores are ids of stores, as in status.stores, that may be formatted here although the node had others before: a
	// replaced disk. The first store of a new node needs no approval.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Pattern=`^[0-9a-f]{32}$`
	// +kubebuilder:validation:items:MaxLength=32
	// +listType=set
	ApprovedStores []string `json:"approvedStores,omitempty"`
}

// StorageNodeStatus is what was found. The operator writes all but agent, which the node's agent writes.
type StorageNodeStatus struct {
	// observedGeneration is the newest generation of spec that was acted on completely.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions: Ready; Reconciling and Stalled while they are True; Degraded.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// summary is used space in percent and the total, as "12% of 1Ti".
	// +optional
	Summary string `json:"summary,omitempty"`
	// zone is the failure domain in use.
	// +optional
	Zone string `json:"zone,omitempty"`
	// weight is the weight in use, in GiB.
	// +optional
	Weight int64 `json:"weight,omitempty"`
	// storage tells whether the node stores data, or only uses volumes.
	// +optional
	Storage bool `json:"storage,omitempty"`
	// nodeUID is the uid of the Kubernetes node when it was last there.
	// +optional
	NodeUID types.UID `json:"nodeUID,omitempty"`
	// layoutVersion is the version of the layout that this node came in with. A node without it never was a member.
	// +optional
	LayoutVersion int64 `json:"layoutVersion,omitempty"`
	// formatGrant is the id of the one store that may be formatted now.
	// +optional
	FormatGrant string `json:"formatGrant,omitempty"`
	// memberGrant is signed by the network's control key: with it the node reads, repairs and frees copies of all volumes of the
	// network. It allows no writing. It is renewed before memberGrantEnds.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	MemberGrant []byte `json:"memberGrant,omitempty"`
	// memberGrantEnds is when memberGrant ends.
	// +optional
	MemberGrantEnds metav1.Time `json:"memberGrantEnds,omitzero"`
	// fencing tells what is done about this node's death. Absent while it lives.
	// +optional
	Fencing *FencingStatus `json:"fencing,omitempty"`
	// agent is what the node's agent reports: at changes, and figures at most every five minutes.
	// +optional
	Agent *AgentStatus `json:"agent,omitempty"`
}

// FencingStatus is how far the judgement of a dead node has come.
type FencingStatus struct {
	// since is when a majority of peers first reported the node unreachable.
	Since metav1.Time `json:"since"`
	// tainted tells that the node has the unreachable taint.
	// +optional
	Tainted bool `json:"tainted,omitempty"`
	// fencedVolumes are volumes whose epoch was taken from this node, by record name.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	// +listType=set
	FencedVolumes []string `json:"fencedVolumes,omitempty"`
}

// AgentStatus is an agent's report about its node.
type AgentStatus struct {
	// version of the agent's program.
	// +optional
	Version string `json:"version,omitempty"`
	// address of the peer server, host:port.
	// +optional
	// +kubebuilder:validation:MaxLength=300
	Address string `json:"address,omitempty"`
	// controlAddress of the control server for the operator and the CSI controller, host:port.
	// +optional
	// +kubebuilder:validation:MaxLength=300
	ControlAddress string `json:"controlAddress,omitempty"`
	// ready tells that the agent serves.
	// +optional
	Ready bool `json:"ready,omitempty"`
	// syncedVersion is the newest version of the layout whose share this node holds completely.
	// +optional
	SyncedVersion int64 `json:"syncedVersion,omitempty"`
	// copies is how many extents lie here.
	// +optional
	Copies int64 `json:"copies,omitempty"`
	// lastCopies is how many of them have no good copy elsewhere.
	// +optional
	LastCopies int64 `json:"lastCopies,omitempty"`
	// missingCopies is how many extents the layout puts here that are not here yet.
	// +optional
	MissingCopies int64 `json:"missingCopies,omitempty"`
	// inPlaceVersion is the newest version of the layout with which all volumes that are open here were in place: none of their
	// journals names a store that this layout has taken data from. 0: not yet with any. Without open volumes it is the present one.
	// +optional
	InPlaceVersion int64 `json:"inPlaceVersion,omitempty"`
	// lastVolumes are volumes of which this node has a last copy, by volumeID. At most 8 are listed.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=32
	// +listType=set
	LastVolumes []string `json:"lastVolumes,omitempty"`
	// leavingVolumes are volumes that have copies here although the layout has taken all data from this node, by volumeID. At most 8 are listed.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=32
	// +listType=set
	LeavingVolumes []string `json:"leavingVolumes,omitempty"`
	// unplacedVolumes are volumes open here that are not in place with the present layout yet, by volumeID. At most 8 are listed.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=32
	// +listType=set
	UnplacedVolumes []string `json:"unplacedVolumes,omitempty"`
	// unreachable are nodes that this one can not reach, by name. It watches the 64 nodes of the
	// network that follow it in the order of names, around the end.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	Unreachable []string `json:"unreachable,omitempty"`
	// stores are the disks.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=id
	Stores []StoreStatus `json:"stores,omitempty"`
	// pressure names what is above its health threshold: cpu, memory, disk, latency or peers.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +listType=set
	Pressure []string `json:"pressure,omitempty"`
	// lacks is what the node lacks to attach volumes, as /dev/fuse, and what to do, each after its reason and ": ".
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=1024
	// +listType=set
	Lacks []string `json:"lacks,omitempty"`
	// certificateEnds is when the certificate in use ends.
	// +optional
	CertificateEnds metav1.Time `json:"certificateEnds,omitzero"`
}

// StoreState says what became of a store.
// +kubebuilder:validation:Enum=New;Serving;Full;Missing;Quarantined
type StoreState string

// The states of a store.
const (
	// StoreNew: a directory without a store; it waits for the grant to format it.
	StoreNew StoreState = "New"
	// StoreServing: reads and writes.
	StoreServing StoreState = "Serving"
	// StoreFull: reads and deletes; writes are refused.
	StoreFull StoreState = "Full"
	// StoreMissing: a store was expected in the directory and is not there.
	StoreMissing StoreState = "Missing"
	// StoreQuarantined: an I/O error, or too much damage. Nothing is placed on it any more, and what it holds is made again, or moved, elsewhere.
	StoreQuarantined StoreState = "Quarantined"
)

// StoreStatus is one disk.
type StoreStatus struct {
	// id is the store's random id, from its superblock, in hex.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{32}$`
	// +kubebuilder:validation:MaxLength=32
	ID string `json:"id"`
	// path is the directory on the node.
	// +optional
	Path string `json:"path,omitempty"`
	// state says what became of it.
	State StoreState `json:"state"`
	// message says what is wrong, if something is.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// capacity in bytes.
	// +optional
	Capacity *resource.Quantity `json:"capacity,omitempty"`
	// used bytes, those of others on the same file system too.
	// +optional
	Used *resource.Quantity `json:"used,omitempty"`
	// data is how many bytes of data and journals of this network lie here: what would have to be copied if they were to lie elsewhere.
	// +optional
	Data *resource.Quantity `json:"data,omitempty"`
	// clearing says in one word what the store gets back because less than 10 % of it is free: Deleted (what deleted volumes have left), then
	// Unreferenced (blocks that nothing refers to), then Surplus (copies beyond minCopies); Exhausted: nothing more is found. Absent: there is room.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Clearing string `json:"clearing,omitempty"`
	// lastScrubbed is when every byte of it had been read and checked, the last time. Absent: not yet.
	// +optional
	LastScrubbed metav1.Time `json:"lastScrubbed,omitzero"`
	// errorsFound is how many damaged areas were found since the store was made.
	// +optional
	ErrorsFound int64 `json:"errorsFound,omitempty"`
	// errorsRepaired is how many of them were repaired from copies of other nodes.
	// +optional
	ErrorsRepaired int64 `json:"errorsRepaired,omitempty"`
}

// StorageNodeList is a list of nodes.
// +kubebuilder:object:root=true
type StorageNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []StorageNode `json:"items"`
}
