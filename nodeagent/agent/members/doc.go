// Package members knows the nodes of the network, the stores that each of them has, and which answer: it is the engines'
// Placer.
//
// Nodes and layout come by Update: on one machine once, from a list that every agent has, with a layout that is a pure function of
// it; in a cluster as addresses change and the operator publishes layouts. Members, zones and weights are the layout's; nodes that
// are not in it, because they only use volumes or are new, are known by their address alone. Which stores a node has, it tells itself: each agent asks the others at an interval (package members
// brings the question, its answer is drawn below), and what a node says of its own stores is believed, as its
// certificate proves that it is the node. All nodes are asked at the same moments, so that an idle process is woken once for all of them
// at each interval, and all nodes ask at the same moments of the wall clock, as far as their clocks agree, so that they answer while they are awake for
// their own questions; each node asks each other one, although a question heard is a sign of life, too: it would say nothing of the way
// there, and a node that then falls silent would be noticed an interval later. A store belongs to the node that named it last.
//
// # Answer to TypeStores
//
// Little endian.
//
//	0 version u8 = 1 or 2, as was asked for · 1 count u16 · 3 then per store: id 16 · capacity u64 · used u64 · extents u32 ·
//	flags u8 (bit 0: quarantined) · in version 2: clearing u8 (the stage, see core/clearing)
//
// # Invariants
//
//  1. Candidates names every known store once, one of each node before the second of any; those of nodes that are drained, or are
//     not in the layout and answer, last. Places names no store of these.
//  2. Alive is false for a store of a node that did not answer lately, and for one that is quarantined.
//  3. A hostile answer is an error; it changes nothing.
//  4. An update never forgets which node owns a store while that node is known, and never goes back to an older layout.
//  5. Without a layout nothing is placed, and Ready says so.
//
// # Concurrency
//
// Table is safe for concurrent use. Run is a Runnable.
package members
