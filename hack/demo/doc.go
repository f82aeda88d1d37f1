// Command demo plays the whole story of the data path on this machine, with real processes, a real file system and real
// data, and checks every byte after every fault: agents are killed in mid-copy, a volume is snapshotted, rolled back and
// cloned, it moves to another node while its former writer is alive, and bits are flipped on a disk.
//
// It needs root, /dev/fuse and loop devices. It ends with code 0 only if every step held, and removes all that it made.
package main
