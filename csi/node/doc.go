// Package node implements the Node service: it attaches volumes by the agent of its node, makes and mounts their file
// systems, and shows them to pods.
//
// The story of a volume on a node:
//
//  1. Stage asks the agent to attach it. While another node holds it, Stage waits, and says for whom.
//  2. If the device is empty it gets its file system; else the one that is there is checked. Nothing else is ever formatted.
//  3. It is mounted on the staging path, and grows to the size of its device. A raw device is only attached.
//  4. Publish shows the staged directory, or the device, at a pod's path, read-only from the first moment if wanted.
//  5. Expand lets the file system follow a device that the controller has made larger.
//  6. Unpublish takes a pod's path away; it needs no agent.
//  7. A volume that many nodes are to read is sealed before its first reader sees it: see seal.go.
//  8. Unstage unmounts, if no pod shows the volume any more, and has the agent detach it.
//
// Nothing is kept: what is mounted says the kernel's table, what is attached says the agent.
//
// Invariants and their tests are in csi/DESIGN.md.
//
// # Concurrency
//
// A Node is safe for concurrent use. Calls for one volume, or one target path, exclude one another: the second is ABORTED.
package node
