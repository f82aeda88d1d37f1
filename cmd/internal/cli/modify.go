package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/cmd/internal/show"
	"mynetwork.io/mynetwork/cmd/internal/size"
)

func (a *app) volumeModify() *cobra.Command {
	var replicas, least, most int32
	var iops int64
	var compression, rate string
	c := &cobra.Command{Use: "modify VOLUME", Short: "Change a volume's copies, compression and limits, also while it is in use", Args: cobra.ExactArgs(1),
		Long: "Change a volume's copies, compression and limits, also while it is in use. What is not named stays.\n\n" +
			"More replicas are made in the background; fewer hold for what is written from now on. Compression is that of pages written\nfrom now on.\n\n" +
			"Between --min-replicas and --max-replicas the number follows how much the volume is read, while it is attached: one more while each copy has to\n" +
			"give more than 500 reads a second for 10 minutes, one fewer while the others would give less than 100 each for 6 hours. Both 0 ends that."}
	cmd := a.clientCommand(c, 0, func(ctx context.Context, args []string) error {
		req := &agentv1.ModifyVolumeRequest{Volume: args[0]}
		set := c.Flags().Changed
		if set("replicas") {
			req.Replicas = &replicas
		}
		if set("min-replicas") {
			req.MinReplicas = &least
		}
		if set("max-replicas") {
			req.MaxReplicas = &most
		}
		if set("max-iops") {
			req.MaxIops = &iops
		}
		if set("max-rate") {
			n, err := size.Parse(rate)
			if err != nil {
				return fmt.Errorf("--max-rate: %w", err)
			}
			req.MaxBytesPerSecond = &n
		}
		if set("compression") {
			kind, ok := agentv1.Compression_value["COMPRESSION_"+strings.ToUpper(compression)]
			if !ok {
				return usage("--compression %q: there are none and zstd", compression)
			}
			req.Compression = agentv1.Compression(kind).Enum()
		}
		if req.Replicas == nil && req.MaxIops == nil && req.MaxBytesPerSecond == nil && req.Compression == nil && req.MinReplicas == nil && req.MaxReplicas == nil {
			return usage("nothing to change: say --replicas, --min-replicas and --max-replicas, --compression, --max-iops or --max-rate")
		}
		return a.withHolder(ctx, args[0], func(ctx context.Context, c *control.Agent) error {
			v, err := c.ModifyVolume(ctx, req)
			if err != nil {
				return err
			}
			return a.printVolume(v, modified)
		})
	})
	f := cmd.Flags()
	f.Int32Var(&replicas, "replicas", 3, "number of copies, on different nodes: 1 to 7")
	f.Int32Var(&least, "min-replicas", 0, "least copies that the number may fall to by itself; 3 or more if flushes wait for a majority")
	f.Int32Var(&most, "max-replicas", 0, "most copies that it may rise to by itself: 1 to 7")
	f.StringVar(&compression, "compression", "none", "none or zstd")
	f.Int64Var(&iops, "max-iops", 0, "most reads, writes and discards in a second; 0: no limit")
	f.StringVar(&rate, "max-rate", "0", "most bytes read and written in a second, as 100MiB; 0: no limit")
	return cmd
}

// modified says how a volume is now.
func modified(v volumeView) string {
	line := fmt.Sprintf("volume %s: %d replicas, compression %s", v.Name, v.Replicas, v.Compression)
	if b := v.bounds(); b != "" {
		line += ", " + b
	}
	if l := limits(v.MaxIOPS, v.MaxRate); l != "" {
		line += ", at most " + l
	}
	return line
}

// orphanView is an orphan as JSON and YAML show it.
type orphanView struct {
	ID        string   `json:"id"`
	Size      int64    `json:"size"`
	Replicas  int32    `json:"replicas"`
	Encrypted bool     `json:"encrypted"`
	Parent    string   `json:"parent,omitempty"`
	Snapshots []string `json:"snapshots"`
	Epoch     string   `json:"epoch"`
	Problem   string   `json:"problem,omitempty"`
}

func (a *app) volumeOrphans() *cobra.Command {
	c := &cobra.Command{Use: "orphans", Short: "List volumes that the disks hold and the registry does not know", Args: cobra.NoArgs,
		Long: "List volumes that the disks hold, that the registry does not know, and that nobody has deleted. They are kept until somebody\n" +
			"gives them a name with \"volume adopt\", and may then delete them."}
	return a.clientCommand(c, -1, func(ctx context.Context, _ []string) error {
		return a.withAny(ctx, func(ctx context.Context, c *control.Agent) error {
			r, err := c.ListOrphans(ctx, &agentv1.ListOrphansRequest{})
			if err != nil {
				return err
			}
			list := []orphanView{}
			for _, o := range r.GetOrphans() {
				list = append(list, orphanView{o.GetVolume(), o.GetSize(), o.GetReplicas(), o.GetEncrypted(), o.GetParent(), append([]string{}, o.GetSnapshots()...), o.GetEpoch(), o.GetProblem()})
			}
			return a.print.Print(list, func(r *show.Rows) {
				r.Head = []string{"ID", "SIZE", "REPLICAS", "ENCRYPTED", "SNAPSHOTS", "PARENT", "PROBLEM"}
				for _, o := range list {
					r.Add(o.ID, size.Format(o.Size), fmt.Sprint(o.Replicas), fmt.Sprint(o.Encrypted), strings.Join(o.Snapshots, " "), o.Parent, o.Problem)
				}
			})
		})
	})
}

func (a *app) volumeAdopt() *cobra.Command {
	var req agentv1.AdoptVolumeRequest
	c := &cobra.Command{Use: "adopt ID NAME", Short: "Give an orphan a name, so that it is a volume again", Args: cobra.ExactArgs(2),
		Long: "Make the registry's entry of a volume that only the disks know (see \"volume orphans\"). Its ancestors that are orphans too are adopted as\n" +
			"recovered-ID. Repeating it succeeds. An encrypted volume needs its key when it is attached."}
	return a.clientCommand(c, -1, func(ctx context.Context, args []string) error {
		req.Volume, req.Name = args[0], args[1]
		return a.withAny(ctx, func(ctx context.Context, c *control.Agent) error {
			v, err := c.AdoptVolume(ctx, &req)
			if err != nil {
				return err
			}
			return a.printVolume(v, func(v volumeView) string {
				return fmt.Sprintf("volume %s: %s, id %s", v.Name, size.Format(v.Size), v.ID)
			})
		})
	})
}
