// Command bench measures a replicated volume with fio, beside a plain file on the same disk:
//
//	go run ./hack/bench -program bin/mynetwork [-out new.json]
//	go run ./hack/bench compare old.json new.json
//	go run ./hack/bench markdown new.json
//	go run ./hack/bench stages
//
// It makes a network of three nodes (mynetwork dev up) in a new directory, attaches a volume as a FUSE and loop device and
// another one over NBD, both to the first node, and fills both and the plain file. Then each workload runs on each
// target, RUNS times; the order of targets is rotated from run to run, so that what neighbours do meets all of them.
// A figure is the median of its runs; a ratio is made within a run, against the plain file of that run, and the median of those
// is printed. Afterwards it measures attach, snapshot, clone and the rebuild of a replica. Everything that it started and
// made is removed, also after an error or a signal.
//
// What the columns are:
//
//   - IOPS, MB/s (1e6 bytes): of fio. p50, p99, p99.9: completion latency in µs. With a sync after each write, an
//     operation is a write and its sync, and the column is the sum of the two percentiles, which is no less than the percentile of
//     the sum at p50 in practice, and a bound for orientation above.
//   - CPU: µs of user and system time per operation of fio, the agents and the holders, from /proc/PID/stat.
//   - ALL CPU: µs that the whole machine was not idle, per operation, from /proc/stat. It has the kernel's threads (loop,
//     io workers, interrupts) and whatever else runs on the machine: honest only on a quiet one.
//   - DISK: write_bytes of the agents (/proc/PID/io), over three times the bytes that fio wrote; the agents are given
//     up to five seconds to become quiet after fio ends. The kernel counts a page when it becomes dirty, and a large
//     folio as a whole, so this can be more than what is written; the file system's own journal is not in it.
//   - ALL DISK: what reached the disk (/proc/diskstats), over the same; it has the file system's journal and all others'
//     writes: honest only on a quiet machine. For the plain file both are over the bytes of fio.
//
// Other commands, each with a network of its own; -h lists their flags:
//
//   - bench heal: what a replica missed while it was away is copied, alone and beside synced writes; copies that move and are made again: a node is
//     added, drained, lost; and what a writer notices of it.
//   - bench sustained: synced and deep writes for a minute or ten, with the operations of each second, memory, and the space held.
//   - bench hang: reads beside a disk that answers late now and then, or not at all for a while. All three agents run in this process, so that faults can
//     be put between the first one and its disk (disk.Faults); there is no such switch in the product.
//   - bench space: how much of what stores hold comes back, and when, after a file was removed and trimmed and after a volume was deleted; and what
//     overwrites cost where most of what volumes may fill is alive, on a file system of its own for the stores.
//   - bench db: PostgreSQL, SQLite and database-like loads of fio on ext4, on a volume and on a plain file, alternating.
//   - bench scale: how things grow with the number of agents, of attached volumes, and with the size of a volume; it writes its tables
//     and a plot into SCALE.md, and the figures into results/scale.json.
//   - bench profile: which causes and processes the CPU time of an operation goes to, by samples of the whole machine (perf).
//   - bench stages: the CPU time of each stage of a write and a read, from the packages' own benchmarks.
//
// Nothing here asserts a time. Flags can also be given by the environment, as make does: OUT, DURATION (seconds), RUNS,
// SIZE, WORKLOADS, TARGETS, TIMES, MARKDOWN. results has the figures that later ones are compared with, and profile.md, a
// profile's summary.
package main
