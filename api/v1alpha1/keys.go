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

	// AnnotationFailover with the value "never" on a pod keeps the operator from ever deleting it by force.
	AnnotationFailover = "mynetwork.io/failover"
	// AnnotationApplied is the hash of what the operator applied last; it tells a field that was taken back from one that others set.
	AnnotationApplied = "storage.mynetwork.io/applied"

	// ParameterNetwork is the StorageClass parameter that names the network. ParameterNetworkUID pins which network of that name it was.
	ParameterNetwork    = "network"
	ParameterNetworkUID = "networkUID"
)
