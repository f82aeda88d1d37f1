// Package agenttest holds networks of agents in memory, which speak the control protocol of api/agent/v1 over gRPC as real
// ones do: one writer per volume, equal requests repeated, one operation per volume at a time, keys checked, the protocol's
// codes. Devices are names, or made by a Devices for tests on real ones.
//
// Calls can be made to fail before they do anything, or after they did it (a lost answer); nodes can die. A Network is safe
// for concurrent use.
package agenttest
