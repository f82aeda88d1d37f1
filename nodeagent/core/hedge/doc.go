// Package hedge decides when a read that a replica has not answered is also sent to another one, which replicas are asked first, and
// how many such second requests there may be.
//
// A read is late when it takes Rules.Factor times what all but a twentieth of that replica's reads of about its size take, within bounds. It is a
// twentieth, and not a hundredth, because that is the share of reads that may be sent twice: a disk that hangs in one read of a hundred
// would else soon have its hangs for what is usual. What a late read takes in the end is counted like the others, so a replica that is slow as a whole is
// late later.
//
// A replica that has answered nothing for as long as it takes to be late, while it was asked for something, stands still. Others are asked first then,
// which costs no second request; once in Rules.Probe it gets a read all the same, and with its next answer it is like before. The same
// holds for replicas that answer, and take far longer than others.
//
// # Invariants
//
//  1. No more than Rules.Burst, Rules.Share of the reads and Rules.Rate a second are sent twice, whatever replicas do. (TestBudget)
//  2. No read is late before Rules.Floor has passed, and each is late after Rules.Ceiling. (TestPatience)
//  3. A replica that hangs in fewer than a twentieth of its reads is late as early as without the hangs. (TestHangs; control: the rule of a hundredth)
//  4. A replica that stands still is asked once in Rules.Probe, and not after others for ever. (TestStandsStill)
//  5. What was seen before counts ever less. (TestForgets)
//
// All is pure: time comes in, in nanoseconds of a clock that does not go back. A State needs its owner's lock; nothing but a replica's first read
// takes memory.
package hedge
