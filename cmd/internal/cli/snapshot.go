package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/cmd/internal/show"
	"mynetwork.io/mynetwork/cmd/internal/size"
)

func (a *app) volumeSnapshot() *cobra.Command {
	var remove, yes bool
	var keyFile string
	c := &cobra.Command{Use: "snapshot VOLUME NAME", Short: "Keep a volume's content as it is now, or delete what was kept", Args: cobra.ExactArgs(2),
		Long: "Keep a volume's content as it is now, under a name. It takes the same short time whatever the size, and works on a\n" +
			"volume that is in use: it holds every write that was acknowledged before. \"volume inspect\" lists a volume's snapshots."}
	cmd := a.clientCommand(c, 0, func(ctx context.Context, args []string) error {
		key, err := settings.EncryptionKey(keyFile)
		if err != nil {
			return err
		}
		if remove {
			if err := a.confirm(yes, fmt.Sprintf("Delete snapshot %s of volume %s for ever?", args[1], args[0])); err != nil {
				return err
			}
		}
		return a.withHolder(ctx, args[0], func(ctx context.Context, c *control.Agent) error {
			if remove {
				_, err := c.DeleteSnapshot(ctx, &agentv1.DeleteSnapshotRequest{Volume: args[0], Snapshot: args[1], EncryptionKey: key})
				if err == nil {
					a.print.Say("snapshot %s of volume %s is deleted", args[1], args[0])
				}
				return err
			}
			s, err := c.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: args[0], Name: args[1], EncryptionKey: key})
			if err != nil {
				return err
			}
			return a.print.Print(viewSnapshot(s), func(r *show.Rows) { r.Add(fmt.Sprintf("snapshot %s of volume %s", args[1], args[0])) })
		})
	})
	f := cmd.Flags()
	f.BoolVar(&remove, "delete", false, "delete the snapshot of that name")
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.StringVar(&keyFile, "key-file", "", keyUsage)
	return cmd
}

func (a *app) volumeClone() *cobra.Command {
	var bytes size.Flag
	var keyFile string
	cmd := a.clientCommand(&cobra.Command{Use: "clone VOLUME SNAPSHOT NAME", Short: "Make a volume that starts from a snapshot of another", Args: cobra.ExactArgs(3)}, 0,
		func(ctx context.Context, args []string) error {
			key, err := settings.EncryptionKey(keyFile)
			if err != nil {
				return err
			}
			req := &agentv1.CloneVolumeRequest{Volume: args[0], Snapshot: args[1], Name: args[2], Size: int64(bytes), EncryptionKey: key}
			return a.withHolder(ctx, args[0], func(ctx context.Context, c *control.Agent) error {
				v, err := c.CloneVolume(ctx, req)
				if err != nil {
					return err
				}
				return a.printVolume(v, func(v volumeView) string {
					return fmt.Sprintf("volume %s: %s, starts from %s of %s", v.Name, size.Format(v.Size), args[1], args[0])
				})
			})
		})
	cmd.Flags().Var(&bytes, "size", "size, if it shall be larger than the snapshot")
	cmd.Flags().StringVar(&keyFile, "key-file", "", keyUsage)
	return cmd
}

func (a *app) volumeRollback() *cobra.Command {
	var yes bool
	var keyFile string
	cmd := a.clientCommand(&cobra.Command{Use: "rollback VOLUME SNAPSHOT", Short: "Make a detached volume's content that of a snapshot", Args: cobra.ExactArgs(2)}, 0,
		func(ctx context.Context, args []string) error {
			key, err := settings.EncryptionKey(keyFile)
			if err != nil {
				return err
			}
			if err := a.confirm(yes, fmt.Sprintf("Lose what was written to volume %s after snapshot %s?", args[0], args[1])); err != nil {
				return err
			}
			return a.withHolder(ctx, args[0], func(ctx context.Context, c *control.Agent) error {
				v, err := c.RollbackVolume(ctx, &agentv1.RollbackVolumeRequest{Volume: args[0], Snapshot: args[1], EncryptionKey: key})
				if err != nil {
					return err
				}
				return a.printVolume(v, func(v volumeView) string { return fmt.Sprintf("volume %s is as snapshot %s was", v.Name, args[1]) })
			})
		})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().StringVar(&keyFile, "key-file", "", keyUsage)
	return cmd
}

func (a *app) volumeDelete() *cobra.Command {
	var yes bool
	cmd := a.clientCommand(&cobra.Command{Use: "delete VOLUME", Short: "Delete a volume with its snapshots, for ever", Args: cobra.ExactArgs(1)}, 0,
		func(ctx context.Context, args []string) error {
			if err := a.confirm(yes, fmt.Sprintf("Delete volume %s with its snapshots for ever?", args[0])); err != nil {
				return err
			}
			return a.withHolder(ctx, args[0], func(ctx context.Context, c *control.Agent) error {
				if _, err := c.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: args[0]}); err != nil {
					return err
				}
				a.print.Say("volume %s is deleted", args[0])
				return nil
			})
		})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
