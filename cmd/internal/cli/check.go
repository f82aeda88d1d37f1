package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/cmd/internal/show"
	"mynetwork.io/mynetwork/cmd/internal/size"
)

// checkView is the result of a check.
type checkView struct {
	Bytes    int64         `json:"bytes"`
	Errors   int64         `json:"errors"`
	Repaired int64         `json:"repaired"`
	Seconds  float64       `json:"seconds"`
	Findings []findingView `json:"findings"`
}

type findingView struct {
	Kind     string `json:"kind"`
	Volume   string `json:"volume,omitempty"`
	Extent   string `json:"extent,omitempty"`
	Node     string `json:"node,omitempty"`
	Store    string `json:"store,omitempty"`
	Offset   int64  `json:"offset"`
	Length   int64  `json:"length"`
	Problem  string `json:"problem"`
	Repaired bool   `json:"repaired"`
}

// maxFindings bounds how many findings are kept; all are counted.
const maxFindings = 1000

// progressStream is the client's end of a check.
type progressStream interface {
	Recv() (*agentv1.Progress, error)
}

// follow shows the progress of a check until it is done. A stream that ends earlier is an error.
func (a *app) follow(s progressStream) (checkView, error) {
	start := time.Now()
	out := checkView{Findings: []findingView{}}
	meter := show.NewMeter(os.Stderr)
	defer meter.Clear()
	for {
		p, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return out, errors.New("the agent ended the check before it was done")
		}
		if err != nil {
			return out, control.Say(err)
		}
		out.Bytes, out.Errors, out.Repaired = p.GetBytes(), p.GetErrors(), p.GetRepaired()
		for _, f := range p.GetFindings() {
			if len(out.Findings) < maxFindings {
				out.Findings = append(out.Findings, findingView{f.GetKind(), f.GetVolume(), f.GetExtent(), f.GetNode(), f.GetStore(), f.GetOffset(), f.GetLength(), f.GetProblem(), f.GetRepaired()})
			}
		}
		if p.GetDone() {
			out.Seconds = time.Since(start).Seconds()
			return out, nil
		}
		meter.Update(p.GetStage()+" "+p.GetVolume(), p.GetBytes(), p.GetTotal(), p.GetRate())
	}
}

// rows lists the findings and says the sum.
func (c *checkView) rows(r *show.Rows) {
	if len(c.Findings) > 0 {
		r.Head = []string{"KIND", "VOLUME", "NODE", "EXTENT", "OFFSET", "LENGTH", "REPAIRED", "PROBLEM"}
	}
	for _, f := range c.Findings {
		r.Add(f.Kind, f.Volume, f.Node, f.Extent, fmt.Sprint(f.Offset), fmt.Sprint(f.Length), fmt.Sprint(f.Repaired), f.Problem)
	}
}

func (c *checkView) sum(what string) string {
	rate := ""
	if c.Seconds > 0.001 {
		rate = fmt.Sprintf(", %s/s", size.Format(int64(float64(c.Bytes)/c.Seconds)))
	}
	return fmt.Sprintf("%s: %s checked in %.1f s%s, %d errors, %d repaired", what, size.Format(c.Bytes), c.Seconds, rate, c.Errors, c.Repaired)
}

// conclude prints the result; what is left unrepaired is ErrUnhealthy.
func (a *app) conclude(what string, c checkView) error {
	if err := a.print.Print(c, func(r *show.Rows) { c.rows(r) }); err != nil {
		return err
	}
	a.print.Say("%s", c.sum(what))
	if left := c.Errors - c.Repaired; left > 0 {
		return fmt.Errorf("%s: %d errors are left: %w", what, left, ErrUnhealthy)
	}
	return nil
}

func (a *app) volumeScrub() *cobra.Command {
	var keyFile string
	c := &cobra.Command{Use: "scrub VOLUME", Short: "Check every byte of a volume on every replica, and repair", Args: cobra.ExactArgs(1),
		Long: "Check every byte of a volume on every replica, and repair what is bad from a good one. Errors that were repaired\nend with code 0, errors that are left with code 3."}
	cmd := a.clientCommand(c, 0, func(ctx context.Context, args []string) error {
		key, err := settings.EncryptionKey(keyFile)
		if err != nil {
			return err
		}
		all, done, err := a.agents(ctx)
		if err != nil {
			return err
		}
		defer done()
		agent, err := holderOf(ctx, all, args[0])
		if err != nil {
			return control.Say(err)
		}
		s, err := agent.ScrubVolume(ctx, &agentv1.ScrubVolumeRequest{Volume: args[0], EncryptionKey: key})
		if err != nil {
			return control.Say(err)
		}
		result, err := a.follow(s)
		if err != nil {
			return err
		}
		return a.conclude("scrub of "+args[0], result)
	})
	cmd.Flags().StringVar(&keyFile, "key-file", "", keyUsage)
	return cmd
}

// fsckOptions are the flags of fsck.
type fsckOptions struct {
	quick, offline, rebuild, dryRun bool
	keyFiles                        map[string]string
}

func (a *app) fsckCommand() *cobra.Command {
	var o fsckOptions
	c := &cobra.Command{Use: "fsck [VOLUME...]", Short: "Check every block, leaf, map node and reference of volumes", Args: cobra.ArbitraryArgs,
		Long: "Check every block, leaf, map node and reference of the volumes named, or of all, on every replica. Nothing is changed.\n\n" +
			"--offline works from the disks of this machine's network alone, without its agents: they must be down. --rebuild-registry\n" +
			"makes the registry's entries again from what the disks hold."}
	cmd := a.clientCommand(c, -1, func(ctx context.Context, args []string) error {
		req := &agentv1.FsckRequest{Volumes: args, Quick: o.quick, EncryptionKeys: map[string][]byte{}}
		for volume, file := range o.keyFiles {
			key, err := settings.EncryptionKey(file)
			if err != nil {
				return err
			}
			req.EncryptionKeys[volume] = key
		}
		if o.offline {
			return a.offline(ctx, req, o)
		}
		all, done, err := a.agents(ctx)
		if err != nil {
			return err
		}
		defer done()
		return a.fsck(ctx, all[0], req, o)
	})
	f := cmd.Flags()
	f.BoolVar(&o.quick, "quick", false, "only maps and references, not every byte of every replica")
	f.BoolVar(&o.offline, "offline", false, "from the disks alone; the network's agents must be down")
	f.BoolVar(&o.rebuild, "rebuild-registry", false, "first make the entries that the registry lacks from what the disks hold")
	f.BoolVar(&o.dryRun, "dry-run", false, "with --rebuild-registry: only show what would be made")
	f.StringToStringVar(&o.keyFiles, "key-file", nil, "VOLUME=FILE: encryption key of a volume that is not attached; without it its map is not walked")
	return cmd
}

// fsck runs the check at one agent.
func (a *app) fsck(ctx context.Context, agent *control.Agent, req *agentv1.FsckRequest, o fsckOptions) error {
	if o.rebuild {
		if err := a.rebuildRegistry(ctx, agent, o.dryRun); err != nil {
			return err
		}
	}
	s, err := agent.Fsck(ctx, req)
	if err != nil {
		return control.Say(err)
	}
	result, err := a.follow(s)
	if err != nil {
		return err
	}
	return a.conclude("fsck", result)
}

func (a *app) rebuildRegistry(ctx context.Context, agent *control.Agent, dryRun bool) error {
	r, err := agent.RebuildRegistry(ctx, &agentv1.RebuildRegistryRequest{DryRun: dryRun})
	if err != nil {
		return control.Say(err)
	}
	for _, v := range r.GetVolumes() {
		what := "is in the registry"
		switch {
		case v.GetProblem() != "":
			what = v.GetProblem()
		case v.GetWritten():
			what = "was made again"
		case dryRun:
			what = "found"
		}
		a.say("registry: volume %s %s (epoch %s, anchor %s)", v.GetVolume(), what, v.GetEpoch(), v.GetExtent())
	}
	a.say("registry: %d volumes found on the disks", len(r.GetVolumes()))
	return nil
}
