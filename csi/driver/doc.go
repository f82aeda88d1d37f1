// Package driver puts the services of csi.mynetwork.io together: Identity, and what controller and node implement; it serves
// them on a unix socket that one process has at a time, and asks that socket whether it is well.
//
// It speaks version 1.13 of the specification. Only what works is advertised: group snapshots need a Barrier,
// VolumeAttributesClass a Modifier, topology is told if it is configured. There is no attacher: one writer per volume is
// kept by the volume's epoch, and NodeStageVolume waits for it.
//
// # Invariants
//
//  1. Errors become codes, and failed calls are logged, in one interceptor. Requests are never logged: they may hold keys.
//  2. The process that is to serve a socket waits until the one before has ended all its calls.
//
// # Concurrency
//
// A Driver is safe for concurrent use.
package driver
