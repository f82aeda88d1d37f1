package agent

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	// timerSlack is how much later than asked for the kernel may wake a thread of this process that sleeps, in ns; 50 µs unless it is set.
	timerSlack = 1_000_000
	// slackSet tells a process that it was begun again with that slack.
	slackSet = "MYNETWORK_TIMER_SLACK_SET"
)

// CoarseTimers begins this process again, with the same arguments, such that its timers may be a millisecond late. As long as threads block in writes
// and syncs, Go's monitor naps for 20 µs at a time, which the kernel makes 70: at 14,000 naps a second it was a tenth of an agent's CPU, and
// it took each blocked thread's place from it, so that two threads had to be woken where one would have gone on. The monitor starts with the
// process, and a thread may set the slack of itself and its children alone, so this takes an exec. A main calls it before it opens anything.
// It returns nil in the process begun again, and an error if there is none: then all is well but slower.
func CoarseTimers() error {
	if os.Getenv(slackSet) != "" {
		return os.Unsetenv(slackSet)
	}
	path, err := os.Executable()
	if err != nil {
		return fmt.Errorf("coarse timers: %w", err)
	}
	runtime.LockOSThread() // the thread that has the slack is the one that goes on
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0); err != nil {
		return fmt.Errorf("coarse timers: %w", err)
	}
	return fmt.Errorf("coarse timers: begin %s again: %w", path, unix.Exec(path, os.Args, append(os.Environ(), slackSet+"=1")))
}
