package main

import "strings"

// causeIdle is what a processor does that has nothing to do.
const causeIdle = "idle"

// causes say what a sample was for: the first of them, from the innermost function outwards, one of whose beginnings a function's name has. A copy
// in crypto/tls is a copy; what has no rule of its own is its caller's.
var causes = []struct {
	cause    string
	prefixes []string
}{
	{causeIdle, []string{"default_idle", "pv_native_safe_halt", "acpi_idle", "cpuidle_", "intel_idle", "mwait_idle", "native_safe_halt", "arch_cpu_idle"}},
	{"encryption", []string{"crypto/internal/fips140/aes", "crypto/internal/fips140/subtle", "crypto/internal/fips140deps", "crypto/aes", "crypto/cipher"}},
	{"hashing", []string{"github.com/zeebo/blake3", "mynetwork.io/mynetwork/nodeagent/core/block/leaf", "hash/crc32"}},
	{"copies in processes", []string{"runtime.memmove", "runtime.memclr"}},
	{"copies to and from the kernel", []string{"copy_page", "rep_movs", "_copy_to_iter", "_copy_from_iter", "copy_user", "_copy_from_user", "_copy_to_user", "memcpy", "copy_folio", "fuse_copy", "clear_page"}},
	{"Go's memory", []string{"runtime.gc", "runtime.mallocgc", "runtime.scan", "runtime.grey", "runtime.(*mcache", "runtime.(*mheap", "runtime.(*mspan", "runtime.(*gcWork", "runtime.sweep", "runtime.newobject", "runtime.bgs", "runtime.wb", "runtime.mark"}},
	{"Go's scheduler", []string{"runtime.schedule", "runtime.findRunnable", "runtime.park", "runtime.ready", "runtime.goready", "runtime.futex", "runtime.note", "runtime.lock2", "runtime.unlock2", "runtime.netpoll", "runtime.sysmon",
		"runtime.execute", "runtime.gopark", "runtime.startm", "runtime.stopm", "runtime.wakep", "runtime.handoffp", "runtime.exitsyscall", "runtime.entersyscall", "runtime.reentersyscall", "runtime.mcall", "runtime.runq", "runtime.usleep", "runtime.retake", "runtime.(*timer", "runtime.chan", "runtime.select", "runtime.sema", "runtime.osyield", "runtime.procyield"}},
	{"kernel: switching and waking threads", []string{"finish_task_switch", "__schedule", "schedule", "try_to_wake_up", "ttwu", "select_task_rq", "enqueue_", "dequeue_", "pick_next", "pick_task", "update_curr", "futex_", "do_futex", "__x64_sys_futex", "ep_poll", "ep_send", "do_epoll", "__x64_sys_epoll", "switch_mm", "psi_", "sched_", "nohz", "tick_nohz", "flush_smp", "do_idle", "queue_work", "kick_pool", "wake_up", "__wake_up"}},
	{"kernel: FUSE", []string{"fuse_"}},
	{"kernel: loop device", []string{"loop_", "lo_"}},
	{"kernel: sockets", []string{"tcp_", "__tcp", "sock_", "inet_", "skb_", "__skb", "ip_", "__ip", "net_rx", "__netif", "process_backlog", "dev_", "__dev", "loopback_", "__napi", "validate_xmit", "nf_", "release_sock", "lock_sock", "__sys_sendto", "__sys_sendmsg", "__sys_recv", "alloc_skb", "__alloc_skb", "kfree_skb", "consume_skb", "napi_", "eth_"}},
	{"kernel: disk", []string{"blk_", "__blk", "bio_", "submit_bio", "virtblk", "virtqueue", "virtio", "vring", "vp_notify", "vm_notify", "scsi_", "dd_", "blkdev_", "bdev_", "__submit_bio", "elv_"}},
	{"kernel: file system and page cache", []string{"ext4_", "__ext4", "jbd2_", "iomap_", "filemap_", "__filemap", "generic_perform", "folio_", "__folio", "page_cache", "write_cache", "do_writepages", "file_write_and", "__file", "balance_dirty", "xas_", "mpage", "block_", "vfs_fsync", "generic_file", "truncate_", "lru_", "shmem_"}},
}

// packages of this program whose work has no cause above are causes themselves.
const own = "mynetwork.io/mynetwork/"

// cause of a stack, innermost first.
func cause(stack []string) string {
	for _, f := range stack {
		for _, c := range causes {
			for _, p := range c.prefixes {
				if strings.HasPrefix(f, p) {
					return c.cause
				}
			}
		}
		if strings.HasPrefix(f, "crypto/tls") {
			return "crypto/tls, but for the cipher and copies"
		}
		if path, ok := strings.CutPrefix(f, own); ok {
			return packageOf(path)
		}
	}
	for _, f := range stack { // the kernel's own, or a library's
		if strings.Contains(f, "/") || strings.HasPrefix(f, "runtime.") || strings.Contains(f, ".(*") {
			return "Go's libraries and runtime"
		}
	}
	return "kernel: all else (system calls, interrupts), and programs in C"
}

// packageOf is the path of a function's package: what is before the first dot after the last slash, and without closures' receivers.
func packageOf(path string) string {
	if i := strings.IndexAny(path, "[("); i >= 0 {
		path = path[:i]
	}
	slash := strings.LastIndexByte(path, '/') + 1
	name, _, _ := strings.Cut(path[slash:], ".")
	return path[:slash] + name
}
