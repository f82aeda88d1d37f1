package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MyNetwork is a set of nodes that share one layout and serve volumes to pods. Everything in spec has a default: a name is enough.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=mynet,categories=mynetwork
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Does it serve?"
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.nodes.summary`,description="Ready and wanted nodes"
// +kubebuilder:printcolumn:name="Used",type=string,JSONPath=`.status.capacity.summary`,description="Used space"
// +kubebuilder:printcolumn:name="Volumes",type=integer,JSONPath=`.status.volumes`
// +kubebuilder:printcolumn:name="Activity",type=string,JSONPath=`.status.activity`,description="What it is doing"
// +kubebuilder:printcolumn:name="Moving",type=string,JSONPath=`.status.rebalance.summary`,priority=1
// +kubebuilder:printcolumn:name="Layout",type=integer,JSONPath=`.status.layout.version`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')",message="the name becomes part of other names: write at most 40 lower-case letters, digits and '-', beginning with a letter, as \"main\""
type MyNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted. Each field has a default.
	// +optional
	// +kubebuilder:default={}
	Spec MyNetworkSpec `json:"spec,omitzero"`
	// status is what the operator and the agents found.
	// +optional
	Status MyNetworkStatus `json:"status,omitzero"`
}

// MyNetworkSpec is what is wanted of a network.
type MyNetworkSpec struct {
	// nodes chooses the Kubernetes nodes that belong to the network.
	// +optional
	// +kubebuilder:default={}
	Nodes NodesSpec `json:"nodes,omitzero"`
	// storage says where agents keep data on a node, and how much.
	// +optional
	// +kubebuilder:default={}
	Storage StorageSpec `json:"storage,omitzero"`
	// volumes has the defaults of new volumes. A VolumeAttributesClass can differ from them, and change a volume later.
	// +optional
	// +kubebuilder:default={}
	Volumes VolumesSpec `json:"volumes,omitzero"`
	// storageClass describes the StorageClass, and the VolumeSnapshotClass, that the operator makes.
	// +optional
	// +kubebuilder:default={}
	StorageClass StorageClassSpec `json:"storageClass,omitzero"`
	// agent says how the agents run.
	// +optional
	// +kubebuilder:default={}
	Agent AgentSpec `json:"agent,omitzero"`
	// failover says what happens to pods of a node that died. Automatic: those whose writable volumes are all of this network,
	// and fenced, are deleted by force, so that they start elsewhere. Manual: an event names the command to run.
	// +optional
	// +kubebuilder:default=Automatic
	Failover FailoverMode `json:"failover,omitempty"`
	// paused makes the operator leave everything as it is. Volumes go on working.
	// +optional
	Paused bool `json:"paused,omitempty"`
}

// NodesSpec chooses nodes.
type NodesSpec struct {
	// selector chooses the nodes whose pods can use volumes: each gets an agent. Empty chooses all.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	// storage chooses, among those, the nodes that also store data. Empty chooses all of them.
	// +optional
	Storage *metav1.LabelSelector `json:"storage,omitempty"`
	// tolerations lets agents run on tainted nodes. Nodes with other NoSchedule or NoExecute taints do not belong to the network.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// downAfter is how long a storage node may be unreachable before it is taken out of the layout and its data is copied to others. It should be
	// longer than a reboot. A node that is back later joins again by itself.
	// +optional
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('24h')",message="downAfter is from 1m to 24h: shorter, every reboot would copy data; longer, a second loss becomes likely"
	DownAfter *metav1.Duration `json:"downAfter,omitempty"`
}

// StorageSpec says where data lies on a node.
// +kubebuilder:validation:XValidation:rule="!has(self.capacity) || quantity(string(self.capacity)).compareTo(quantity('1Gi')) >= 0",message="capacity is less than a store needs: write at least 1Gi, or leave it out for the whole file system"
type StorageSpec struct {
	// path is the directory on each node below which the network's own directory is made, named by the network's uid. It can not
	// be changed later. Mount a disk of its own there: on a file system shared with the kubelet, full volumes can evict pods.
	// +optional
	// +kubebuilder:default=/var/lib/mynetwork
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:XValidation:rule="self.matches('^(/[A-Za-z0-9._-]+)+$') && !self.matches('/[.][.]?(/|$)')",message="path must be absolute, without '.', '..', blanks or a '/' at its end: write for example /var/lib/mynetwork"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="path can not be changed, the data would stay behind: make a second MyNetwork with the new path, or mount the disk at the old one"
	Path string `json:"path,omitempty"`
	// capacity is how many bytes a node may use for data. Without it, the whole file system less the reserve.
	// +optional
	Capacity *resource.Quantity `json:"capacity,omitempty"`
	// reservePercent is how much of the file system is left free for others, in percent. At least 20 where the kubelet's
	// directory is on the same file system.
	// +optional
	// +kubebuilder:default=20
	// +kubebuilder:validation:Minimum=5
	// +kubebuilder:validation:Maximum=80
	ReservePercent int32 `json:"reservePercent,omitempty"`
	// warningPercent is the use, in percent, from which CapacityLow is True. Critical is 1.2 times it, at most 95.
	// +optional
	// +kubebuilder:default=90
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=94
	WarningPercent int32 `json:"warningPercent,omitempty"`
}

// WriteMode says when a flush is answered.
// +kubebuilder:validation:Enum=Strong;Weak
type WriteMode string

// The write modes.
const (
	// WriteStrong answers a flush when a majority of the copies is on disk.
	WriteStrong WriteMode = "Strong"
	// WriteWeak answers a flush after one copy: the loss of one node can lose flushed writes.
	WriteWeak WriteMode = "Weak"
)

// ZonePolicy says how zones bind the copies of data.
// +kubebuilder:validation:Enum=Spread;Strict;Ignore
type ZonePolicy string

// The zone policies.
const (
	// ZonesSpread puts copies into distinct zones while there are enough, else spreads them evenly.
	ZonesSpread ZonePolicy = "Spread"
	// ZonesStrict refuses to make a layout with fewer zones than copies.
	ZonesStrict ZonePolicy = "Strict"
	// ZonesIgnore takes all nodes for one zone.
	ZonesIgnore ZonePolicy = "Ignore"
)

// Compression names how pages are packed.
// +kubebuilder:validation:Enum=None;Zstd
type Compression string

// The ways to compress.
const (
	CompressionNone Compression = "None"
	CompressionZstd Compression = "Zstd"
)

// VolumesSpec has the defaults of new volumes.
// +kubebuilder:validation:XValidation:rule="!has(self.copies) || self.copies != 2 || (has(self.writes) && self.writes == 'Weak')",message="two copies with Strong writes stop at the loss of either node: write copies: 3, or copies: 1 if loss is acceptable, or writes: Weak"
type VolumesSpec struct {
	// copies is on how many nodes each byte is kept, 1 to 7. Three survive the loss of any one node, without a pause.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=7
	Copies int32 `json:"copies,omitempty"`
	// writes says when a flush is answered. Strong: when a majority of the copies is on disk. Weak: after one copy; the loss of
	// one node can then lose flushed writes.
	// +optional
	// +kubebuilder:default=Strong
	Writes WriteMode `json:"writes,omitempty"`
	// zones says how copies are spread over zones (the node label topology.kubernetes.io/zone). Spread: into distinct zones while
	// there are enough. Strict: no new layout with fewer zones than copies. Ignore: zones do not matter.
	// +optional
	// +kubebuilder:default=Spread
	Zones ZonePolicy `json:"zones,omitempty"`
	// compression of new volumes: None or Zstd.
	// +optional
	// +kubebuilder:default=None
	Compression Compression `json:"compression,omitempty"`
}

// StorageClassSpec describes the classes that the operator makes.
type StorageClassSpec struct {
	// name of the StorageClass and of the VolumeSnapshotClass. Empty is "mynetwork-" and the network's name. The class is never made
	// the cluster's default; annotate it yourself if it should be.
	// +optional
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="name must be a DNS name of lower-case letters, digits, '-' and '.', as \"fast\""
	Name string `json:"name,omitempty"`
	// reclaimPolicy says what happens to a volume when its claim is deleted: Delete, or Retain. It holds for volumes made afterwards.
	// +optional
	// +kubebuilder:default=Delete
	// +kubebuilder:validation:Enum=Delete;Retain
	ReclaimPolicy corev1.PersistentVolumeReclaimPolicy `json:"reclaimPolicy,omitempty"`
}

// AgentSpec says how agents run.
// +kubebuilder:validation:XValidation:rule="!has(self.cacheSize) || quantity(string(self.cacheSize)).compareTo(quantity('1Ti')) <= 0",message="cacheSize is memory of each node: write for example 256Mi"
type AgentSpec struct {
	// image of the agents. Empty is the operator's own, which is upgraded with it.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`
	// cacheSize is the memory of each agent for pages that were read.
	// +optional
	// +kubebuilder:default="256Mi"
	CacheSize *resource.Quantity `json:"cacheSize,omitempty"`
	// resources of the agent's container. Empty requests 100m of CPU, and as memory the cache and 512Mi more.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
	// logLevel is the least level that agents log: debug, info, warn or error.
	// +optional
	// +kubebuilder:default=info
	// +kubebuilder:validation:Enum=debug;info;warn;error
	LogLevel string `json:"logLevel,omitempty"`
}

// FailoverMode says who deletes the pods of a dead node.
// +kubebuilder:validation:Enum=Automatic;Manual
type FailoverMode string

// The failover modes.
const (
	FailoverAutomatic FailoverMode = "Automatic"
	FailoverManual    FailoverMode = "Manual"
)

// MyNetworkStatus is what was found.
type MyNetworkStatus struct {
	// observedGeneration is the newest generation of spec that was acted on completely.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions: Ready; Reconciling and Stalled while they are True; Degraded, Rebalancing, CapacityLow, SnapshotsAvailable.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// activity says in a few words what the network is doing.
	// +optional
	Activity string `json:"activity,omitempty"`
	// nodes counts the network's nodes.
	// +optional
	Nodes NodeCounts `json:"nodes,omitzero"`
	// capacity sums up the storage nodes.
	// +optional
	Capacity CapacityStatus `json:"capacity,omitzero"`
	// volumes is how many VolumeRecords name this network. It is not deleted while there are any.
	// +optional
	Volumes int32 `json:"volumes"`
	// lastCopies is how many storage nodes hold data that has no other copy.
	// +optional
	LastCopies int32 `json:"lastCopies"`
	// layout names the present layout. Its body is a block that agents fetch from each other by its hash.
	// +optional
	Layout *LayoutStatus `json:"layout,omitempty"`
	// rebalance is what has to move to get from the layout before to the present one, and how far that is. Absent when nothing has to.
	// +optional
	Rebalance *RebalanceStatus `json:"rebalance,omitempty"`
	// storageClass is the name of the class that the operator made.
	// +optional
	StorageClass string `json:"storageClass,omitempty"`
	// topologyKey is the node label of the network.
	// +optional
	TopologyKey string `json:"topologyKey,omitempty"`
}

// RebalanceStatus is a plan, made when a layout is published, and how far it is. Sizes are estimates: what nodes use, shared out evenly.
type RebalanceStatus struct {
	// summary is what is left, as "1.2Gi of 4.0Gi left, about 3m".
	// +optional
	Summary string `json:"summary,omitempty"`
	// layout is the version that data moves to.
	Layout int64 `json:"layout"`
	// shards is how many of the layout's shards change nodes.
	// +optional
	Shards int64 `json:"shards"`
	// bytes is how much has to be copied.
	// +optional
	Bytes *resource.Quantity `json:"bytes,omitempty"`
	// bytesLeft is how much of it is left, as agents last reported.
	// +optional
	BytesLeft *resource.Quantity `json:"bytesLeft,omitempty"`
	// copiesLeft is how many copies agents last reported as missing.
	// +optional
	CopiesLeft int64 `json:"copiesLeft"`
	// bytesPerSecond is the rate since started. Absent: not known yet.
	// +optional
	BytesPerSecond *resource.Quantity `json:"bytesPerSecond,omitempty"`
	// started is when the layout was published.
	// +optional
	Started metav1.Time `json:"started,omitzero"`
	// finishes is when it will be done at this rate. Absent: not known yet.
	// +optional
	Finishes metav1.Time `json:"finishes,omitzero"`
}

// NodeCounts counts nodes.
type NodeCounts struct {
	// summary is ready and wanted nodes, as "3/3".
	// +optional
	Summary string `json:"summary,omitempty"`
	// wanted is how many Kubernetes nodes the selector chooses.
	// +optional
	Wanted int32 `json:"wanted"`
	// ready is how many of them have an agent that serves.
	// +optional
	Ready int32 `json:"ready"`
	// storage is how many nodes store data.
	// +optional
	Storage int32 `json:"storage"`
}

// CapacityStatus is space in bytes, over all copies: a volume with three copies counts three times.
type CapacityStatus struct {
	// summary is used space in percent and the total, as "12% of 3Ti".
	// +optional
	Summary string `json:"summary,omitempty"`
	// total is what storage nodes may use.
	// +optional
	Total *resource.Quantity `json:"total,omitempty"`
	// used is what they use.
	// +optional
	Used *resource.Quantity `json:"used,omitempty"`
}

// LayoutStatus names one version of a layout.
type LayoutStatus struct {
	// version rises by one with each change.
	// +kubebuilder:validation:Minimum=1
	Version int64 `json:"version"`
	// hash is BLAKE3-256 of the layout's encoding, in hex.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	Hash string `json:"hash"`
	// membersDigest is SHA-256, in hex, over what the layout was computed from. While it stays, so does the layout.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	MembersDigest string `json:"membersDigest"`
	// published is when this version was published.
	// +optional
	Published metav1.Time `json:"published,omitzero"`
}

// MyNetworkList is a list of networks.
// +kubebuilder:object:root=true
type MyNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MyNetwork `json:"items"`
}
