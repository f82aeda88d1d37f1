// Package house checks the rules that this repository keeps about its own source: who may import whom, that every
// package says what it is, how long files, functions and mains may become, and that no test waits by sleeping.
//
// Checks are functions from a file tree to findings, so that the tests run each of them twice: over the repository, where
// it must find nothing, and over a small tree that breaks the rule, where it must find exactly that.
package house
