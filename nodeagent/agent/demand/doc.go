// Package demand has the copies of volumes that are open here follow how much they are read.
//
// Who serves a volume counts its reads, so no other node has to be asked, and of the nodes of a network one decides: the one that has the
// volume attached. Each Every it looks at the volumes that have bounds (least and most copies, in the registry), hands what it saw to
// core/adaptive, and carries out what that decides by the manager, who changes the registry first and the engine then; upkeep makes
// and takes away the copies. Reads are counted as they come to the device; one of more than Unit counts as several.
//
// What a volume is to have at least, whatever its bounds say: three copies if its flushes wait for a majority (any one may be lost), two if they
// do not and there are two zones. What there is room for: the nodes that take new copies, answer, and are filled to less than RoomMark; where zones
// are strict, not more than there are zones.
//
// A volume that nobody has attached keeps the number that it has, unless space runs out (package caretaker). What its last user's node had counted is forgotten with the attachment.
//
// # Invariants
//
//  1. Every decision of core/adaptive is carried out once, or not at all and is made again. (TestFailed)
//  2. A volume without bounds is never touched. (TestWithoutBounds)
//  3. A change that people made begins the count anew. (TestPeopleChange)
//  4. Space that runs out takes copies from what is read least, one at a time, never below the least or what is safe, nor while copies of it are missing. (TestGiveUp)
//
// Concurrency: Run is a Runnable; Verdict and GiveUp may be called from any goroutine.
package demand
