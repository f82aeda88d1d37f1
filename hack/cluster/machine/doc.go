// Package machine makes "machines" for a test cluster out of one kernel's namespaces.
//
// A machine is a node: own mount, pid, network, uts, ipc and cgroup namespaces, a root file system of its own on the disk
// of the real machine, and a pid 1 that starts containerd, the kubelet and kube-proxy and restarts them when they end.
//
//	hub: network namespace of the control plane, bridge br0 10.77.0.1/24, and a proxy from the real machine's loopback
//	 ├─ veth n1 ── eth0 10.77.0.11   node n1, its pods 10.78.1.0/24 behind bridge cni0
//	 ├─ veth n2 ── eth0 10.77.0.12   node n2, its pods 10.78.2.0/24
//	 └─ ...
//
// Root file system of a node:
//
//	/usr (and what is beside it: /bin, /lib)   the real machine's, read-only
//	/etc                                       a copy, made when the node first starts
//	/dev                                       the real machine's: all nodes see all devices
//	/proc /sys /run /tmp                       new at every start
//	/var and all else                          the node's own, kept over a power-off as a disk keeps it
//	/opt/cluster                               programs, images and settings of the cluster, read-only
//
// Invariants:
//
//  1. Nothing outside of the namespaces changes: no mount, address, route or sysctl of the real machine. Mounts of the
//     real machine are not held either: a node sees none of them but those above.
//  2. SIGKILL of pid 1 is a power-off: the kernel ends every process of the node at once, with them the namespaces and
//     mounts. What one kernel keeps beyond that, loop devices and FUSE connections, PowerOff ends itself, and only
//     what was seen in the node's own mounts or backed by files of the node.
//  3. Only processes and cgroups in the record are ever signalled or removed.
//
// What a node shares with the others and with the real machine: the kernel, its page cache (a power-off loses no write that
// reached a file of the real machine), devices, time and the load.
package machine
