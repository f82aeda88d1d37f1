package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

const hubRole = "hub"

// Addresses inside of the cluster's namespaces; they mean nothing outside.
const (
	APIAddress = "10.77.0.1" // the control plane
	APIPort    = 6443
	PodNet     = "10.78.0.0/16"
)

// Address is the address of the node with this number, from 1.
func Address(number int) string { return fmt.Sprintf("10.77.0.%d", 10+number) }

// PodSubnet is the network of the pods of the node with this number.
func PodSubnet(number int) string { return fmt.Sprintf("10.78.%d.0/24", number) }

// Number is the number of a node, from 1, or an error that names those there are.
func Number(r *record.Record, node string) (int, error) {
	i := slices.Index(r.Settings.Nodes, node)
	if i < 0 {
		return 0, fmt.Errorf("no node %q: there are %s", node, strings.Join(r.Settings.Nodes, ", "))
	}
	return i + 1, nil
}

// StartHub makes the control plane's network: a process whose network namespace has the bridge, and which passes
// connections from a loopback port of the real machine on to the API server. The port stays the same over restarts
// unless another program has taken it.
func StartHub(r *record.Record) error {
	if r.Alive(hubRole) {
		return nil
	}
	for role := range r.Processes {
		if r.Alive(role) { // it holds what is left of the old network, and would not be in the new one
			return fmt.Errorf("the process of the network has died, but %s still runs: cluster down --keep, then cluster up", role)
		}
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.APIPort)))
	if err != nil && r.APIPort != 0 {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return err
	}
	defer l.Close()
	r.APIPort = l.Addr().(*net.TCPAddr).Port
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer f.Close()
	log, err := openLog(r.Dir().Log(hubRole))
	if err != nil {
		return err
	}
	defer log.Close()
	ready, done, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(Self, "internal", "hub")
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.ExtraFiles = log, log, "/", []*os.File{f, done}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNET}
	err = cmd.Start()
	done.Close()
	if err != nil {
		return fmt.Errorf("start the network: %w", err)
	}
	go cmd.Wait() //nolint:errcheck // as in Daemon
	if err := r.Started(hubRole, cmd.Process.Pid); err != nil {
		return err
	}
	if b, _ := io.ReadAll(ready); string(b) != "ready" {
		return fmt.Errorf("the network of the control plane did not come up: see %s", r.Dir().Log(hubRole))
	}
	return nil
}

// Hub is the process of StartHub: file 3 is the listener, and "ready" goes to file 4 once the bridge is up.
func Hub() error {
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	ready := os.NewFile(4, "ready")
	if err := ip("", "link set lo up", "link add br0 type bridge", "addr add "+APIAddress+"/24 dev br0", "link set br0 up"); err != nil {
		return err
	}
	if err := forward(); err != nil {
		return err
	}
	if _, err := ready.WriteString("ready"); err != nil {
		return err
	}
	if err := ready.Close(); err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go pass(c.(*net.TCPConn))
	}
}

// forward lets the own network namespace pass packets on.
func forward() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }

// pass joins a connection to the API server. Each side's end is passed on, so that half-closed streams work.
func pass(c *net.TCPConn) {
	defer c.Close()
	d, err := net.DialTimeout("tcp", net.JoinHostPort(APIAddress, strconv.Itoa(APIPort)), 5*time.Second)
	if err != nil {
		return
	}
	api := d.(*net.TCPConn)
	defer api.Close()
	half := func(to, from *net.TCPConn) {
		_, err := io.Copy(to, from)
		if err != nil { // one direction broke: so does the other
			to.Close()
			from.Close()
			return
		}
		to.CloseWrite() //nolint:errcheck // the other direction sees it
	}
	end := make(chan struct{})
	go func() { half(api, c); close(end) }()
	half(c, api)
	<-end
}

// ip runs commands of ip(8) in the network namespace of ns, "/proc/PID/ns/net", or in the own one.
func ip(ns string, commands ...string) error {
	argv := []string{"ip", "-batch", "-"}
	if ns != "" {
		argv = append([]string{"nsenter", "--net=" + ns}, argv...) // not `ip netns exec`: that mounts
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(commands, "; "), err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

func netns(p record.Process) string { return fmt.Sprintf("/proc/%d/ns/net", p.PID) }

// wire joins a node's new network namespace to the bridge.
func wire(r *record.Record, node string, pid int) error {
	number, err := Number(r, node)
	if err != nil {
		return err
	}
	hub, ns := r.Processes[hubRole], fmt.Sprintf("/proc/%d/ns/net", pid)
	port, pods := "v-"+node, PodSubnet(number)
	if err := unplug(netns(hub), port); err != nil {
		return err
	}
	err = ip(netns(hub),
		fmt.Sprintf("link add %s type veth peer name eth0 netns %d", port, pid),
		"link set "+port+" master br0 up",
		fmt.Sprintf("route replace %s via %s", pods, Address(number)))
	if err != nil {
		return err
	}
	commands := []string{"link set lo up", "addr add " + Address(number) + "/24 dev eth0", "link set eth0 up", "route add default via " + APIAddress}
	for i, other := range r.Settings.Nodes {
		if other != node {
			commands = append(commands, fmt.Sprintf("route add %s via %s", PodSubnet(i+1), Address(i+1)))
		}
	}
	return ip(ns, commands...)
}

// unplug removes a port of the bridge, if it is there. The kernel takes a dead node's network apart when it finds the time, and its
// port stays until then: a node that starts at once would find its name taken.
func unplug(hub, port string) error {
	if err := ip(hub, "link del "+port); err != nil && !strings.Contains(err.Error(), "Cannot find device") {
		return err
	}
	return nil
}

// Partition cuts a node's cable: its pods run on, but reach and are reached by nothing outside of the node.
func Partition(r *record.Record, node string) error { return cable(r, node, "down") }

// Heal undoes Partition and PartitionFrom.
func Heal(r *record.Record, node string) error {
	if err := cable(r, node, "up"); err != nil {
		return err
	}
	var errs error
	for _, other := range append([]string{API}, r.Settings.Nodes...) {
		if other != node {
			errs = errors.Join(errs, cut(r, node, other, false))
		}
	}
	return errs
}

func cable(r *record.Record, node, state string) error {
	if _, err := running(r, node); err != nil {
		return err
	}
	return ip(netns(r.Processes[hubRole]), "link set v-"+node+" "+state)
}
