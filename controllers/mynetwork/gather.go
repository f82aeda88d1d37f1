package mynetwork

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/controllers/snapshotter"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// hashSize is the size of BLAKE3-256 in bytes.
const hashSize = 32

// ErrNoBody tells that the body of a layout can not be fetched now.
var ErrNoBody = errors.New("layout body is not there")

// LayoutBodies keeps the bodies of layouts on the network's agents: the API carries only their hash. Both are idempotent.
type LayoutBodies interface {
	// Fetch returns the encoding whose BLAKE3-256 is hash, or ErrNoBody. The caller does not change it.
	Fetch(ctx context.Context, n *v1alpha1.MyNetwork, hash [hashSize]byte) ([]byte, error)
	// Store returns once a majority of the layout's members has the body on disk.
	Store(ctx context.Context, n *v1alpha1.MyNetwork, l *placement.Layout) error
}

// gather reads everything that the plan of a network depends on.
func (r *Reconciler) gather(ctx context.Context, n *v1alpha1.MyNetwork) (*State, error) {
	s := &State{Options: r.Options, Now: r.Now(), Network: n}
	steps := []func(context.Context, *State) error{r.networks, r.nodes, r.records, r.children, r.snapshots, r.layoutBody}
	for _, step := range steps {
		if err := step(ctx, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (r *Reconciler) networks(ctx context.Context, s *State) error {
	var list v1alpha1.MyNetworkList
	if err := r.Client.List(ctx, &list); err != nil {
		return fmt.Errorf("list networks: %w", err)
	}
	for _, o := range list.Items {
		if o.UID != s.Network.UID {
			s.Others = append(s.Others, o)
		}
	}
	return nil
}

func (r *Reconciler) nodes(ctx context.Context, s *State) error {
	var nodes corev1.NodeList
	if err := r.Client.List(ctx, &nodes); err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	s.Nodes = nodes.Items
	var own v1alpha1.StorageNodeList
	if err := r.Client.List(ctx, &own, client.MatchingFields{FieldNetwork: s.Network.Name}); err != nil {
		return fmt.Errorf("list storage nodes: %w", err)
	}
	s.StorageNodes = own.Items
	slices.SortFunc(s.StorageNodes, func(a, b v1alpha1.StorageNode) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func (r *Reconciler) records(ctx context.Context, s *State) error {
	var list v1alpha1.VolumeRecordList
	if err := r.Client.List(ctx, &list, client.MatchingFields{FieldNetwork: s.Network.Name}); err != nil {
		return fmt.Errorf("list volume records: %w", err)
	}
	for i := range list.Items {
		if Live(&list.Items[i]) {
			s.Records = append(s.Records, list.Items[i].Name)
		}
	}
	slices.Sort(s.Records)
	return nil
}

// Live tells whether a record stands for a volume: not for one that is being made, nor for one that is deleted.
func Live(r *v1alpha1.VolumeRecord) bool {
	return r.State.Deletion == nil && r.Labels[v1alpha1.LabelState] == ""
}

func (r *Reconciler) children(ctx context.Context, s *State) error {
	get := func(name string, into client.Object) (bool, error) {
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: r.Options.Namespace, Name: name}, into)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	}
	agents, holders, secret := &appsv1.DaemonSet{}, &appsv1.DaemonSet{}, &corev1.Secret{}
	if ok, err := get(AgentName(s.Network.Name), agents); err != nil {
		return err
	} else if ok {
		s.Agents = agents
	}
	if ok, err := get(holderName(s.Network), holders); err != nil {
		return err
	} else if ok {
		s.Holders = holders
	}
	if ok, err := get(authority.SecretName(s.Network.Name), secret); err != nil {
		return err
	} else if ok {
		s.Authority = secret
	}
	return nil
}

// snapshots finds which snapshot APIs are served. Only what has a definition is asked for: the mapper asks the API server anew for each kind
// that it does not know.
func (r *Reconciler) snapshots(ctx context.Context, s *State) error {
	single, err := r.served(ctx, snapshotter.Definition, SnapshotClass())
	if err != nil {
		return err
	}
	s.SnapshotAPI = single != ""
	s.GroupSnapshotAPI, err = r.served(ctx, snapshotter.GroupDefinition, GroupSnapshotClass().WithVersion(""))
	return err
}

// served is the version of a kind that the API server serves, empty if it serves none. Without a version, any will do.
func (r *Reconciler) served(ctx context.Context, definition string, kind schema.GroupVersionKind) (string, error) {
	if err := r.Client.Get(ctx, client.ObjectKey{Name: definition}, snapshotter.Metadata()); err != nil {
		return "", client.IgnoreNotFound(err)
	}
	var versions []string
	if kind.Version != "" {
		versions = append(versions, kind.Version)
	}
	m, err := r.Client.RESTMapper().RESTMapping(kind.GroupKind(), versions...)
	switch {
	case meta.IsNoMatchError(err):
		return "", nil
	case err != nil:
		return "", err
	}
	return m.GroupVersionKind.Version, nil
}

// layoutBody fetches the present layout. That it can not be had is part of the state, and no error.
func (r *Reconciler) layoutBody(ctx context.Context, s *State) error {
	if s.Network.Status.Layout == nil || r.Bodies == nil {
		return nil
	}
	l, err := PresentLayout(ctx, r.Bodies, s.Network)
	if errors.Is(err, ErrNoBody) {
		return nil
	}
	s.Layout = l
	return err
}

// PresentLayout fetches the layout that a network's status names: ErrNoBody.
func PresentLayout(ctx context.Context, bodies interface {
	Fetch(ctx context.Context, n *v1alpha1.MyNetwork, hash [hashSize]byte) ([]byte, error)
}, n *v1alpha1.MyNetwork) (*placement.Layout, error) {
	st := n.Status.Layout
	raw, err := hex.DecodeString(st.Hash)
	if err != nil || len(raw) != hashSize {
		return nil, fmt.Errorf("layout %d has the hash %q: %w", st.Version, st.Hash, ErrNoBody)
	}
	body, err := bodies.Fetch(ctx, n, [hashSize]byte(raw))
	if err != nil {
		return nil, fmt.Errorf("fetch layout %d: %w", st.Version, err)
	}
	l, err := placement.Decode(body)
	if err != nil || [hashSize]byte(l.Hash()) != [hashSize]byte(raw) { // not what the status names: as good as none
		return nil, fmt.Errorf("what came for layout %d is not it: %w", st.Version, ErrNoBody)
	}
	return l, nil
}
