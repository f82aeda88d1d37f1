package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mynetwork.io/mynetwork/hack/cluster/build"
	"mynetwork.io/mynetwork/hack/cluster/external"
	"mynetwork.io/mynetwork/hack/cluster/record"
)

// apart are the specs that need another StorageClass than the one of that name: those that grow a mounted file system where the machine cannot
// grow a mounted ext4, and those that cannot wait for a pod.
func apart(ctx context.Context, r *record.Record, class string) ([]external.Apart, error) {
	text, err := kubectlCommand(ctx, r, "get", "storageclass", class, "-o", "json").Output()
	if err != nil {
		return nil, fmt.Errorf("read the StorageClass %s: %w", class, err)
	}
	immediate, err := external.OnImmediate(text)
	if err != nil {
		return nil, err
	}
	grows, err := external.GrowsExt4()
	if err != nil || grows {
		return []external.Apart{immediate}, err
	}
	xfs, err := external.OnXFS(text)
	return []external.Apart{immediate, xfs}, err
}

func (a *app) external() *cobra.Command {
	o := external.Options{}
	cmd := &cobra.Command{
		Use: "e2e-external", Short: "run Kubernetes' own tests of storage drivers against csi.mynetwork.io", Args: cobra.NoArgs,
		Long: "MyNetwork must be installed, with a StorageClass. The report has log.txt, junit.xml, and specs.txt: a line for each spec.",
	}
	f := cmd.Flags()
	f.StringVar(&o.Class, "class", "mynetwork-main", "StorageClass and VolumeSnapshotClass that the tests copy")
	f.StringVar(&o.Focus, "focus", "External.Storage", "regular expression on the names of specs")
	f.StringVar(&o.Skip, "skip", "", "regular expression of more specs to leave out")
	f.BoolVar(&o.Slow, "slow", true, "also specs that Kubernetes calls slow")
	f.BoolVar(&o.DryRun, "dry-run", false, "list the specs and run none")
	f.IntVar(&o.Procs, "procs", 6, "specs at once")
	f.DurationVar(&o.Timeout, "timeout", 3*time.Hour, "of the whole suite")
	f.StringVar(&o.Report, "report", "out/e2e-external", "directory of the results")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.Out = cmd.OutOrStdout()
		err := a.change(func(r *record.Record) error {
			source, err := build.Source()
			if err != nil {
				return err
			}
			b := build.Builder{Source: source, Dir: r.Dir(), Out: o.Out}
			if err := b.E2E(cmd.Context()); err != nil {
				return err
			}
			o.Bin, o.Kubeconfig = filepath.Dir(r.Dir().Bin("ginkgo")), r.Dir().Kubeconfig()
			if o.DryRun {
				return nil
			}
			if out, err := kubectlCommand(cmd.Context(), r, "get", "storageclass", o.Class, "-o", "name").CombinedOutput(); err != nil {
				return fmt.Errorf("the StorageClass %s: %s: install the chart and apply a MyNetwork first, or name another by --class", o.Class, strings.TrimSpace(string(out)))
			}
			if o.Apart, err = apart(cmd.Context(), r, o.Class); err != nil {
				return err
			}
			return load(o.Out, r, filepath.Join(r.Dir().Images(), "agnhost.tar"))
		})
		if err != nil {
			return err
		}
		return external.Run(cmd.Context(), o) // without the lock: it takes an hour
	}
	return cmd
}
