// Command snapshot-metadata-lister prints, as JSON, which blocks a VolumeSnapshot holds, or which differ from an older one of the same
// volume. It asks as a backup program does, with upstream's library and a token of its pod's account; upstream's command of this name is
// in a module that the proxy does not serve.
//
//	snapshot-metadata-lister NAMESPACE SNAPSHOT [OLDER]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kubernetes-csi/external-snapshot-metadata/pkg/iterator"
	"k8s.io/client-go/rest"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "snapshot-metadata-lister:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return errors.New("usage: snapshot-metadata-lister NAMESPACE SNAPSHOT [OLDER], in a pod")
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	clients, err := iterator.BuildClients(config)
	if err != nil {
		return err
	}
	a := iterator.Args{Clients: clients, Namespace: args[0], SnapshotName: args[1], Emitter: &iterator.JSONEmitter{Writer: os.Stdout}}
	if len(args) == 3 {
		a.PrevSnapshotName = args[2]
	}
	return iterator.GetSnapshotMetadata(ctx, a)
}
