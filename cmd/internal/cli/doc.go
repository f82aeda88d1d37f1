// Package cli is the commands: their arguments, what they print, and how they end.
//
// A command reads its settings once, works through the control protocol (package control) or on the processes of a network
// of this machine (package devnet), and prints one result. Results go to standard output; progress, remarks and errors go to
// standard error. How a command ended is told by its exit code alone: see Exit.
//
// Commands keep no state of their own: a node's directory and the agents hold all of it.
package cli
