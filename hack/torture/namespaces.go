package main

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// space is a network namespace, kept by a process that ends with this one.
type space struct {
	cmd *exec.Cmd
	in  io.Closer
}

func newSpace() (*space, error) {
	cmd := exec.Command("cat") // ends when its input does, so also when this process is killed
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &space{cmd, in}, cmd.Start()
}

func (s *space) close() error { return errors.Join(s.in.Close(), s.cmd.Wait()) }

// enter gives the arguments that run a command in the namespace, and in nothing else of another.
func (s *space) enter(args ...string) []string {
	return append([]string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", s.cmd.Process.Pid), "--"}, args...)
}

// wires are the namespaces of nodes 1 to n, each linked to a router that can drop what goes from one to another.
type wires struct {
	t      *torture
	router *space
	node   []*space // from 1
}

const peerPort = 7700

func host(node int) string { return fmt.Sprintf("10.77.%d.2", node) }

func (t *torture) wire(n int) (w *wires, err error) {
	w = &wires{t: t, node: make([]*space, n+1)}
	if w.router, err = newSpace(); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	t.defers(w.router.close)
	err = w.in(w.router, "sh", "-c", "ip link set lo up && echo 1 > /proc/sys/net/ipv4/ip_forward")
	for i := 1; i <= n && err == nil; i++ {
		if w.node[i], err = newSpace(); err != nil {
			return nil, err
		}
		t.defers(w.node[i].close)
		err = errors.Join(
			w.in(w.router, "ip", "link", "add", fmt.Sprint("to", i), "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(w.node[i].cmd.Process.Pid)),
			w.in(w.router, "sh", "-c", fmt.Sprintf("ip addr add 10.77.%d.1/24 dev to%d && ip link set to%d up", i, i, i)),
			w.in(w.node[i], "sh", "-c", fmt.Sprintf("ip link set lo up && ip addr add %s/24 dev eth0 && ip link set eth0 up && ip route add default via 10.77.%d.1", host(i), i)))
	}
	return w, err
}

func (w *wires) in(s *space, args ...string) error {
	a := s.enter(args...)
	_, err := w.t.must(a[0], a[1:]...)
	return err
}

// way is one direction between two nodes.
type way struct{ from, to int }

// both are the ways between a node and others.
func both(a int, others ...int) (out []way) {
	for _, b := range others {
		out = append(out, way{a, b}, way{b, a})
	}
	return out
}

// cut drops what goes these ways: silently, or with a message to the sender if action is "unreachable".
func (w *wires) cut(action string, ways []way) (err error) {
	for _, y := range ways {
		err = errors.Join(err, w.in(w.router, "ip", "rule", "add", "pref", "100", "from", host(y.from), "to", host(y.to), action))
	}
	return err
}

// heal lets everything through again.
func (w *wires) heal() error {
	return w.in(w.router, "sh", "-c", "while ip rule del pref 100 2>/dev/null; do :; done; for i in 1 2 3; do { ip link set to$i up; }; done")
}

// unplug takes a node's link down.
func (w *wires) unplug(node int) error {
	return w.in(w.router, "ip", "link", "set", fmt.Sprint("to", node), "down")
}

// reaches tells whether a connection from one node to another's peer server can be made.
func (w *wires) reaches(y way) bool {
	a := w.node[y.from].enter("timeout", "1", "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", host(y.to), peerPort))
	return w.t.exec(a[0], a[1:]...).Code == 0
}

// eventually asks until f gives nil.
func eventually(within time.Duration, f func() error) error {
	for end := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
