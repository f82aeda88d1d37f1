// Command scale measures the operator on a network of many nodes, as root:
//
//	scale [-nodes 1000] [-volumes 2000] [-program bin/mynetwork]
//
// The API server and etcd are real (package apiserver), the operator is a process of its own with the rights of the chart, and nodes and agents
// are played (package fleet), all in a network namespace in which every node has its address. Measured are the operator's processor time
// and memory, its requests and the bytes that it exchanges with the API server, and how long the network takes from a change to what it is
// for. Nothing is judged: the machine's load is printed beside.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.IntVar(&o.nodes, "nodes", 1000, "how many nodes")
	flag.IntVar(&o.volumes, "volumes", 2000, "how many volumes")
	flag.DurationVar(&o.rest, "rest", time.Minute, "how long nothing happens")
	flag.StringVar(&o.program, "program", "bin/mynetwork", "the operator's program")
	inside := flag.Bool("inside", false, "it runs in its own network namespace already")
	flag.Parse()
	err := apart()
	if *inside {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, o)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	nodes, volumes int
	rest           time.Duration
	program        string
}

// apart starts this program again in a network namespace in which all addresses of 10.80.0.0/12 are its own, unless it is there.
func apart() error {
	for _, a := range os.Args[1:] {
		if a == "-inside" {
			return nil
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("a network namespace needs root: run this as root")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// The API server wants a default route, to learn its own address from.
	script := `ip link set lo up && ip link add v0 type veth peer name v1 && ip addr add 10.79.0.1/16 dev v0 && ip link set v0 up && ip link set v1 up &&
		ip route add default dev v0 && ip route add local 10.80.0.0/12 dev lo && exec "$0" -inside "$@"`
	cmd := exec.Command("sh", append([]string{"-c", script, self}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM} // it stops the API server then
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(ended)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		for s := range ended {
			_ = cmd.Process.Signal(s)
		}
	}()
	return cmd.Wait()
}
