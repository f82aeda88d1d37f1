// Command e2e proves on a real Kubernetes cluster what MyNetwork promises: e2e [flags] SUITE, where SUITE is
//
//	demo    from a chart to a database on a replicated volume, as a readable story
//	e2e     volumes, restarts, upgrades, faults, self-healing and mistakes, each as a case
//	thrash  faults at random, as a seed says, one node at a time, under loads that know what they wrote; then every byte
//
// It works on whatever cluster KUBECONFIG names. What cuts power, partitions nodes or stops the API server needs -cluster, the
// program of hack/cluster; without it such cases are reported as not run, and with -strict that counts as a failure.
//
// What a case asserts comes from the programs in the pods: they print what was acknowledged to them, and on their next start what they
// found. Times are measured and printed, and never asserted, but for the promises of the README, which name their load.
//
// # Concurrency
//
// One suite runs at a time in a cluster: it makes and deletes the network, and a namespace of its own.
package main
