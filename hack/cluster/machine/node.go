package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

// Config is what a node's pid 1 is told.
type Config struct {
	Name     string     `json:"name"`
	Disk     record.Dir `json:"disk"`     // the cluster's directory, on the real machine
	OwnDisk  int64      `json:"ownDisk"`  // MiB of the disk at DataDir; 0: it has none of its own
	Settings string     `json:"settings"` // directory of the settings of the node's services, seen as /opt/cluster/etc
	Services []Service  `json:"services"` // in the order of their start
}

// Service is a program that pid 1 starts, and starts again a second after it ended.
type Service struct {
	Name string   `json:"name"` // of its log too
	Argv []string `json:"argv"`
	// Socket is waited for before the next service is started, if it is set.
	Socket string `json:"socket"`
	// Import has the images in /opt/cluster/images imported before the next service is started.
	Import bool `json:"import"`
}

// running answers the process of a node that is on.
func running(r *record.Record, node string) (record.Process, error) {
	if _, err := Number(r, node); err != nil {
		return record.Process{}, err
	}
	p := r.Processes[node]
	if !p.Alive() {
		return p, fmt.Errorf("node %s is off: cluster node start %[1]s", node)
	}
	return p, nil
}

// Running answers the pid 1 of a node that is on, as the real machine numbers it.
func Running(r *record.Record, node string) (record.Process, error) { return running(r, node) }

// Start starts a node that is off. It returns when pid 1 runs and the cable is plugged in, before services are up.
func Start(r *record.Record, c Config) error {
	if r.Alive(c.Name) {
		return nil
	}
	if !r.Alive(hubRole) {
		return errors.New("the control plane is not up: cluster up")
	}
	if err := clean(r, c.Name); err != nil {
		return err
	}
	cgroups, err := Cgroups(r, c.Name)
	if err != nil {
		return err
	}
	pid, settings, err := boot(r, c.Name, cgroups)
	if err != nil {
		return err
	}
	defer settings.Close()
	if err := r.Started(c.Name, pid); err != nil {
		return fmt.Errorf("%w: see %s", err, r.Dir().Log(c.Name+"/init"))
	}
	if err := wire(r, c.Name, pid); err != nil {
		return errors.Join(err, r.Processes[c.Name].Signal(unix.SIGKILL))
	}
	return json.NewEncoder(settings).Encode(c)
}

// boot starts pid 1, which waits for its Config on the pipe that boot answers.
func boot(r *record.Record, node string, cgroups []string) (pid int, settings io.WriteCloser, err error) {
	log, err := openLog(r.Dir().Log(node + "/init"))
	if err != nil {
		return 0, nil, err
	}
	defer log.Close()
	in, settings, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	defer in.Close()
	cmd := exec.Command(Self, "internal", "boot", "--cgroups", strings.Join(cgroups, ","))
	cmd.Stdin, cmd.Stderr = in, log
	out, err := cmd.Output()
	if err == nil {
		pid, err = strconv.Atoi(strings.TrimSpace(string(out)))
	}
	if err != nil {
		return 0, nil, errors.Join(fmt.Errorf("start node %s: %w: see %s", node, err, log.Name()), settings.Close())
	}
	return pid, settings, nil
}

// Boot enters the cgroups and starts pid 1 in namespaces of its own, whose roots the cgroups become; it prints the pid.
func Boot(cgroups []string) error {
	if err := join(cgroups); err != nil {
		return err
	}
	cmd := exec.Command(Self, "internal", "pid1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
		unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	_, err := fmt.Println(cmd.Process.Pid)
	return err
}

// Stop shuts a node down: every process is asked to end, and after ten seconds killed. Pods are not drained before.
func Stop(r *record.Record, node string) error {
	if _, err := Number(r, node); err != nil {
		return err
	}
	return off(r, node, func(p record.Process) error { return p.Stop(30 * time.Second) })
}

// PowerOff ends a node as the loss of its power would: no process of it does anything more. What was written to the
// node's files but not synced is not lost, since the page cache is the real machine's.
func PowerOff(r *record.Record, node string) error {
	if _, err := Number(r, node); err != nil {
		return err
	}
	return off(r, node, func(p record.Process) error { return p.Signal(unix.SIGKILL) })
}

// off ends a node by end, and then what the kernel keeps of it.
func off(r *record.Record, node string, end func(record.Process) error) error {
	p := r.Processes[node]
	if !p.Alive() {
		return clean(r, node)
	}
	devices, err := devicesOf(r, node)
	if err != nil {
		return fmt.Errorf("look at the devices of node %s: %w", node, err)
	}
	if err := end(p); err != nil {
		return err
	}
	errs := devices.abort() // before the wait: a process that waits for a dead FUSE server ends only then
	if !p.Wait(time.Minute) {
		return errors.Join(errs, fmt.Errorf("pid 1 of node %s (%d) does not end: a process of it waits in the kernel", node, p.PID))
	}
	errs = errors.Join(errs, devices.detach())
	return errors.Join(errs, clean(r, node))
}

// clean takes a dead node off the record and removes its pods' cgroups, which a rebooted machine would not have: the next
// kubelet would need seconds for each.
func clean(r *record.Record, node string) error {
	if r.Alive(node) {
		return nil
	}
	var errs error
	suffix := r.Name(node)
	for _, dir := range r.Cgroups {
		if filepath.Base(dir) == suffix {
			errs = errors.Join(errs, removeEventually(dir, false))
		}
	}
	return errors.Join(errs, r.Ended(node))
}

// removeEventually is removeCgroups for processes that have just been ended: the kernel lets go of the last threads a moment later.
func removeEventually(dir string, self bool) error {
	var err error
	for range 400 {
		if err = removeCgroups(dir, self); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}
