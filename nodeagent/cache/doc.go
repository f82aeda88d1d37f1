// Package cache keeps verified pages and tables in memory for the engines of a node.
//
// Ristretto bounds it by bytes and decides by frequency what stays; LRU is small and deterministic, for tests and the
// simulator; Off keeps nothing. A cache may forget anything at any time, and never returns a value under a key other
// than the one it was put with: ristretto compares hashes only, so the whole key is kept beside the value and compared.
//
// Values are shared: who puts or gets one must not change it afterwards. All are safe for concurrent use.
package cache
