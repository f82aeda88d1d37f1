// Package v1alpha1 is the Kubernetes API of MyNetwork: storage.mynetwork.io/v1alpha1.
//
//	MyNetwork     cluster     a set of nodes that share one layout: what an administrator writes (three lines do)
//	StorageNode   cluster     one node of a network with its disks: made by the operator, cordoned and drained by people
//	ContentGroup  namespace   contents that are replicated, verified and deleted together: a user's view and intent
//	VolumeRecord  cluster     the one fact of a volume that needs compare-and-set: owned by the system
//
// # Rules
//
// No object of this API decides whether data lives: deleting all of them deletes no block. What is computed stands in a
// status, a spec belongs to who wrote it. Objects in users' namespaces carry no authority.
//
// A VolumeRecord's fact is written by Update with its resourceVersion and by no other path, never by a forced apply.
//
// Conditions follow kstatus: Ready is always there; Reconciling and Stalled are there only while they are True;
// observedGeneration is raised only when the whole generation was acted on. See conditions.go for each condition and reason.
//
// The package imports nothing of this repository, so that clients can vendor it. Types are values without methods
// beyond what Kubernetes needs; they are safe to share as long as nobody writes to them.
//
// Status of the code: these types are served only where the CRDs below config/crd are installed. Agents do not read or
// write them yet, so what a status says about disks and replicas stays empty until they do.
//
// +kubebuilder:object:generate=true
// +groupName=storage.mynetwork.io
package v1alpha1
