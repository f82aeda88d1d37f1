package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

// Self is the running program, to be started again as one of the hidden commands below.
const Self = "/proc/self/exe"

// Enter moves the process into the cgroups, and, with a pid other than 0, into that process's network namespace, and
// becomes the program. It returns only with an error.
func Enter(cgroups []string, netOf int, argv []string) error {
	runtime.LockOSThread()
	if err := join(cgroups); err != nil {
		return err
	}
	if netOf != 0 {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", netOf), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("network namespace of process %d: %w", netOf, err)
		}
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace of process %d: %w", netOf, err)
		}
	}
	return fmt.Errorf("start %s: %w", argv[0], unix.Exec(argv[0], argv, os.Environ()))
}

func join(cgroups []string) error {
	for _, dir := range cgroups {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return nil
}

// Daemon starts a program in the control plane's network with its output in the log, and records it under the role.
func Daemon(r *record.Record, role string, argv ...string) error {
	if r.Alive(role) {
		return nil
	}
	hub, ok := r.Processes[hubRole]
	if !ok || !hub.Alive() {
		return errors.New("the network of the control plane is not there")
	}
	cgroups, err := Cgroups(r, "cp")
	if err != nil {
		return err
	}
	log, err := openLog(r.Dir().Log(role))
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{"internal", "enter", "--cgroups", strings.Join(cgroups, ","), "--net", strconv.Itoa(hub.PID), "--"}, argv...)
	cmd := exec.Command(Self, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", role, err)
	}
	go cmd.Wait() //nolint:errcheck // reaps it if it ends before this program; how it ended is in its log
	return r.Started(role, cmd.Process.Pid)
}

// openLog opens a log to append to, with its directory.
func openLog(name string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

// Command is a command in a node's namespaces, with the caller's standard streams.
func Command(node record.Process, argv ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--target", strconv.Itoa(node.PID),
		"--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--"}, argv...)...)
}
