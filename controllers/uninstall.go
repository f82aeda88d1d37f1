package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/mynetwork"
)

// ErrInUse tells that volumes are in use, and which.
var ErrInUse = errors.New("volumes are in use")

// maxListed is how many volumes an error lists.
const maxListed = 20

// UninstallCheck returns ErrInUse while any volume of the cluster is attached to a node: without the node plugin it could not be
// unmounted any more.
func UninstallCheck(ctx context.Context, cluster *rest.Config) error {
	s, err := Scheme()
	if err != nil {
		return err
	}
	c, err := client.New(cluster, client.Options{Scheme: s})
	if err != nil {
		return err
	}
	var list v1alpha1.VolumeRecordList
	if err := c.List(ctx, &list); err != nil {
		return fmt.Errorf("list volumes: %w", err)
	}
	return InUse(list.Items)
}

// InUse lists, as an error, what is attached.
func InUse(records []v1alpha1.VolumeRecord) error {
	var lines []string
	for i := range records {
		r := &records[i]
		if r.State.Holder == "" || !mynetwork.Live(r) {
			continue
		}
		claim := "no claim"
		if c := r.Spec.Claim; c != nil {
			claim = fmt.Sprintf("claim %s/%s", c.Namespace, c.Name)
		}
		lines = append(lines, fmt.Sprintf("  %s on node %s, %s", r.Name, r.State.Holder, claim))
	}
	if len(lines) == 0 {
		return nil
	}
	slices.SortFunc(lines, cmp.Compare)
	more := ""
	if n := len(lines) - maxListed; n > 0 {
		lines, more = lines[:maxListed], fmt.Sprintf("\n  and %d more", n)
	}
	return fmt.Errorf("%w: MyNetwork is not uninstalled, because they could not be unmounted afterwards. End the pods that use them, then uninstall again; \"helm rollback\" "+
		"to the release's last revision keeps MyNetwork. In use are:\n%s%s", ErrInUse, strings.Join(lines, "\n"), more)
}
