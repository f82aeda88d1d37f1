// Package plugin puts the CSI driver together: the node's part, with the mounters that it serves, and the controller's.
//
// The node's part is the only privileged one. It listens on unix sockets alone: the kubelet's, and one per network for the
// network's agent. The driver in csi knows no nodeagent; the two meet here.
//
// # Concurrency
//
// Node and Controller run until their context ends or a part fails.
package plugin
