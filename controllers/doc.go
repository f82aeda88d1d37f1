// Package controllers puts the operator together: a scheme, a manager's options, and the controllers of the packages below.
//
//	mynetwork     a network: agents, holders, settings, classes, authority, layouts
//	storagenode   its nodes: status, guards and their disruption budget, taints, format grants
//	contentgroup  users' views of volumes
//	agents        the agents' control port: layouts, fences
//	authority     the CA and the signer of agents' certificate requests
//	warrants      grants and deletions that agents ask for, grants of members, certificates of the CSI controller
//	failover      who is dead, and which pods may be deleted by force     (pure, but for Kubelets, which reads Leases)
//	takeover      fences the volumes of the dead, and frees their pods
//	guard         who may be drained                                      (pure)
//	snapshotter   starts the CSI snapshotter where the cluster has snapshots
//	pace          what comes in crowds starts one round
//	figures       what is exported: networks, nodes, volumes, events
//	apply         server-side apply that writes nothing at rest
//	status        conditions by the rules of kstatus
//
// Two operators run, one leads. The lease is short, because the time until a dead node's volumes serve elsewhere contains it when
// the operator's leader was on that node.
//
// Status of the code: "mynetwork operator" runs it. See each package for what it does not do.
package controllers
