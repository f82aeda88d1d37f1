// Package exporttest holds what tests of front ends share: a volume in shared memory that survives kill -9 of its
// process, and the suite that every front end must pass.
package exporttest
