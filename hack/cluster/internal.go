package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"mynetwork.io/mynetwork/hack/cluster/machine"
)

// internal are the stages that the program starts itself as.
func internal() *cobra.Command {
	cmd := &cobra.Command{Use: "internal", Hidden: true}
	var cgroups string
	var netOf int
	enter := &cobra.Command{
		Use: "enter -- PROGRAM", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return machine.Enter(strings.Split(cgroups, ","), netOf, args)
		},
	}
	boot := &cobra.Command{
		Use: "boot", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return machine.Boot(strings.Split(cgroups, ",")) },
	}
	trial := &cobra.Command{
		Use: "trial DIRECTORY", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return machine.Trial(args[0], strings.Split(cgroups, ","))
		},
	}
	for _, c := range []*cobra.Command{enter, boot, trial} {
		c.Flags().StringVar(&cgroups, "cgroups", "", "directories")
	}
	enter.Flags().IntVar(&netOf, "net", 0, "the process whose network namespace to enter")
	cmd.AddCommand(enter, boot, trial,
		&cobra.Command{Use: "hub", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return machine.Hub() }},
		&cobra.Command{Use: "pid1", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return machine.PID1() }},
		&cobra.Command{Use: "import ARCHIVE", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			return machine.Import(args[0], os.Stderr)
		}})
	return cmd
}
