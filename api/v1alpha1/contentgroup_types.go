package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ContentGroup shows contents that are replicated, verified and deleted together: a volume with its snapshots and clones, or a
// file in several forms. For a volume the CSI driver makes it; deleting it deletes nothing but this view.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.copies,statuspath=.status.copies
// +kubebuilder:resource:scope=Namespaced,shortName=cg,categories=mynetwork
// +kubebuilder:selectablefield:JSONPath=`.spec.network`
// +kubebuilder:selectablefield:JSONPath=`.spec.kind`
// +kubebuilder:printcolumn:name="Network",type=string,JSONPath=`.spec.network`
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.kind`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Copies",type=integer,JSONPath=`.status.copies`
// +kubebuilder:printcolumn:name="States",type=integer,JSONPath=`.status.stateCount`
// +kubebuilder:printcolumn:name="Used",type=string,JSONPath=`.status.used`
// +kubebuilder:printcolumn:name="Activity",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ContentGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the user's intent.
	Spec ContentGroupSpec `json:"spec"`
	// status is a view of what is stored.
	// +optional
	Status ContentGroupStatus `json:"status,omitzero"`
}

// GroupKind says what a group is made of.
// +kubebuilder:validation:Enum=Volume;Files
type GroupKind string

// The kinds of groups.
const (
	// GroupVolume: a volume, its snapshots and its clones in this namespace.
	GroupVolume GroupKind = "Volume"
	// GroupFiles: forms of a file. Not built yet: such a group is Stalled.
	GroupFiles GroupKind = "Files"
)

// ContentGroupSpec is the user's intent. It carries no authority: it can not make the system read, keep or delete another's data.
// +kubebuilder:validation:XValidation:rule="has(self.minCopies) == has(self.maxCopies)",message="minCopies and maxCopies go together: write both, or neither"
// +kubebuilder:validation:XValidation:rule="!has(self.minCopies) || !has(self.maxCopies) || self.minCopies <= self.maxCopies",message="minCopies is more than maxCopies"
// +kubebuilder:validation:XValidation:rule="!has(self.minCopies) || !has(self.copies)",message="with minCopies and maxCopies the number of copies follows how much is read: take copies away, or the bounds"
type ContentGroupSpec struct {
	// network is the name of the MyNetwork.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a group can not move to another network: make a new claim there and copy"
	Network string `json:"network"`
	// kind says what the group is made of: Volume, or Files (not built yet).
	// +optional
	// +kubebuilder:default=Volume
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="kind can not be changed: make another ContentGroup"
	Kind GroupKind `json:"kind,omitempty"`
	// claim is the PersistentVolumeClaim in this namespace that the group shows.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Claim string `json:"claim,omitempty"`
	// copies is on how many nodes each byte is wanted, 1 to 7; kubectl scale sets it. Without it, what the claim's volume has.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=7
	Copies *int32 `json:"copies,omitempty"`
	// minCopies and maxCopies let the number of copies follow how much the volume is read, within these bounds: one more while each copy has to give
	// more than 500 reads a second for 10 minutes, one fewer while the others would give less than 100 each for 6 hours. It never changes while
	// copies are missing or moving or a node is short of space. Equal or absent: copies do not change by themselves. Volumes with Strong
	// writes need a minCopies of 3 or more.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=7
	MinCopies *int32 `json:"minCopies,omitempty"`
	// maxCopies: see minCopies.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=7
	MaxCopies *int32 `json:"maxCopies,omitempty"`
	// quota is the most bytes that all states together may use, counted once, not per copy. Without it, no limit.
	// +optional
	Quota *resource.Quantity `json:"quota,omitempty"`
}

// ContentGroupStatus is a view of what is stored.
type ContentGroupStatus struct {
	// observedGeneration is the newest generation of spec that was acted on completely.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions: Ready; Reconciling and Stalled while they are True; Degraded.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// copies is how many copies the volume is kept in.
	// +optional
	Copies int32 `json:"copies"`
	// minCopies and maxCopies are the bounds that were set through this group. Absent: none were.
	// +optional
	MinCopies *int32 `json:"minCopies,omitempty"`
	// maxCopies: see minCopies.
	// +optional
	MaxCopies *int32 `json:"maxCopies,omitempty"`
	// copiesReason says in one word why the number of copies last changed by itself: ReadHot, Unused, LowSpace, BelowLeast, AboveMost. Empty: it did not.
	// +optional
	CopiesReason string `json:"copiesReason,omitempty"`
	// copiesChanged is when that was.
	// +optional
	CopiesChanged metav1.Time `json:"copiesChanged,omitzero"`
	// volume is the name of the VolumeRecord.
	// +optional
	Volume string `json:"volume,omitempty"`
	// stateCount is how many states there are, also those that states does not list.
	// +optional
	StateCount int32 `json:"stateCount"`
	// used is how many bytes all states use, counted once.
	// +optional
	Used *resource.Quantity `json:"used,omitempty"`
	// states are the newest 64 states, newest first.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=id
	States []State `json:"states,omitempty"`
}

// StateKind says what a state is.
// +kubebuilder:validation:Enum=Volume;Snapshot;Clone
type StateKind string

// The kinds of states.
const (
	StateVolume   StateKind = "Volume"
	StateSnapshot StateKind = "Snapshot"
	StateClone    StateKind = "Clone"
)

// State is one state of a group.
type State struct {
	// id of the volume or snapshot, in hex.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{1,64}$`
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id"`
	// kind is Volume, Snapshot or Clone.
	Kind StateKind `json:"kind"`
	// name that people gave it.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
	// size in bytes, as a device shows it.
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`
	// created is when it was made.
	// +optional
	Created metav1.Time `json:"created,omitzero"`
}

// ContentGroupList is a list of groups.
// +kubebuilder:object:root=true
type ContentGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ContentGroup `json:"items"`
}
