package devnet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a recorded process. It is the one that was started only if all three are still true of it.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks from boot to its start, as in /proc/PID/stat
	Boot  string `json:"boot"`  // the kernel's boot id
}

// poll is how often the state of a process or a socket is looked at.
const poll = 20 * time.Millisecond

// recorded reads a pid file. A file that is missing or not ours is no process.
func recorded(file string) (process, bool) {
	var p process
	b, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(b, &p) != nil || p.PID <= 1 {
		return process{}, false
	}
	return p, true
}

// alive tells whether the recorded process runs; a zombie does not.
func (p process) alive() bool {
	if p.PID <= 1 || p.Boot != bootID() {
		return false
	}
	start, ended, err := stat(p.PID)
	return err == nil && start == p.Start && !ended
}

// signal sends a signal to the process, if it is still the recorded one. The pidfd that os.Process holds is taken before
// the check, so that no other process that got the number can be hit.
func (p process) signal(s syscall.Signal) error {
	h, err := os.FindProcess(p.PID)
	if err != nil {
		return err
	}
	defer h.Release()
	if !p.alive() {
		return os.ErrProcessDone
	}
	return h.Signal(s)
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// stat reads from /proc/PID/stat when a process started and whether it has ended.
func stat(pid int) (start uint64, ended bool, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false, err
	}
	return parseStat(b)
}

// parseStat reads a line of /proc/PID/stat; the command's name, in parentheses, may hold anything. A process whose first
// thread is a zombie has not ended as long as it has others: they hold its sockets and locks.
func parseStat(b []byte) (start uint64, ended bool, err error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, false, errors.New("no name in /proc stat")
	}
	fields := strings.Fields(string(b[i+1:])) // from field 3
	if len(fields) < 20 {
		return 0, false, errors.New("short /proc stat")
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	state, threads := fields[0][0], fields[17]
	return start, state == 'X' || state == 'Z' && (threads == "0" || threads == "1"), err
}

// spawn starts this program as a process of its own session, with its output in a log, and records it.
func spawn(program string, args []string, dir, log, pidFile string) (process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return process{}, err
	}
	defer out.Close()
	fmt.Fprintf(out, "-- %s started\n", time.Now().UTC().Format(time.RFC3339))
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return process{}, fmt.Errorf("start %s: %w", program, err)
	}
	p := process{PID: cmd.Process.Pid, Boot: bootID()}
	p.Start, _, err = stat(p.PID)
	if err == nil {
		var b []byte
		if b, err = json.Marshal(p); err == nil {
			err = writeFile(pidFile, append(b, '\n'), 0o600)
		}
	}
	if err != nil { // not recorded: it must not be left
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return process{}, fmt.Errorf("record a process: %w", err)
	}
	go func() { _ = cmd.Wait() }() // so that it is no zombie while this process lives
	return p, nil
}

// environment is what the processes inherit: nothing of this command's settings or secrets.
func environment() (out []string) {
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MYNETWORK_") {
			out = append(out, e)
		}
	}
	return append(out, "MYNETWORK_CONFIG=/dev/null")
}

// stop ends a process: by SIGTERM, and if it has not ended within grace, by SIGKILL. The pid file is removed.
func stop(pidFile string, grace time.Duration) (killed bool, err error) {
	p, ok := recorded(pidFile)
	if ok && p.alive() {
		if err := p.signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return false, fmt.Errorf("end process %d: %w", p.PID, err)
		}
		if !p.gone(grace) {
			killed = true
			if err := kill(p); err != nil {
				return killed, err
			}
		}
	}
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return killed, err
	}
	return killed, nil
}

// kill ends a process by SIGKILL and waits for it.
func kill(p process) error {
	if err := p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	if !p.gone(10 * time.Second) {
		return fmt.Errorf("process %d does not end after SIGKILL: it waits in the kernel", p.PID)
	}
	return nil
}

// gone waits until the process has ended.
func (p process) gone(within time.Duration) bool {
	for end := time.Now().Add(within); p.alive(); time.Sleep(poll) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// tail is the end of a log, for an error.
func tail(log string) string {
	b, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], "\n    ")
}
