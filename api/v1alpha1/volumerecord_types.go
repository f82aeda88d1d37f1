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
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.state.holder`
// +kubebuilder:printcolumn:name="Epoch",type=integer,JSONPath=`.fact.epoch`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="has(self.fact) || !has(oldSelf.fact)",message="a fact is never taken back: update the record that was read, with its resourceVersion"
// +kubebuilder:validation:XValidation:rule="!(has(oldSelf.state) && has(oldSelf.state.deletion)) || has(self.state) && has(self.state.deletion)",message="a deleted volume does not come back"
type VolumeRecord struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is known about the volume from its creation, and its wanted size and copies.
	Spec VolumeRecordSpec `json:"spec"`
	// fact is what compare-and-set is for: it is replaced by Update with the resourceVersion it was read with, and in no other way.
	// +optional
	Fact VolumeFact `json:"fact,omitzero"`
	// state is what agents note: who has the volume, its snapshots, its deletion. It is replaced by Update, as fact is.
	// +optional
	State VolumeState `json:"state,omitzero"`
	// requests are what agents ask the operator to sign, one per node. The answers are in status.
	// +optional
	// +listType=map
	// +listMapKey=node
	// +kubebuilder:validation:MaxItems=16
	Requests []VolumeRequest `json:"requests,omitempty"`
	// status is the operator's: its answers to requests, and a view.
	// +optional
	Status VolumeRecordStatus `json:"status,omitzero"`
}

// VolumeRecordSpec says what the volume is.
// +kubebuilder:validation:XValidation:rule="has(self.parent) == has(oldSelf.parent) && (!has(self.parent) || self.parent == oldSelf.parent)",message="a volume's parent is fixed at its creation: make a new clone"
// +kubebuilder:validation:XValidation:rule="(has(self.encrypted) && self.encrypted) == (has(oldSelf.encrypted) && oldSelf.encrypted)",message="encryption is fixed at the volume's creation: make an encrypted volume and copy"
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
	// name that people or the CSI driver gave it. Of the live volumes of a network, one has it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a volume's name is fixed at its creation"
	Name string `json:"name"`
	// capacity is the wanted size in bytes, a multiple of 4 KiB. It grows and never shrinks.
	Capacity resource.Quantity `json:"capacity"`
	// copies is on how many nodes each byte is wanted, 1 to 7.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=7
	Copies int32 `json:"copies"`
	// minCopies and maxCopies are the bounds within which copies follow how much the volume is read. Without them copies stay as they are.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=7
	MinCopies int32 `json:"minCopies,omitempty"`
	// maxCopies: see minCopies.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=7
	MaxCopies int32 `json:"maxCopies,omitempty"`
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
	Encrypted bool `json:"encrypted,omitempty"`
	// keyCheck tells a wrong key of an encrypted volume, and says nothing about the right one.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	KeyCheck []byte `json:"keyCheck,omitempty"`
	// extentSize is the size of an extent in bytes; 0 is the default.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ExtentSize int64 `json:"extentSize,omitempty"`
	// created is when the volume was made.
	// +optional
	Created metav1.Time `json:"created,omitzero"`
	// parent is what the volume was cloned or restored from.
	// +optional
	Parent *VolumeParent `json:"parent,omitempty"`
	// claim is the PersistentVolumeClaim that the volume was made for.
	// +optional
	Claim *ClaimReference `json:"claim,omitempty"`
	// limits bound what the volume's device may do in a second.
	// +optional
	Limits *VolumeLimits `json:"limits,omitempty"`
}

// VolumeLimits are per second. 0 is no limit.
type VolumeLimits struct {
	// maxIOPS is the most reads, writes and discards.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxIOPS int64 `json:"maxIOPS,omitempty"`
	// maxBytesPerSecond is the most bytes that are read and written.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxBytesPerSecond int64 `json:"maxBytesPerSecond,omitempty"`
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
	// size is how many bytes the claim asks for, where the volume was made larger than that because sizes are rounded up.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Size int64 `json:"size,omitempty"`
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
	// revision rises by one with each change of the fact.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Revision int64 `json:"revision,omitempty"`
}

// VolumeState is what agents note about a volume.
type VolumeState struct {
	// holder is the node that has the volume attached, as it said itself when it took holderEpoch. If fact.epoch is another number,
	// somebody else took the volume since.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Holder string `json:"holder,omitempty"`
	// holderEpoch is the epoch that the holder took.
	// +optional
	HolderEpoch int64 `json:"holderEpoch,omitempty"`
	// snapshots of the volume, as last known.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	// +listType=map
	// +listMapKey=id
	Snapshots []VolumeSnapshot `json:"snapshots,omitempty"`
	// used is how many bytes are stored, counted once, as the holder last said.
	// +optional
	Used *resource.Quantity `json:"used,omitempty"`
	// copies is the fewest good copies that any part of the volume has, as the holder last said. 0: not known.
	// +optional
	Copies int32 `json:"copies,omitempty"`
	// copiesReason says in one word why spec.copies was last changed by itself: ReadHot, Unused, LowSpace, BelowLeast, AboveMost. Empty: it was not.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	CopiesReason string `json:"copiesReason,omitempty"`
	// copiesChanged is when that was.
	// +optional
	CopiesChanged metav1.Time `json:"copiesChanged,omitzero"`
	// dataLoss is Possible once a weak volume was taken over without all its replicas: what they alone had acknowledged is not in it.
	// +optional
	DataLoss DataLoss `json:"dataLoss,omitempty"`
	// history is the number of the epoch that began the volume's present history, when that happened last.
	// +optional
	History int64 `json:"history,omitempty"`
	// deletion is set once the volume is deleted.
	// +optional
	Deletion *VolumeDeletion `json:"deletion,omitempty"`
}

// DataLoss says whether acknowledged data may be lost.
// +kubebuilder:validation:Enum=Possible
type DataLoss string

// DataLossPossible: see VolumeState.
const DataLossPossible DataLoss = "Possible"

// VolumeSnapshot is a snapshot as the registry knows it.
type VolumeSnapshot struct {
	// id in hex.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{32}$`
	// +kubebuilder:validation:MaxLength=32
	ID string `json:"id"`
	// name that people or the CSI driver gave it.
	// +kubebuilder:validation:MaxLength=200
	Name string `json:"name"`
	// size of the volume when it was taken, in bytes.
	// +optional
	Size int64 `json:"size,omitempty"`
	// created is when it was taken.
	// +optional
	Created metav1.Time `json:"created,omitzero"`
	// dying tells that it is being deleted: no clone may be made of it.
	// +optional
	Dying bool `json:"dying,omitempty"`
	// kept tells that its user has deleted it, and that it is there for the clones alone that start from it.
	// +optional
	Kept bool `json:"kept,omitempty"`
}

// VolumeDeletion says that, and on whose word, a volume is deleted.
type VolumeDeletion struct {
	// at is when it was deleted.
	At metav1.Time `json:"at"`
	// signed is the deletion record that stores keep.
	// +kubebuilder:validation:MaxLength=1024
	Signed []byte `json:"signed"`
	// confirmed are ids of the stores that keep the record and have freed what the volume used, in hex.
	// +optional
	// +kubebuilder:validation:MaxItems=16384
	// +kubebuilder:validation:items:MaxLength=32
	// +listType=set
	Confirmed []string `json:"confirmed,omitempty"`
}

// VolumeRequest is what an agent asks the operator to sign.
type VolumeRequest struct {
	// node that asks.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`
	// id is random, and new with each request. The answer quotes it.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{16}$`
	// +kubebuilder:validation:MaxLength=16
	ID string `json:"id"`
	// attach asks for a grant to take the volume over and to write it.
	// +optional
	Attach bool `json:"attach,omitempty"`
	// deletion asks for the signature of this deletion record.
	// +optional
	Deletion *DeletionRequest `json:"deletion,omitempty"`
	// at is when the node asked.
	At metav1.Time `json:"at"`
}

// DeletionRequest is what a deletion record says.
type DeletionRequest struct {
	// epoch that the deletion took: it fences every writer before.
	// +kubebuilder:validation:Minimum=1
	Epoch int64 `json:"epoch"`
	// at is in unix seconds.
	// +kubebuilder:validation:Minimum=0
	At int64 `json:"at"`
}

// VolumeAnswer is the operator's answer to a node's request.
type VolumeAnswer struct {
	// node that asked.
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`
	// id of the request.
	// +kubebuilder:validation:MaxLength=16
	ID string `json:"id"`
	// grant is signed by the network's control key: it is what replicas ask for.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Grant []byte `json:"grant,omitempty"`
	// notAfter is when the grant ends.
	// +optional
	NotAfter metav1.Time `json:"notAfter,omitzero"`
	// deletion is the signed deletion record.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Deletion []byte `json:"deletion,omitempty"`
	// refused says why nothing was signed, and what to do. The agent may ask again.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Refused string `json:"refused,omitempty"`
}

// VolumeRecordStatus is the operator's.
type VolumeRecordStatus struct {
	// answers to requests, one per node.
	// +optional
	// +listType=map
	// +listMapKey=node
	// +kubebuilder:validation:MaxItems=16
	Answers []VolumeAnswer `json:"answers,omitempty"`
	// fencedEpoch is the epoch that the operator had an agent take from a dead node. 0: never.
	// +optional
	FencedEpoch int64 `json:"fencedEpoch,omitempty"`
	// fencedNode is that node.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	FencedNode string `json:"fencedNode,omitempty"`
}

// VolumeRecordList is a list of records.
// +kubebuilder:object:root=true
type VolumeRecordList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VolumeRecord `json:"items"`
}
