// Package agent is one node's agent: it puts stores, replica servers, peers, volumes and the control server together.
package agent
