package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// VolumeRecord is the registry's entry for one volume. The system owns it; people read it. Its name is the volume's CSI handle.
// Deleting it deletes no data: the volume becomes an orphan, which "mynetwork fsck --rebuild-registry" finds again.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=vrec,categories=mynetwork
// +kubebuilder:selectablefield:JSONPath=`.spec.network`
// +kubebuilder:selectablefield:JSONPath=`.spec.volumeID`
// +kubebuilder:printcolumn:name="Network",type=string,JSONPath=`.spec.network`
// +kubebuilder:printcolumn:name="Size",type=string,JSONPath=`.spec.capacity`
// +kubebuilder:printcolumn:name="Copies",type=integer,JSONPath=`.spec.copies`
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.claim.namespace`
// +kubebuilder:printcolumn:name="Claim",type=string,JSONPath=`.spec.claim.name`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.status.node`
// +kubebuilder:printcolumn:name="Epoch",type=integer,JSONPath=`.fact.epoch`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="has(self.fact) || !has(oldSelf.fact)",message="a fact is never taken back: update the record that was read, with its resourceVersion"
type VolumeRecord struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is known about the volume from its creation, and its wanted size and copies.
	Spec VolumeRecordSpec `json:"spec"`
	// fact is what compare-and-set is for: it is replaced by Update with the resourceVersion it was read with, and in no other way.
	// +optional
	Fact VolumeFact `json:"fact,omitzero"`
	// status is a view.
	// +optional
	Status VolumeRecordStatus `json:"status,omitzero"`
}

// VolumeRecordSpec says what the volume is.
// +kubebuilder:validation:XValidation:rule="has(self.parent) == has(oldSelf.parent) && (!has(self.parent) || self.parent == oldSelf.parent)",message="a volume's parent is fixed at its creation: make a new clone"
type VolumeRecordSpec struct {
	// network is the name of the MyNetwork.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a volume can not move to another network: make a new one there and copy"
	Network string `json:"network"`
	// networkUID is the uid of that network: a network made anew under the same name does not own the volume.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="networkUID is fixed at the volume's creation"
	NetworkUID string `json:"networkUID"`
	// volumeID is the volume's id in the data path, in hex.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{32}$`
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="volumeID is fixed at the volume's creation"
	VolumeID string `json:"volumeID"`
	// capacity is the wanted size in bytes, a multiple of 4 KiB. It grows and never shrinks.
	Capacity resource.Quantity `json:"capacity"`
	// copies is on how many nodes each byte is wanted, 1 to 7.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=7
	Copies int32 `json:"copies"`
	// writes says when a flush is answered.
	// +optional
	// +kubebuilder:default=Strong
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="writes is fixed at the volume's creation: clone the volume with the other mode"
	Writes WriteMode `json:"writes,omitempty"`
	// compression of pages that are written from now on.
	// +optional
	// +kubebuilder:default=None
	Compression Compression `json:"compression,omitempty"`
	// encrypted tells that pages are encrypted with the group's key. Keys are never in this object.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="encryption is fixed at the volume's creation: make an encrypted volume and copy"
	Encrypted bool `json:"encrypted,omitempty"`
	// parent is what the volume was cloned or restored from.
	// +optional
	Parent *VolumeParent `json:"parent,omitempty"`
	// claim is the PersistentVolumeClaim that the volume was made for.
	// +optional
	Claim *ClaimReference `json:"claim,omitempty"`
}

// VolumeParent is what a volume started from.
type VolumeParent struct {
	// volumeID of the parent, in hex.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{32}$`
	// +kubebuilder:validation:MaxLength=32
	VolumeID string `json:"volumeID"`
	// snapshotID of the parent, in hex, that the volume starts from.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{32}$`
	// +kubebuilder:validation:MaxLength=32
	SnapshotID string `json:"snapshotID"`
}

// ClaimReference names a claim.
type ClaimReference struct {
	// namespace of the claim.
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
	// name of the claim.
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// VolumeFact is (epoch, token, anchor): who may write, and from where the journal is followed to its end.
// +kubebuilder:validation:XValidation:rule="self.epoch >= oldSelf.epoch",message="an epoch never falls: read the record again and take a higher one"
// +kubebuilder:validation:XValidation:rule="self.epoch > oldSelf.epoch || self.token == oldSelf.token",message="one epoch has one writer: take the next epoch"
type VolumeFact struct {
	// epoch is the number of the volume's single writer. 0 before the first.
	// +kubebuilder:validation:Minimum=0
	Epoch int64 `json:"epoch"`
	// token is the random mark of the writer that took the epoch, in hex; 16 zeros before the first.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{16}$`
	// +kubebuilder:validation:MaxLength=16
	Token string `json:"token"`
	// anchor is the encoded journal position from which "next" leads to the tail. Empty before the first.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Anchor []byte `json:"anchor,omitempty"`
}

// VolumeRecordStatus is a view: nothing is decided by it.
type VolumeRecordStatus struct {
	// node is the Kubernetes node that the volume is attached to, if any.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node,omitempty"`
	// used is how many bytes are stored, counted once.
	// +optional
	Used *resource.Quantity `json:"used,omitempty"`
	// copies is the fewest good copies that any part of the volume has.
	// +optional
	Copies int32 `json:"copies,omitempty"`
	// stateCount is how many states there are, also those that states does not list.
	// +optional
	StateCount int32 `json:"stateCount,omitempty"`
	// states are the newest 64 snapshots of the volume, newest first.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=id
	States []State `json:"states,omitempty"`
}

// VolumeRecordList is a list of records.
// +kubebuilder:object:root=true
type VolumeRecordList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VolumeRecord `json:"items"`
}
