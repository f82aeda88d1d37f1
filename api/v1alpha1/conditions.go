package v1alpha1

// Types of conditions.
const (
	// ConditionReady is True when the object does what its spec asks for, now. It is always there. Normal is True.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the operator is still acting on the spec, or waits for something that will come by
	// itself; otherwise it is absent.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when nothing goes on before a person does something; its message says what. Otherwise it is absent.
	ConditionStalled = "Stalled"
	// ConditionDataLoss is True when a weak volume went on without replicas that may alone have had acknowledged data. It is absent
	// otherwise.
	ConditionDataLoss = "DataLoss"
	// ConditionDegraded is True when data has fewer copies than asked for, or a node is missing; otherwise False.
	ConditionDegraded = "Degraded"
	// ConditionRebalancing is True while copies move to where the layout wants them; otherwise False.
	ConditionRebalancing = "Rebalancing"
	// ConditionCapacityLow is True when used space passed the warning threshold; otherwise False.
	ConditionCapacityLow = "CapacityLow"
	// ConditionUnderPressure is True while a node's CPU, memory, disk, latency or number of peers is beyond its threshold; otherwise False.
	ConditionUnderPressure = "UnderPressure"
	// ConditionClockSkewed is True when a node's clock is not the API server's; absent as long as nothing is known of it.
	ConditionClockSkewed = "ClockSkewed"
	// ConditionDevicesMissing is True when no volume can be attached on a node, because it gives no /dev/fuse or no loop devices; absent until
	// its agent has reported.
	ConditionDevicesMissing = "DevicesMissing"
	// ConditionSnapshotsAvailable is True when the cluster serves the snapshot API and the network's class is there; otherwise False.
	ConditionSnapshotsAvailable = "SnapshotsAvailable"
)

// Reasons of Ready, Reconciling and Stalled.
const (
	// ReasonReady: all is as asked.
	ReasonReady = "Ready"
	// ReasonProgressing: children or nodes are not there yet; nothing is wrong.
	ReasonProgressing = "Progressing"
	// ReasonAgentsNotReady: agents of some nodes are not ready.
	ReasonAgentsNotReady = "AgentsNotReady"
	// ReasonPaused: spec.paused is set; the operator changes nothing.
	ReasonPaused = "Paused"
	// ReasonDeleting: the object is being deleted, and what has to be done before is being done.
	ReasonDeleting = "Deleting"

	// ReasonNoNodes: the selectors choose no node, so there is nowhere to put anything.
	ReasonNoNodes = "NoNodes"
	// ReasonTooFewNodes: there are fewer storage nodes than copies. Volumes work, with fewer copies than asked.
	ReasonTooFewNodes = "TooFewNodes"
	// ReasonTooFewZones: the zone policy is Strict and there are fewer zones than copies. The layout before stays.
	ReasonTooFewZones = "TooFewZones"
	// ReasonPathInUse: another network uses the same directory on nodes of this one.
	ReasonPathInUse = "PathInUse"
	// ReasonNoImage: neither the spec nor the operator's settings name an image.
	ReasonNoImage = "NoImage"
	// ReasonVolumesRemain: the network is being deleted and still has volumes.
	ReasonVolumesRemain = "VolumesRemain"
	// ReasonNetworkMissing: the network that the object names does not exist.
	ReasonNetworkMissing = "NetworkMissing"
	// ReasonInvalidSpec: the spec has a value that the schema admits and the operator can not act on.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonForeignObject: an object that the operator wants to make exists, and somebody else made it.
	ReasonForeignObject = "ForeignObject"

	// ReasonAuthorityMissing: the network's CA is gone while its nodes exist. A new one would lock all of them out: restore it.
	ReasonAuthorityMissing = "AuthorityMissing"
	// ReasonAuthorityInvalid: the network's CA can not be read.
	ReasonAuthorityInvalid = "AuthorityInvalid"

	// ReasonLayoutUnavailable: the body of the layout that the status names can not be fetched. No new one is made without it.
	ReasonLayoutUnavailable = "LayoutUnavailable"

	// ReasonTooManyDead: more than one zone, or more than 30 % of the nodes, look dead at once. That is more often a fault of
	// the network than of the nodes, so no pod is deleted by force.
	ReasonTooManyDead = "TooManyDead"
)

// Reasons of StorageNode conditions.
const (
	// ReasonNodeMissing: the Kubernetes node is gone. The StorageNode stays, because the data may.
	ReasonNodeMissing = "NodeMissing"
	// ReasonAgentMissing: no agent has reported from this node yet.
	ReasonAgentMissing = "AgentMissing"
	// ReasonUnreachable: a majority of the network's storage nodes can not reach this one.
	ReasonUnreachable = "Unreachable"
	// ReasonStoreMissing: a directory that had a store is empty, as when a disk was not mounted at boot. It is never formatted anew.
	ReasonStoreMissing = "StoreMissing"
	// ReasonStoreFailed: a store is quarantined after an I/O error; its data is made again from other nodes.
	ReasonStoreFailed = "StoreFailed"
	// ReasonTakenOut: the node was unreachable for longer than nodes.downAfter. The layout is without it, and its data is made again on others.
	ReasonTakenOut = "TakenOut"
	// ReasonCordoned: no new data is placed here; what is here stays.
	ReasonCordoned = "Cordoned"
	// ReasonDraining: copies are moving away.
	ReasonDraining = "Draining"
	// ReasonDrained: no copy is left here; the node can go.
	ReasonDrained = "Drained"
	// ReasonLastCopies: the node can not go, because some data has no other copy.
	ReasonLastCopies = "LastCopies"
	// ReasonVolumesNotInPlace: the node can not go, because the journal of a volume may still count on it, or copies elsewhere are not there yet.
	ReasonVolumesNotInPlace = "VolumesNotInPlace"
	// ReasonVolumesAttached: the node can not go, because volumes are attached there.
	ReasonVolumesAttached = "VolumesAttached"
)

// Reasons of the conditions of the domain.
const (
	// ReasonHealthy: nothing of this kind is wrong.
	ReasonHealthy = "Healthy"
	// ReasonNodesDown: storage nodes are missing or unreachable.
	ReasonNodesDown = "NodesDown"
	// ReasonPossible: data may be lost; what replicas keep of it is listed by "mynetwork volume tails".
	ReasonPossible = "Possible"
	// ReasonMissingCopies: some data has fewer copies than asked for.
	ReasonMissingCopies = "MissingCopies"
	// ReasonBalanced: everything is where the layout wants it.
	ReasonBalanced = "Balanced"
	// ReasonMovingData: nodes have not all reported that they hold what the present layout gives them.
	ReasonMovingData = "MovingData"
	// ReasonAboveThreshold: what the message names is beyond its threshold. ReasonBelowThresholds: nothing is.
	ReasonAboveThreshold  = "AboveThreshold"
	ReasonBelowThresholds = "BelowThresholds"
	// ReasonEnoughSpace: used space is below the warning threshold.
	ReasonEnoughSpace = "EnoughSpace"
	// ReasonAboveWarning: used space passed the warning threshold.
	ReasonAboveWarning = "AboveWarning"
	// ReasonAboveCritical: used space passed 1.2 times the warning threshold, at most 95 %. Writes are refused from 92 % of a disk.
	ReasonAboveCritical = "AboveCritical"
	// ReasonClearingSpace: less than 10 % of a disk is free, and it gets back what deleted volumes have left, then what nothing refers to, then copies
	// beyond the least that are wanted.
	ReasonClearingSpace = "ClearingSpace"
	// ReasonSpaceExhausted: less than 12 % of a disk is free, and nothing more is found that could be freed.
	ReasonSpaceExhausted = "SpaceExhausted"
	// ReasonStoreFull: a disk takes no more writes.
	ReasonStoreFull = "StoreFull"
	// ReasonClockAhead and ReasonClockBehind: a node's clock differs from the API server's by 10 seconds or more.
	ReasonClockAhead  = "ClockAhead"
	ReasonClockBehind = "ClockBehind"
	// ReasonNodeWithoutFuse and ReasonNodeWithoutLoop: a node gives no /dev/fuse, or no loop devices.
	ReasonNodeWithoutFuse = "NodeWithoutFuse"
	ReasonNodeWithoutLoop = "NodeWithoutLoopDevices"
	// ReasonUnknownSpace: no node has reported its space yet.
	ReasonUnknownSpace = "UnknownSpace"
	// ReasonSnapshotsServed: the snapshot class is there.
	ReasonSnapshotsServed = "SnapshotsServed"
	// ReasonSnapshotAPIMissing: the cluster does not serve snapshot.storage.k8s.io/v1; the message says what to install.
	ReasonSnapshotAPIMissing = "SnapshotAPIMissing"
	// ReasonNotReported: no agent has reported about this yet.
	ReasonNotReported = "NotReported"
)

// Reasons of events that are not reasons of a condition.
const (
	// EventApplied: an object was made or changed.
	EventApplied = "Applied"
	// EventLayoutPublished: a new version of the layout was published.
	EventLayoutPublished = "LayoutPublished"
	// EventNodeTakenOut and EventNodeTakenBack: the layout is without a node that was unreachable for too long, or has it again.
	EventNodeTakenOut  = "NodeTakenOut"
	EventNodeTakenBack = "NodeTakenBack"
	// EventRebalanced: everything is where a layout wants it.
	EventRebalanced = "Rebalanced"
	// EventCertificateIssued: an agent's certificate request was signed.
	EventCertificateIssued = "CertificateIssued"
	// EventCertificateDenied: a certificate request was denied; the message says which check failed.
	EventCertificateDenied = "CertificateDenied"
	// EventNodeTainted and EventNodeUntainted: the unreachable taint was set, or taken back.
	EventNodeTainted   = "NodeTainted"
	EventNodeUntainted = "NodeUntainted"
	// EventVolumeFenced: a volume was taken from a dead node, which can not write it any more.
	EventVolumeFenced = "VolumeFenced"
	// EventPodDeleted: a pod of a dead node was deleted by force, so that its volumes serve elsewhere.
	EventPodDeleted = "PodDeleted"
	// EventPodKept: a pod of a dead node was not deleted by force; the message has the reason and the command to run.
	EventPodKept = "PodKept"
	// EventCopiesSet: the copies of a volume, or their bounds, were changed as its ContentGroup says.
	EventCopiesSet = "CopiesSet"
	// EventCopiesAdapted: the number of a volume's copies has followed how much it is read, or the space that is left.
	EventCopiesAdapted = "CopiesAdapted"
	// EventFailed: an action failed; the message has the error, and it is tried again.
	EventFailed = "Failed"
)
