package v1alpha1

// Names that several programs have to agree on.
const (
	// DriverName is the CSI driver that serves all networks of a cluster.
	DriverName = "csi.mynetwork.io"

	// SignerName is the signer of the agents' certificate requests.
	SignerName = "storage.mynetwork.io/node"

	// Finalizer keeps a MyNetwork while volumes are in it and a StorageNode while it holds copies that no other node has.
	Finalizer = "storage.mynetwork.io/finalizer"

	// TaintUnreachable is set, with effect NoSchedule, on a node that a majority of its storage peers can not reach.
	TaintUnreachable = "storage.mynetwork.io/unreachable"

	// TopologyPrefix and a network's name make the one topology key of the network. A node has it once its agent is ready.
	TopologyPrefix = "topology.mynetwork.io/"

	// LabelNetwork names the network on everything that the operator makes for it.
	LabelNetwork = "storage.mynetwork.io/network"
	// LabelNode names the Kubernetes node on its guard pod.
	LabelNode = "storage.mynetwork.io/node"
	// LabelComponent is agent, holder or guard.
	LabelComponent = "app.kubernetes.io/component"

	// LabelNetworkUID is the uid of its network on every VolumeRecord.
	LabelNetworkUID = "storage.mynetwork.io/network-uid"
	// LabelVolumeName is a hash of spec.name on every VolumeRecord: live names are found, and kept unique, by it.
	LabelVolumeName = "storage.mynetwork.io/volume-name"
	// LabelParent is the volume id of the parent on the VolumeRecord of a clone.
	LabelParent = "storage.mynetwork.io/parent"
	// LabelState is on a VolumeRecord that is not a live volume's: see StateMaking and StateDeleted.
	LabelState = "storage.mynetwork.io/state"
	// StateMaking is LabelState of a record whose maker does not know yet whether the name is free. It is no volume; nobody was told
	// of it, and nothing is stored for it. One that stays so was left by an agent that died, and is removed by the next that asks for the name.
	StateMaking = "making"
	// StateDeleted is LabelState of a deleted volume's record: see state.deletion.
	StateDeleted = "deleted"
	// AnnotationMadeAt is the resourceVersion that a VolumeRecord was made with: of two records with one name the lower one counts.
	AnnotationMadeAt = "storage.mynetwork.io/made-at"
	// AnnotationLastClone is the volume id of the latest clone. It is set so that a decision to delete the parent, or a snapshot of
	// it, made without knowing of the clone, fails for its resourceVersion.
	AnnotationLastClone = "storage.mynetwork.io/last-clone"

	// AnnotationFailover with the value "never" on a pod keeps the operator from ever deleting it by force.
	AnnotationFailover = "mynetwork.io/failover"
	// AnnotationScrub on a StorageNode is a time, as RFC 3339 writes it: all that the node's disks hold is read and checked anew, at once, unless
	// it has been since then. Without it that is done within 14 days. status.agent.stores says when it was done, and what was found.
	AnnotationScrub = "storage.mynetwork.io/scrub"
	// AnnotationApplied is the hash of what the operator applied last; it tells a field that was taken back from one that others set.
	AnnotationApplied = "storage.mynetwork.io/applied"

	// ParameterNetwork is the StorageClass parameter that names the network. ParameterNetworkUID pins which network of that name it was.
	ParameterNetwork    = "network"
	ParameterNetworkUID = "networkUID"
)
