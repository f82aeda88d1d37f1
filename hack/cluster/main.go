// Command cluster runs a real Kubernetes on one machine: a control plane and nodes with real kubelets, each in namespaces of
// its own, that can be powered off and cut off. See README.md beside it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

// defaultDir holds a cluster unless MYNETWORK_CLUSTER_DIR or --dir says otherwise.
const defaultDir = "/var/tmp/mynetwork-cluster"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if errors.Is(err, errUnfit) {
		os.Exit(exitUnfit)
	}
	var code exitCode
	if errors.As(err, &code) {
		os.Exit(int(code))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// exitCode is the failure of a command that was run for the caller, in a node or as kubectl: it has spoken, and nothing is to be added.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// forCaller runs a command with the caller's standard streams.
func forCaller(c *exec.Cmd) error {
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exitCode(exit.ExitCode())
	}
	return err
}

// app is what all commands share.
type app struct {
	dir string
}

func (a *app) path() (record.Dir, error) {
	dir, err := filepath.Abs(a.dir)
	return record.Dir(dir), err
}

// change calls f with the record locked.
func (a *app) change(f func(*record.Record) error) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("namespaces, mounts and cgroups need root: run this as root")
	}
	dir, err := a.path()
	if err != nil {
		return err
	}
	r, err := record.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return f(r)
}

// look calls f with the record as it was last saved.
func (a *app) look(f func(*record.Record) error) error {
	dir, err := a.path()
	if err != nil {
		return err
	}
	r, err := record.Read(dir)
	if err != nil {
		return err
	}
	return f(r)
}

func command() *cobra.Command {
	a := &app{dir: defaultDir}
	if dir := os.Getenv("MYNETWORK_CLUSTER_DIR"); dir != "" {
		a.dir = dir
	}
	root := &cobra.Command{
		Use: "cluster", Short: "a real Kubernetes on one machine, for tests",
		SilenceUsage: true, SilenceErrors: true,
		TraverseChildren: true, // else flags before kubectl would become its arguments
	}
	root.PersistentFlags().StringVar(&a.dir, "dir", a.dir, "directory of all that the cluster keeps (MYNETWORK_CLUSTER_DIR)")
	root.AddCommand(a.up(), a.down(), a.status(), a.build(), a.check(), a.node(), a.apiserver(), a.loadImage(), a.external(), a.kubectl(), a.kubeconfig(), internal())
	return root
}
