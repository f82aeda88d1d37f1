package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"mynetwork.io/mynetwork/hack/cluster/build"
	"mynetwork.io/mynetwork/hack/cluster/machine"
	"mynetwork.io/mynetwork/hack/cluster/record"
)

// errUnfit tells that this machine can not run a cluster; why has been printed.
var errUnfit = errors.New("a cluster can not run here")

// exitUnfit is the exit code of errUnfit.
const exitUnfit = 3

func (a *app) check() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "say whether this machine can run a cluster, and if not, why", Args: cobra.NoArgs,
		Long: "Installs the packages that nodes need, and makes what a node is made of, for a moment: namespaces, mounts, cgroups, links. Nothing is\n" +
			"built. The exit code is 3 if a cluster can not run here; each line says what is missing.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			unfit := func(err error) error {
				fmt.Fprintln(cmd.OutOrStdout(), "a cluster can not run here:")
				machine.Explain(cmd.OutOrStdout(), err)
				return errUnfit
			}
			err := a.change(func(r *record.Record) error {
				if err := (build.Builder{Dir: r.Dir(), Out: cmd.ErrOrStderr()}).Packages(cmd.Context()); err != nil {
					return unfit(fmt.Errorf("packages: %w", err))
				}
				if err := machine.Check(r); err != nil {
					return unfit(err)
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "a cluster can run here")
				return err
			})
			if err != nil && !errors.Is(err, errUnfit) {
				return unfit(err)
			}
			return err
		},
	}
}
