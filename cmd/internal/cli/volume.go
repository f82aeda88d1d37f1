package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/cmd/internal/devnet"
	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/cmd/internal/show"
	"mynetwork.io/mynetwork/cmd/internal/size"
)

const keyUsage = "file with the volume's encryption key: 32 bytes or 64 hexadecimal digits (default: the variable " + settings.KeyVariable + ")"

func (a *app) volumeCommand() *cobra.Command {
	return family("volume", "Make, attach, copy and delete volumes",
		a.volumeCreate(), a.volumeList(), a.volumeInspect(), a.volumeAttach(), a.volumeDetach(), a.volumeResize(),
		a.volumeSnapshot(), a.volumeClone(), a.volumeRollback(), a.volumeDelete(), a.volumeScrub(), a.volumeTails(),
		a.volumeModify(), a.volumeOrphans(), a.volumeAdopt())
}

// clientCommand is a command that talks to agents. names is which argument is a volume; below 0 none is.
func (a *app) clientCommand(c *cobra.Command, names int, run func(ctx context.Context, args []string) error) *cobra.Command {
	a.clientFlags(c.Flags())
	if names >= 0 {
		c.ValidArgsFunction = a.volumeNames(names)
	} else if c.ValidArgsFunction == nil {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
	return a.command(c, settings.Client, run)
}

// printVolume prints one volume after a change: a line for people, the whole for programs.
func (a *app) printVolume(v *agentv1.Volume, line func(volumeView) string) error {
	view := viewVolume(v)
	return a.print.Print(view, func(r *show.Rows) { r.Add(line(view)) })
}

func (a *app) volumeCreate() *cobra.Command {
	var req agentv1.CreateVolumeRequest
	var bytes size.Flag
	var extent, compression, keyFile string
	c := &cobra.Command{Use: "create NAME --size SIZE", Short: "Make a volume", Args: cobra.ExactArgs(1),
		Long: "Make a volume. Repeating an equal command returns the volume that is there.\n\nSizes are written as 10Gi, 512MiB, 1T or in bytes, and are multiples of 4096."}
	cmd := a.clientCommand(c, -1, func(ctx context.Context, args []string) error {
		if bytes == 0 {
			return usage("--size is missing: how large the volume is, as 10Gi")
		}
		req.Name, req.Size = args[0], int64(bytes)
		kind, ok := agentv1.Compression_value["COMPRESSION_"+strings.ToUpper(compression)]
		if !ok {
			return usage("--compression %q: there are none, lz4 and zstd", compression)
		}
		req.Compression = agentv1.Compression(kind)
		n, err := size.Parse(extent)
		if err != nil || n > 1<<31 {
			return usage("--extent-size %q: %v", extent, err)
		}
		req.ExtentSize = uint32(n)
		if req.EncryptionKey, err = settings.EncryptionKey(keyFile); err != nil {
			return err
		}
		return a.withAny(ctx, func(ctx context.Context, c *control.Agent) error {
			v, err := c.CreateVolume(ctx, &req)
			if err != nil {
				return err
			}
			return a.printVolume(v, func(v volumeView) string {
				return fmt.Sprintf("volume %s: %s, %d replicas", v.Name, size.Format(v.Size), v.Replicas)
			})
		})
	})
	f := cmd.Flags()
	f.Var(&bytes, "size", "size, a multiple of 4096 bytes: 10Gi, 512MiB, ...")
	f.Int32Var(&req.Replicas, "replicas", 3, "number of copies, on different nodes")
	f.BoolVar(&req.Weak, "weak", false, "answer a flush after one copy: the loss of one node may lose flushed writes")
	f.StringVar(&extent, "extent-size", "0", "capacity of an extent; 0 is the default")
	f.StringVar(&compression, "compression", "none", "none, lz4 or zstd")
	f.StringVar(&keyFile, "key-file", "", keyUsage)
	return cmd
}

func (a *app) volumeList() *cobra.Command {
	var req agentv1.ListVolumesRequest
	cmd := a.clientCommand(&cobra.Command{Use: "list", Short: "List volumes", Aliases: []string{"ls"}}, -1, func(ctx context.Context, _ []string) error {
		list, err := a.listVolumes(ctx, &req)
		if err != nil {
			return err
		}
		return a.print.Print(list, volumeRows(list))
	})
	cmd.Flags().BoolVar(&req.Deleted, "deleted", false, "also those that were deleted")
	return cmd
}

// listVolumes asks all agents: each knows best what it has open itself.
func (a *app) listVolumes(ctx context.Context, req *agentv1.ListVolumesRequest) ([]volumeView, error) {
	all, done, err := a.agents(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, a.values.Timeout)
	defer cancel()
	best := map[string]volumeView{}
	rank := map[string]int{"detached": 1, "elsewhere": 2, "failed": 3, "attached": 4}
	for _, c := range all {
		r, err := c.ListVolumes(ctx, req)
		if err != nil {
			return nil, control.Say(err)
		}
		for _, v := range r.GetVolumes() {
			view := viewVolume(v)
			if old, ok := best[view.ID]; !ok || rank[view.State] > rank[old.State] {
				best[view.ID] = view
			}
		}
	}
	byName := map[string]volumeView{}
	for _, v := range best {
		byName[v.Name+"\x00"+v.ID] = v
	}
	out := []volumeView{}
	for _, name := range sorted(byName) {
		out = append(out, byName[name])
	}
	return out, nil
}

func (a *app) volumeInspect() *cobra.Command {
	return a.clientCommand(&cobra.Command{Use: "inspect VOLUME", Short: "Show everything about a volume", Args: cobra.ExactArgs(1)}, 0,
		func(ctx context.Context, args []string) error {
			return a.withHolder(ctx, args[0], func(ctx context.Context, c *control.Agent) error {
				v, err := c.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: args[0]})
				if err != nil {
					return err
				}
				view := viewVolume(v)
				return a.print.Print(view, view.details)
			})
		})
}

func (a *app) volumeAttach() *cobra.Command {
	var req agentv1.AttachVolumeRequest
	var kind, keyFile string
	c := &cobra.Command{Use: "attach VOLUME", Short: "Make a volume a block device of a node", Args: cobra.ExactArgs(1),
		Long: "Make a volume a block device of a node, which becomes its only writer. Repeating it returns the device that is there.\n\n" +
			"It is refused while another node has the volume and was heard of lately. --force takes it all the same: the former\nwriter is fenced, its device answers EIO, and what it had not flushed may be lost."}
	cmd := a.clientCommand(c, 0, func(ctx context.Context, args []string) (err error) {
		req.Volume = args[0]
		if req.Kind, err = deviceKind(a.kindOr(kind)); err != nil {
			return err
		}
		if req.EncryptionKey, err = settings.EncryptionKey(keyFile); err != nil {
			return err
		}
		return a.withAny(ctx, func(ctx context.Context, c *control.Agent) error {
			r, err := c.AttachVolume(ctx, &req)
			if err != nil {
				return err
			}
			v := r.GetVolume()
			if v == nil {
				v = &agentv1.Volume{Name: args[0]}
			}
			v.Device = r.GetDevice()
			return a.printVolume(v, func(v volumeView) string {
				if v.Device == "" {
					return fmt.Sprintf("volume %s is open, without a device", v.Name)
				}
				return v.Device
			})
		})
	})
	f := cmd.Flags()
	f.StringVar(&kind, "kind", "", "fuse (a block device), nbd (an NBD server on a unix socket) or none (default: what \"dev up\" was given, else the agent's)")
	f.BoolVar(&req.Force, "force", false, "take it from a writer that was heard of lately")
	f.StringVar(&keyFile, "key-file", "", keyUsage)
	return cmd
}

// kindOr is the kind that was asked for, else that of this machine's network, else the agent's own.
func (a *app) kindOr(kind string) string {
	if kind != "" || a.values.Socket != "" {
		return kind
	}
	if n, err := devnet.Load(a.values.Dir); err == nil {
		return n.Device
	}
	return ""
}

func deviceKind(s string) (agentv1.DeviceKind, error) {
	if s == "" {
		return agentv1.DeviceKind_DEVICE_KIND_UNSPECIFIED, nil
	}
	kind, ok := agentv1.DeviceKind_value["DEVICE_KIND_"+strings.ToUpper(s)]
	if !ok || kind == 0 {
		return 0, usage("device kind %q: there are fuse, nbd and none", s)
	}
	return agentv1.DeviceKind(kind), nil
}

func (a *app) volumeDetach() *cobra.Command {
	var req agentv1.DetachVolumeRequest
	cmd := a.clientCommand(&cobra.Command{Use: "detach VOLUME", Short: "Make everything durable and end a volume's device", Args: cobra.ExactArgs(1)}, 0,
		func(ctx context.Context, args []string) error {
			req.Volume = args[0]
			return a.withHolder(ctx, args[0], func(ctx context.Context, c *control.Agent) error {
				if _, err := c.DetachVolume(ctx, &req); err != nil {
					return err
				}
				a.print.Say("volume %s is detached", args[0])
				return nil
			})
		})
	cmd.Flags().BoolVar(&req.Force, "force", false, "do not wait for a quorum: what no flush covered may be lost")
	return cmd
}

func (a *app) volumeResize() *cobra.Command {
	var keyFile string
	cmd := a.clientCommand(&cobra.Command{Use: "resize VOLUME SIZE", Short: "Grow a volume, also while it is in use", Args: cobra.ExactArgs(2)}, 0,
		func(ctx context.Context, args []string) error {
			n, err := size.Volume(args[1])
			if err != nil {
				return err
			}
			key, err := settings.EncryptionKey(keyFile)
			if err != nil {
				return err
			}
			return a.withHolder(ctx, args[0], func(ctx context.Context, c *control.Agent) error {
				v, err := c.ResizeVolume(ctx, &agentv1.ResizeVolumeRequest{Volume: args[0], Size: n, EncryptionKey: key})
				if err != nil {
					return err
				}
				return a.printVolume(v, func(v volumeView) string { return fmt.Sprintf("volume %s is %s", v.Name, size.Format(v.Size)) })
			})
		})
	cmd.Flags().StringVar(&keyFile, "key-file", "", keyUsage)
	return cmd
}

// confirm asks before data are lost for ever. Without a terminal only --yes says so.
func (a *app) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !show.Terminal(os.Stdin) {
		return usage("%s There is no terminal to ask at: say --yes", question)
	}
	fmt.Fprintf(a.errOut, "%s Type yes: ", question)
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	if strings.TrimSpace(answer) != "yes" {
		return usage("not confirmed; nothing was done")
	}
	return nil
}
