package record

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process names one process of this boot for good: a pid that is used again has another start time.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, the 22nd field of /proc/PID/stat
}

// Identify names the process that now has the pid. A zombie is no process, unless it is only the first thread that has ended: others
// are still there then, with the process's files, mounts and cgroups.
func Identify(pid int) (Process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, fmt.Errorf("no process %d: %w", pid, err)
	}
	return parse(pid, string(b))
}

// parse reads proc(5)'s stat: the state is its 3rd field, the number of threads its 20th, the start its 22nd. The second field, the name, may itself hold blanks and brackets: the last bracket ends it.
func parse(pid int, stat string) (Process, error) {
	_, rest, ok := cutLast(stat, ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return Process{}, fmt.Errorf("/proc/%d/stat is not understood: %q", pid, stat)
	}
	threads := fields[17]
	if fields[0] == "X" || (fields[0] == "Z" && (threads == "0" || threads == "1")) {
		return Process{}, fmt.Errorf("process %d has ended", pid)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return Process{pid, start}, err
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// Alive tells whether this very process still runs.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := Identify(p.PID)
	return err == nil && now == p
}

// Signal sends a signal to this very process, or to none. A process that has ended is no error.
func (p Process) Signal(sig unix.Signal) error {
	if p.PID <= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !p.Alive() { // the descriptor names who has the pid now: it must be who had it then
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %v to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// Wait waits until the process has ended, for at most the given time, and tells whether it has.
func (p Process) Wait(most time.Duration) bool {
	for end := time.Now().Add(most); p.Alive(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// Stop ends the process: SIGTERM, and SIGKILL if that did not help within grace.
func (p Process) Stop(grace time.Duration) error {
	if err := p.Signal(unix.SIGTERM); err != nil {
		return err
	}
	if p.Wait(grace) {
		return nil
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		return err
	}
	if !p.Wait(10 * time.Second) {
		return fmt.Errorf("process %d does not end, not even by SIGKILL: it may wait for a device that does not answer (see /proc/%[1]d/stack)", p.PID)
	}
	return nil
}
