package main

func boards() []board {
	network := choice{"network", "label_values(mynetwork_network_info, network)"}
	node := choice{"node", `label_values(mynetwork_agent_info{network=~"$network"}, node)`}
	volume := choice{"volume", `label_values(mynetwork_volume_info{network=~"$network"}, volume)`}
	return []board{
		{"network", "MyNetwork / Network", []choice{network}, networkRows()},
		{"node", "MyNetwork / Node", []choice{network, node}, nodeRows()},
		{"volume", "MyNetwork / Volume", []choice{network, volume}, volumeRows()},
	}
}

// one is a panel of one query.
func one(title, unit, expr, legend string) panel {
	return panel{title: title, unit: unit, queries: []query{{expr, legend}}}
}

func now(title, unit, expr, legend string) panel {
	p := one(title, unit, expr, legend)
	p.now = true
	return p
}

func networkRows() []row {
	const w = `{network=~"$network"}`
	return []row{
		{"How it is", []panel{
			now("Conditions that are True", "none", `mynetwork_network_condition`+w+` == 1`, "{{network}} {{condition}}"),
			now("Nodes", "none", `mynetwork_network_nodes`+w, "{{state}}"),
			now("Volumes", "none", `mynetwork_network_volumes`+w, "{{state}}"),
			now("Layout", "none", `mynetwork_network_layout_version`+w, "{{network}}"),
		}},
		{"Space", []panel{
			{title: "Space over all copies", unit: "bytes", queries: []query{{`mynetwork_network_used_bytes` + w, "{{network}} used"}, {`mynetwork_network_capacity_bytes` + w, "{{network}} capacity"}}},
			{title: "Volumes", unit: "bytes", queries: []query{{`mynetwork_network_provisioned_bytes` + w, "{{network}} provisioned"}, {`mynetwork_network_stored_bytes` + w, "{{network}} stored"}}},
		}},
		{"What users do", []panel{
			one("Operations", "ops", `sum by (operation) (rate(mynetwork_volume_operation_seconds_count`+w+`[5m]))`, "{{operation}}"),
			one("Throughput", "Bps", `sum by (operation) (rate(mynetwork_volume_operation_bytes_total{network=~"$network",operation=~"read|write"}[5m]))`, "{{operation}}"),
			one("99th percentile", "s", `histogram_quantile(0.99, sum by (operation, le) (rate(mynetwork_volume_operation_seconds_bucket`+w+`[5m])))`, "{{operation}}"),
		}},
		{"Self-healing", []panel{
			{title: "Missing copies", unit: "none", queries: []query{{`mynetwork_network_copies_missing` + w, "{{network}} missing"}, {`mynetwork_network_nodes_behind` + w, "{{network}} nodes behind"}}},
			one("Copies made", "Bps", `sum by (node) (rate(mynetwork_replication_bytes_total`+w+`[5m]))`, "{{node}}"),
			{title: "Moving", unit: "bytes", queries: []query{{`sum by (network) (mynetwork_move_bytes_left` + w + `)`, "{{network}} left"}}},
			one("Failovers and other events", "none", `sum by (reason) (increase(mynetwork_operator_events_total{type="Warning"}[10m]))`, "{{reason}}"),
		}},
		{"Control", []panel{
			one("Reconciles that failed", "ops", `sum by (controller) (rate(controller_runtime_reconcile_errors_total{controller=~".+"}[5m]))`, "{{controller}}"),
			one("CSI calls", "ops", `sum by (method, code) (rate(mynetwork_csi_operation_seconds_count[5m]))`, "{{method}} {{code}}"),
			one("CSI calls under way", "none", `sum by (part) (mynetwork_csi_operations_active)`, "{{part}}"),
		}},
	}
}

func nodeRows() []row {
	const w = `{network=~"$network",node=~"$node"}`
	return []row{
		{"How it is", []panel{
			now("Agent", "none", `mynetwork_agent_info`+w, "{{node}} {{version}}"),
			now("Under pressure", "none", `mynetwork_node_pressure`+w+` == 1`, "{{node}} {{resource}}"),
			now("Stores", "none", `mynetwork_store_state`+w+` == 1`, "{{node}} {{path}} {{state}}"),
			now("Certificate ends in", "s", `mynetwork_agent_certificate_expiry_timestamp_seconds`+w+` - time()`, "{{node}}"),
		}},
		{"Stores", []panel{
			one("Use", "percentunit", `mynetwork_store_used_bytes`+w+` / mynetwork_store_capacity_bytes`+w, "{{node}} {{path}}"),
			one("99th percentile of syncs", "s", `histogram_quantile(0.99, sum by (node, path, le) (rate(mynetwork_store_sync_seconds_bucket`+w+`[5m])))`, "{{node}} {{path}}"),
			{title: "Disk", unit: "Bps", queries: []query{{`rate(mynetwork_store_read_bytes_total` + w + `[5m])`, "{{node}} read"}, {`rate(mynetwork_store_written_bytes_total` + w + `[5m])`, "{{node}} written"}}},
			one("Disk errors", "none", `sum by (node, path, operation) (increase(mynetwork_store_errors_total`+w+`[1h]))`, "{{node}} {{path}} {{operation}}"),
		}},
		{"Peers", []panel{
			one("Round trip", "s", `mynetwork_peer_round_trip_seconds`+w, "{{node}} to {{peer}}"),
			one("Score", "percentunit", `mynetwork_peer_score`+w, "{{node}} of {{peer}}"),
			one("Score by part", "percentunit", `avg by (peer, part) (mynetwork_peer_score_parts`+w+`)`, "{{peer}} {{part}}"),
			one("Peers that do not answer", "none", `sum by (node) (mynetwork_peer_up`+w+` == bool 0)`, "{{node}}"),
		}},
		{"Looking after data", []panel{
			one("Scrubbed", "Bps", `rate(mynetwork_scrub_bytes_total`+w+`[30m])`, "{{node}}"),
			{title: "Errors that scrubs found", unit: "none", queries: []query{{`increase(mynetwork_scrub_errors_found_total` + w + `[1h])`, "{{node}} found"}, {`increase(mynetwork_scrub_errors_repaired_total` + w + `[1h])`, "{{node}} repaired"}}},
			one("Copies made here", "Bps", `rate(mynetwork_replication_bytes_total`+w+`[5m])`, "{{node}}"),
			one("Copies that lie here", "none", `sum by (node) (mynetwork_store_extents`+w+`)`, "{{node}}"),
		}},
		{"Process", []panel{
			one("CPU", "percentunit", `rate(process_cpu_seconds_total`+w+`[5m])`, "{{node}}"),
			one("Memory", "bytes", `process_resident_memory_bytes`+w, "{{node}}"),
			one("Cache hits", "percentunit", `rate(mynetwork_cache_hits_total`+w+`[5m]) / (rate(mynetwork_cache_hits_total`+w+`[5m]) + rate(mynetwork_cache_misses_total`+w+`[5m]))`, "{{node}}"),
			one("Goroutines", "none", `go_goroutines`+w, "{{node}}"),
		}},
	}
}

func volumeRows() []row {
	const w = `{network=~"$network",volume=~"$volume"}`
	percentile := func(q string) query {
		return query{`histogram_quantile(` + q + `, sum by (volume, operation, le) (rate(mynetwork_volume_operation_seconds_bucket{network=~"$network",volume=~"$volume",operation!="discard"}[5m])))`, "{{volume}} {{operation}} " + q}
	}
	return []row{
		{"How it is", []panel{
			now("Claim and node", "none", `mynetwork_volume_info`+w, "{{claim_namespace}}/{{claim}} on {{node}}"),
			now("Copies of its least safe part", "none", `mynetwork_volume_copies_least`+w, "{{volume}}"),
			now("In trouble", "none", `mynetwork_volume_failed`+w+` == 1 or mynetwork_volume_full`+w+` == 1 or mynetwork_volume_stalled`+w+` == 1`, "{{volume}}"),
		}},
		{"What users do", []panel{
			one("Operations", "ops", `sum by (volume, operation) (rate(mynetwork_volume_operation_seconds_count`+w+`[5m]))`, "{{volume}} {{operation}}"),
			one("Throughput", "Bps", `sum by (volume, operation) (rate(mynetwork_volume_operation_bytes_total`+w+`[5m]))`, "{{volume}} {{operation}}"),
			{title: "Latency", unit: "s", queries: []query{percentile("0.5"), percentile("0.99")}},
			one("Requests that wait", "none", `sum by (volume, operation) (mynetwork_volume_operations_waiting`+w+`)`, "{{volume}} {{operation}}"),
		}},
		{"Trouble", []panel{
			one("Errors", "none", `sum by (volume, operation) (increase(mynetwork_volume_operation_errors_total`+w+`[5m]))`, "{{volume}} {{operation}}"),
			one("Requests above a second", "none", `sum by (volume, operation) (increase(mynetwork_volume_operation_stalls_total`+w+`[5m]))`, "{{volume}} {{operation}}"),
			{title: "Bad pages", unit: "none", queries: []query{{`increase(mynetwork_volume_pages_bad_total` + w + `[1h])`, "{{volume}} bad"}, {`increase(mynetwork_volume_pages_repaired_total` + w + `[1h])`, "{{volume}} repaired"}}},
			{title: "Reads that a replica was late with", unit: "none", queries: []query{{`increase(mynetwork_volume_reads_hedged_total` + w + `[1h])`, "{{volume}} sent to another one too"}, {`increase(mynetwork_volume_hedges_won_total` + w + `[1h])`, "{{volume}} answered by it first"}}},
			{title: "Degraded", unit: "none", queries: []query{{`mynetwork_volume_extents_degraded` + w, "{{volume}} extents"}, {`mynetwork_volume_replicas_failed` + w, "{{volume}} replicas left out"}}},
		}},
		{"Inside", []panel{
			one("Write amplification of one copy", "none", `rate(mynetwork_volume_journal_bytes_total`+w+`[5m]) / on (network, node, volume) sum by (network, node, volume) (rate(mynetwork_volume_operation_bytes_total{network=~"$network",volume=~"$volume",operation="write"}[5m]))`, "{{volume}}"),
			one("Write ring", "bytes", `mynetwork_volume_ring_used_bytes`+w, "{{volume}}"),
			{title: "Space", unit: "bytes", queries: []query{{`mynetwork_volume_size_bytes` + w, "{{volume}} size"}, {`mynetwork_volume_used_bytes` + w, "{{volume}} stored"}}},
			{title: "Extents", unit: "none", queries: []query{{`mynetwork_volume_extents` + w, "{{volume}} in use"}, {`increase(mynetwork_volume_extents_freed_total` + w + `[1h])`, "{{volume}} freed"}}},
		}},
	}
}
