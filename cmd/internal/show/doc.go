// Package show writes results for people and for programs: a table, JSON or YAML of the same value, and a line of progress
// for long work.
//
// JSON and YAML are the value itself, under its json field names, which are stable. Tables may change. Progress goes to a
// terminal alone, and never to the output that a program reads.
//
// A Printer and a Meter are for one goroutine.
package show
