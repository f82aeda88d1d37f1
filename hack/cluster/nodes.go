package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mynetwork.io/mynetwork/hack/cluster/machine"
	"mynetwork.io/mynetwork/hack/cluster/plane"
	"mynetwork.io/mynetwork/hack/cluster/record"
)

func (a *app) node() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "start, stop, power off, cut off and enter nodes"}
	one := func(use, short, done string, f func(*record.Record, string) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.change(func(r *record.Record) error {
					if err := f(r, args[0]); err != nil {
						return err
					}
					_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", args[0], done)
					return err
				})
			},
		}
	}
	cmd.AddCommand(
		a.startNode(), a.partition(), a.exec(), a.root(),
		one("stop", "shut a node down: SIGTERM to all, ten seconds, SIGKILL; drain it before if its pods shall move", "is off", machine.Stop),
		one("poweroff", "SIGKILL a node as a whole, and detach its loops and FUSE connections", "is off", machine.PowerOff),
		one("heal", "undo partitions of a node", "is joined to all", machine.Heal),
	)
	return cmd
}

func (a *app) startNode() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{Use: "start NAME", Short: "start a node that is off, and wait until it is Ready", Args: cobra.ExactArgs(1)}
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until the API says Ready")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		began := time.Now()
		return a.change(func(r *record.Record) error {
			if r.Alive(args[0]) {
				began = time.Time{} // it may have said Ready long ago
			}
			if err := startNode(r, args[0]); err != nil {
				return err
			}
			if wait {
				if err := plane.WaitNodes(r, args, began, 4*time.Minute); err != nil {
					return err
				}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is on\n", args[0])
			return err
		})
	}
	return cmd
}

func (a *app) partition() *cobra.Command {
	var from []string
	cmd := &cobra.Command{
		Use: "partition NAME", Short: "cut a node off, from all or from some; its pods run on", Args: cobra.ExactArgs(1),
		Example: "  cluster node partition n1                   the cable is pulled\n  cluster node partition n1 --from n2,api     n1 still reaches n3",
	}
	cmd.Flags().StringSliceVar(&from, "from", nil, "only from these nodes, or from the API server (api)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.change(func(r *record.Record) error {
			if len(from) == 0 {
				from = []string{"all"}
				if err := machine.Partition(r, args[0]); err != nil {
					return err
				}
			} else {
				for _, other := range from {
					if err := machine.PartitionFrom(r, args[0], other); err != nil {
						return err
					}
				}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is cut off from %s\n", args[0], strings.Join(from, ", "))
			return err
		})
	}
	return cmd
}

func (a *app) exec() *cobra.Command {
	cmd := &cobra.Command{
		Use: "exec NAME -- COMMAND", Short: "run a command in a node's namespaces", Args: cobra.MinimumNArgs(2),
		Example: "  cluster node exec n1 -- ctr -n k8s.io images ls -q\n  cluster node exec n1 -- findmnt",
	}
	cmd.Flags().SetInterspersed(false)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if args[1] == "--" { // flags are not looked for after NAME, so the separator comes through
			args = append(args[:1], args[2:]...)
		}
		if len(args) < 2 {
			return errors.New("no command is given")
		}
		return a.look(func(r *record.Record) error {
			p, err := machine.Running(r, args[0])
			if err != nil {
				return err
			}
			return forCaller(machine.Command(p, args[1:]...))
		})
	}
	return cmd
}

func (a *app) root() *cobra.Command {
	return &cobra.Command{Use: "root NAME", Short: "print where the files of a node that is on are to be seen, its own disk included", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.look(func(r *record.Record) error {
				p, err := machine.Running(r, args[0])
				if err == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "/proc/%d/root\n", p.PID)
				}
				return err
			})
		}}
}

func (a *app) apiserver() *cobra.Command {
	cmd := &cobra.Command{Use: "apiserver", Short: "stop and start the API server alone"}
	one := func(use, short string, f func(*record.Record) error) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return a.change(f) }}
	}
	cmd.AddCommand(one("stop", "stop the API server; everything else runs on", plane.StopAPI),
		one("start", "start the API server, and wait until it is ready", plane.StartAPI))
	return cmd
}

func (a *app) loadImage() *cobra.Command {
	return &cobra.Command{
		Use: "load-image TAR...", Short: "give image archives to all nodes, also to those that start later", Args: cobra.MinimumNArgs(1),
		Long: "Copies the archives (docker or OCI) to the cluster's images and imports them on every node that is on.\n" +
			"An image whose tag has been loaded before is replaced; restart the pods that use it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(func(r *record.Record) error {
				for _, archive := range args {
					if err := load(cmd.OutOrStdout(), r, archive); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

func load(out io.Writer, r *record.Record, archive string) error {
	base := filepath.Base(archive)
	if !strings.HasSuffix(base, ".tar") {
		return fmt.Errorf("%s: image archives are named *.tar", archive)
	}
	to := filepath.Join(r.Dir().Images(), base)
	if err := copyFile(to, archive); err != nil {
		return err
	}
	type result struct {
		node string
		err  error
	}
	results, n := make(chan result), 0
	for _, node := range r.Settings.Nodes {
		p, err := machine.Running(r, node)
		if err != nil {
			continue
		}
		n++
		go func() {
			// The program sees itself in the node as well: it lies in the cluster's directory of programs.
			c := machine.Command(p, "/opt/cluster/bin/cluster", "internal", "import", "/opt/cluster/images/"+base)
			text, err := c.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("import %s on %s: %w: %s", base, node, err, text)
			}
			results <- result{node, err}
		}()
	}
	var errs error
	for range n {
		res := <-results
		errs = errors.Join(errs, res.err)
		if res.err == nil {
			fmt.Fprintf(out, "%s is on %s\n", base, res.node)
		}
	}
	return errs
}

// copyFile copies a file so that the copy is whole when it has its name. A file is not copied onto itself.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if a, err := os.Stat(to); err == nil {
		if b, err := in.Stat(); err == nil && os.SameFile(a, b) {
			return nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(to+".part", to)
}
