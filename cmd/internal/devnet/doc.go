// Package devnet runs a network on one machine: agents and holders as real processes on loopback, each with its own
// directory, certificates of an authority of their own, and a shared file registry.
//
// # Directory
//
//	D/network.json     what the network is: version, uid, nodes with their addresses. Its presence marks D as ours
//	D/lock             held while processes are started or stopped
//	D/ca               the authority (ca.crt, ca.key) and the control key (control.key), mode 0700
//	D/registry         the agents' file registry
//	D/layout           the layout, once a node was drained; agents look at it every second
//	D/n1/agent.yaml    the settings of "mynetwork agent" of node n1
//	D/n1/agent.pid     pid, start time and boot of its agent; holder.pid of its holder
//	D/n1/agent.log     what it said; holder.log of its holder
//	D/n1/tls           tls.crt, tls.key, ca.crt
//	D/n1/store         the node's data
//	D/n1/run           agent.sock and holder.sock, mode 0700; devices are mounted below it
//
// # Invariants
//
//  1. A process is signalled only if pid, start time and boot are those that were recorded when it was started.
//  2. Nothing is written to, or removed from, a directory that holds something else than a network of this package.
//  3. Up and Down can be repeated, also after they were killed.
//  4. Down removes data only with Wipe, and only after every process has ended and every device is gone.
//
// # Concurrency
//
// One Up, Down, Start, Kill, Add, Drain or Remove at a time works on a directory: the others wait for a
// while, then fail with ErrLocked.
package devnet
