// Package throttle decides how fast work in the background may go, from how long the requests in the foreground take beside it.
//
// The work moves in pieces, and asks before each (Wait). What requests take is judged window by window against what they take alone, which is the
// running mean of those that no piece stood beside. A window whose requests took more than Rules.Press times that makes the work slower, one whose
// requests took less than Rules.Ease times makes it faster; when nobody asks for anything the work gets faster too. Between Ease and Press nothing changes, so
// the rate settles instead of swinging. One piece is on its way at a time, and it is followed by time in which requests go alone.
//
// The least rate is the caller's, for each turn: work that has to get done, as space runs out, is not put off for ever by a foreground that never rests. It
// waits for no piece.
//
// # Invariants
//
//  1. The work is never slower than the least rate, however long requests take. (TestLeast)
//  2. Between two looks it moves no more than rate times time, a window's worth that was not used, and one piece. (TestNoBurst)
//  3. Beside requests that take longer the faster it goes, it settles where they take at most about Press times what they take alone, unless that is below
//     the least rate. (TestSettles; without the way down it shows: TestNotices)
//  4. With nobody in the foreground it reaches Ceiling, and goes on reaching it. (TestAlone)
//  5. What requests take beside the work never raises what they are held to take alone, and what they took once is forgotten soon. (TestBaseline, TestStale)
//  6. Time in which the work did not ask neither speeds it up nor slows it down. (TestPause)
//  7. Where requests come faster than they are done, the work goes at the least rate. (TestFull)
//
// All functions are pure: time comes in, in nanoseconds of a clock that does not jump. A State belongs to one piece of work at a time and needs its
// owner's lock.
package throttle
