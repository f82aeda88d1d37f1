package agent

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// slackOfNewThread is the timer slack of a thread that this process starts now, in ns.
func slackOfNewThread() (ns int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and end the thread with the goroutine
		ns, err = unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	}()
	<-done
	return ns, err
}

// TestCoarseTimers: a process that asks for it goes on under the same pid, with threads that have the slack; it does not pass the mark on.
func TestCoarseTimers(t *testing.T) {
	const role = "MYNETWORK_TEST_TIMERS"
	switch r := os.Getenv(role); r {
	case "coarse", "control":
		if r == "coarse" {
			if err := CoarseTimers(); err != nil {
				fmt.Println("RESULT", err)
				os.Exit(1)
			}
		}
		ns, err := slackOfNewThread()
		fmt.Println("RESULT", os.Getpid(), ns, err, os.Getenv(slackSet) == "")
		os.Exit(0)
	}
	for _, c := range []struct {
		role string
		want bool
	}{{"coarse", true}, {"control", false}} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCoarseTimers$")
		cmd.Env = append(os.Environ(), role+"="+c.role)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v: %s", c.role, err, out.String())
		}
		want := fmt.Sprintf("RESULT %d %d <nil> true", cmd.Process.Pid, timerSlack)
		if got := strings.Contains(out.String(), want); got != c.want {
			t.Errorf("%s: %q in %q: %v", c.role, want, out.String(), got)
		}
	}
}
