// Command thrash hurts a network of real processes and devices for a while, at random, under verified load, and then asks for every byte.
//
//	thrash -minutes 20 -seed 1 -nodes 5     faults, one or two at a time
//	thrash -lie disk|copies                 the control: a network that breaks its word, which must be found out
//	thrash mixed -old PROGRAM               two versions together: upgrade and roll back node by node, under load
//
// # What is promised, and what is done to it
//
// Three copies of everything; a write is answered with two copies of it on disks. So: agents are killed, nodes lose their power, are cut
// off in either direction or both, are slow, are away for longer than the grace time, disks are slow, full, or have flipped bits; nodes are
// added, drained and removed; volumes move, are snapshotted, cloned, rolled back and deleted. At most two nodes are hurt at a time; bits
// are flipped on one node at a time, and mended before the next. The seed decides what happens, not when processes get to run.
//
// # What must hold
//
//  1. Every device gives what was written last. After a power cut of the node that serves it: of each page what the last answered fsync
//     covered, or something written after it. (load)
//  2. A device that is not on a node without power answers with no error. It may wait. (load)
//  3. A snapshot, read through a clone, is what the volume was at that time. (chores)
//  4. After the last fault all copies are there again before a deadline, wherever the layout wants them, and fsck finds nothing. (converge)
//
// All that it makes lies below one new directory of /var/tmp and is removed at the end; when something does not hold, logs and the
// timeline stay. Nodes reach each other through proxies in this process, which cut, delay and throttle; n1 to n3 have disks of their own,
// images of 2 GB at most, that can be filled and frozen.
package main
