package metrics

import m "mynetwork.io/mynetwork/metrics"

// Families lists all that an agent exports beside what a Go process does.
func Families() []m.Family {
	var out []m.Family
	for _, part := range [][]m.Family{node(), volumeState(), volumeWork(), storeWork(), peers(), care()} {
		out = append(out, part...)
	}
	return out
}

func node() []m.Family {
	return []m.Family{
		{Name: "agent_info", Kind: m.Gauge, Labels: []string{"name", "version"}, Help: "1 for the agent of this node, with its version."},
		{Name: "agent_layout_version", Kind: m.Gauge, Help: "Version of the layout that this node follows."},
		{Name: "agent_certificate_expiry_timestamp_seconds", Kind: m.Gauge, Help: "When the certificate in use ends, in Unix time. It is renewed at a third of its life."},
		{Name: "agent_connections_refused_total", Kind: m.Counter, Help: "Connections that the peer server refused: strangers, or certificates of others."},
		{Name: "agent_peers_lost_total", Kind: m.Counter, Help: "Times that a node stopped to answer this one."},
		{Name: "agent_events_total", Kind: m.Counter, Help: "Entries of the agent's own log of events."},
		{Name: "agent_health_level", Kind: m.Gauge, Labels: []string{"resource"}, Help: "How loaded the node is: 0 ok, 1 above the threshold, 2 critical (1.2 times it, at most 95 percent). Resources: cpu, memory, disk, latency, peers. With hysteresis."},
		{Name: "agent_health_ratio", Kind: m.Gauge, Labels: []string{"resource"}, Help: "The last sample as a multiple of its threshold: cpu 80 percent, memory 85, disk 90, latency 1 s; peers: 1 if fewer than 3 answer, 1.2 if fewer than half of that."},
		{Name: "cache_hits_total", Kind: m.Counter, Help: "Look-ups that the cache of pages and tables answered."},
		{Name: "cache_misses_total", Kind: m.Counter, Help: "Look-ups that it did not."},
		{Name: "cache_bytes", Kind: m.Gauge, Help: "Bytes in the cache."},
		{Name: "cache_capacity_bytes", Kind: m.Gauge, Help: "Bytes that the cache may hold."},
	}
}

func volumeState() []m.Family {
	v := []string{"volume"}
	return []m.Family{
		{Name: "volume_info", Kind: m.Gauge, Labels: []string{"volume", "id", "claim_namespace", "claim", "device"}, Help: "1 for each volume that is open on this node, with the claim that it was made for."},
		{Name: "volume_size_bytes", Kind: m.Gauge, Labels: v, Help: "Size of the device."},
		{Name: "volume_used_bytes", Kind: m.Gauge, Labels: v, Help: "Bytes stored, journal included, counted once."},
		{Name: "volume_failed", Kind: m.Gauge, Labels: v, Help: "1 if the volume's engine has ended here, by a fence or an error: its device answers EIO."},
		{Name: "volume_full", Kind: m.Gauge, Labels: v, Help: "1 while writes are answered with ENOSPC, as the network has no room for another extent."},
		{Name: "volume_weak", Kind: m.Gauge, Labels: v, Help: "1 if a flush is answered by one replica: the loss of one node may lose flushed writes."},
		{Name: "volume_stalled", Kind: m.Gauge, Labels: v, Help: "1 while requests wait and none of their kind has ended for a second."},
		{Name: "volume_copies_wanted", Kind: m.Gauge, Labels: v, Help: "Copies that each part should have."},
		{Name: "volume_copies_least", Kind: m.Gauge, Labels: v, Help: "The fewest good copies that any part has, as last counted; 0: not counted yet."},
		{Name: "volume_copies_bound", Kind: m.Gauge, Labels: []string{"volume", "bound"}, Help: "The least and the most copies that a volume may have by itself, by how much it is read; without bounds there is no such series."},
		{Name: "volume_copies_adapted_total", Kind: m.Counter, Labels: []string{"volume", "reason"}, Help: "Changes of the number of copies that this node made by itself. Reasons: ReadHot, Unused, LowSpace, BelowLeast, AboveMost."},
		{Name: "volume_replicas_failed", Kind: m.Gauge, Labels: v, Help: "Replicas of the open extent that were left out."},
		{Name: "volume_extents", Kind: m.Gauge, Labels: v, Help: "Extents in use."},
		{Name: "volume_extents_degraded", Kind: m.Gauge, Labels: v, Help: "Extents that are not known to have all their copies."},
		{Name: "volume_ring_used_bytes", Kind: m.Gauge, Labels: v, Help: "Bytes of acknowledged writes that the write ring holds until a quorum has them."},
		{Name: "volume_journal_records_uncommitted", Kind: m.Gauge, Labels: v, Help: "Journal records appended that no quorum has yet."},
		{Name: "volume_snapshots", Kind: m.Gauge, Labels: v, Help: "Snapshots."},
		{Name: "volume_limit_operations", Kind: m.Gauge, Labels: v, Help: "Operations a second that may go through; 0: no limit."},
		{Name: "volume_limit_bytes", Kind: m.Gauge, Labels: v, Help: "Bytes a second that may go through; 0: no limit."},
	}
}

func volumeWork() []m.Family {
	v := []string{"volume"}
	op := []string{"volume", "operation"}
	return []m.Family{
		{Name: "volume_operation_seconds", Kind: m.Histogram, Labels: op, Help: "Time from a request to its answer, without the wait for the volume's own limits. Operations: read, write, flush, discard. Its count is the number of operations."},
		{Name: "volume_operation_bytes_total", Kind: m.Counter, Labels: op, Help: "Bytes read, written and discarded by users."},
		{Name: "volume_operation_errors_total", Kind: m.Counter, Labels: op, Help: "Requests that were answered with an error."},
		{Name: "volume_operation_stalls_total", Kind: m.Counter, Labels: op, Help: "Requests that took longer than a second."},
		{Name: "volume_operations_waiting", Kind: m.Gauge, Labels: op, Help: "Requests that wait at this moment."},
		{Name: "volume_journal_bytes_total", Kind: m.Counter, Labels: v, Help: "Bytes appended to the journal: against the bytes written, this is the write amplification of one copy."},
		{Name: "volume_checkpoints_total", Kind: m.Counter, Labels: v, Help: "Checkpoints of the map."},
		{Name: "volume_extents_rolled_total", Kind: m.Counter, Labels: v, Help: "Extents opened, because the one before was full or a replica had failed."},
		{Name: "volume_recoveries_total", Kind: m.Counter, Labels: v, Help: "Recoveries of the journal, at opening and in place."},
		{Name: "volume_pages_bad_total", Kind: m.Counter, Labels: v, Help: "Pages read from a replica that did not match their hash."},
		{Name: "volume_pages_repaired_total", Kind: m.Counter, Labels: v, Help: "Pages replaced by good ones from another replica."},
		{Name: "volume_reads_hedged_total", Kind: m.Counter, Labels: v, Help: "Reads that were sent to another replica too, because the first one was late."},
		{Name: "volume_hedges_won_total", Kind: m.Counter, Labels: v, Help: "Hedged reads that another replica answered before the first one did."},
		{Name: "volume_extents_cleaned_total", Kind: m.Counter, Labels: v, Help: "Extents whose live data was moved so that their space can be freed."},
		{Name: "volume_extents_freed_total", Kind: m.Counter, Labels: v, Help: "Extents whose space was given back."},
		{Name: "volume_scrubs_total", Kind: m.Counter, Labels: v, Help: "Passes of the scrubber over every copy."},
	}
}

func storeWork() []m.Family {
	s := []string{"store", "path"}
	return []m.Family{
		{Name: "store_state", Kind: m.Gauge, Labels: []string{"store", "path", "state"}, Help: "1 for the state that a store is in: New, Serving, Full, Missing or Quarantined."},
		{Name: "store_capacity_bytes", Kind: m.Gauge, Labels: s, Help: "Bytes that the store may use."},
		{Name: "store_used_bytes", Kind: m.Gauge, Labels: s, Help: "Bytes occupied or reserved, by the store and by others on its file system."},
		{Name: "store_free_bytes", Kind: m.Gauge, Labels: s, Help: "Bytes that new data may still take; the last 8 percent are kept for repair."},
		{Name: "store_clearing", Kind: m.Gauge, Labels: []string{"store", "path", "stage"}, Help: "1 for what a store gets back at the moment because less than 10 percent of it is free, in this order: Deleted (volumes), Unreferenced (blocks), Surplus (copies), Exhausted (nothing is found); Idle: there is room."},
		{Name: "store_clearings_total", Kind: m.Counter, Labels: []string{"store", "path", "stage"}, Help: "Times that a store began such a stage."},
		{Name: "store_freed_bytes_total", Kind: m.Counter, Labels: s, Help: "Bytes of copies that were freed since the store was opened."},
		{Name: "store_live_bytes", Kind: m.Gauge, Labels: s, Help: "Bytes of data and journals."},
		{Name: "store_extents", Kind: m.Gauge, Labels: s, Help: "Copies of extents that lie here."},
		{Name: "store_volumes", Kind: m.Gauge, Labels: s, Help: "Volumes that have a copy here."},
		{Name: "store_sync_seconds", Kind: m.Histogram, Labels: s, Help: "Time of a sync (fdatasync): what a flush waits for."},
		{Name: "store_read_seconds", Kind: m.Histogram, Labels: s, Help: "Time of a read from disk."},
		{Name: "store_write_seconds", Kind: m.Histogram, Labels: s, Help: "Time of a write to disk, without a sync."},
		{Name: "store_read_bytes_total", Kind: m.Counter, Labels: s, Help: "Bytes read from disk."},
		{Name: "store_written_bytes_total", Kind: m.Counter, Labels: s, Help: "Bytes written to disk."},
		{Name: "store_errors_total", Kind: m.Counter, Labels: []string{"store", "path", "operation"}, Help: "Errors that the disk gave: read, write or sync."},
		{Name: "replication_seconds", Kind: m.Histogram, Help: "Time in which this node copied what it missed of an extent from another node."},
		{Name: "replication_bytes_total", Kind: m.Counter, Help: "Bytes that came to this node so."},
		{Name: "replication_errors_total", Kind: m.Counter, Help: "Copies that failed."},
		{Name: "replication_active", Kind: m.Gauge, Help: "Copies under way."},
	}
}

func peers() []m.Family {
	p := []string{"peer"}
	return []m.Family{
		{Name: "peer_up", Kind: m.Gauge, Labels: p, Help: "1 if the node answers this one."},
		{Name: "peer_round_trip_seconds", Kind: m.Gauge, Labels: p, Help: "Smoothed time from a small request to its answer; 0: not measured."},
		{Name: "peer_bandwidth_bytes", Kind: m.Gauge, Labels: p, Help: "Smoothed bytes a second of large exchanges; 0: not measured."},
		{Name: "peer_score", Kind: m.Gauge, Labels: p, Help: "Rating from 0 to 1 by which reads choose replicas: 0.3 latency, 0.3 bandwidth, 0.2 reliability, 0.2 reputation."},
		{Name: "peer_score_parts", Kind: m.Gauge, Labels: []string{"peer", "part"}, Help: "The parts of the rating, each from 0 to 1."},
		{Name: "peer_failures_total", Kind: m.Counter, Labels: p, Help: "Connections to the node that failed."},
	}
}

func care() []m.Family {
	return []m.Family{
		{Name: "scrub_bytes_total", Kind: m.Counter, Help: "Bytes that background scrubs of this node's stores have read."},
		{Name: "scrub_errors_found_total", Kind: m.Counter, Help: "Bad pages and blocks that they found."},
		{Name: "scrub_errors_repaired_total", Kind: m.Counter, Help: "Those that were replaced by good ones."},
		{Name: "scrub_last_complete_timestamp_seconds", Kind: m.Gauge, Help: "When every byte of this node had last been checked, in Unix time; 0: never yet."},
		{Name: "move_bytes_total", Kind: m.Counter, Help: "Bytes that were moved because a layout changed or copies were missing."},
		{Name: "move_bytes_left", Kind: m.Gauge, Help: "Bytes that still have to be moved, as far as is known."},
		{Name: "move_rate_bytes", Kind: m.Gauge, Help: "Bytes a second that are being moved."},
		{Name: "move_copies_missing", Kind: m.Gauge, Help: "Copies that are missing of what is open or looked after on this node."},
	}
}
