// Package controller implements the Controller, GroupController and SnapshotMetadata services: volumes, clones, snapshots, groups of
// snapshots, what snapshots hold, expansion, capacity and health, by calls to agents.
//
// It keeps nothing. A volume's name in its network is what makes a repeated request find it, and the agent alone judges
// whether two requests are equal. What changes a volume is asked of the agent of the node that holds it.
//
// Invariants and their tests are in csi/DESIGN.md.
//
// # Concurrency
//
// A Controller is safe for concurrent use. Calls for one volume, or one name, exclude one another: the second is ABORTED.
package controller
