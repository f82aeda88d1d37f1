// Package record keeps what a test cluster has made on this machine, so that tear-down touches that and nothing else.
//
// All state lies below one directory (Dir). Its file run.json is the record of the run: a random run id, from which every
// name outside of the directory is derived, and the processes and cgroups made. Network, mount and pid namespaces, bridges
// and veth pairs have no names of their own: they live and die with recorded processes.
//
// Invariants: a cgroup is recorded before it is made, a process right after its start and before anything depends on it.
// A process is its pid and its start time, so that a pid used again is never signalled. A record of an earlier boot of the
// machine lists nothing that lives.
//
// Concurrency: Open takes a lock on the directory, so that commands that change the cluster run one after the other, also
// from several shells. Read takes none and sees the last record saved.
package record
