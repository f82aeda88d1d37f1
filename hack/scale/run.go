package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/hack/apiserver"
	"mynetwork.io/mynetwork/hack/fleet"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

const network = "scale"

// bench is one measurement.
type bench struct {
	o     options
	s     *apiserver.Server
	f     *fleet.Fleet
	cache cache.Cache // of what is waited for: who asks the API server again and again is a load of its own
	op    *operator
	last  *placement.Layout // that was read
	dir   string
}

func nodeName(i int) string { return fmt.Sprintf("node-%05d", i) }

func run(ctx context.Context, o options) (err error) {
	log.SetLogger(logr.Discard())
	b := &bench{o: o}
	if b.dir, err = os.MkdirTemp("", "scale"); err != nil {
		return err
	}
	if b.s, err = apiserver.Start(ctx, "."); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.s.Stop()) }()
	if b.cache, err = fleet.NewCache(b.s); err != nil {
		return err
	}
	b.f = fleet.New(b.s, fleet.Options{Network: network, Workers: 16, Enrols: true, Cache: b.cache})
	fleetCtx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() { _ = b.f.Run(fleetCtx) })
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", v1alpha1.PortControl))
	if err != nil {
		return err
	}
	go func() { _ = b.f.Serve(l) }()
	if b.op, err = startOperator(ctx, b.s, o, b.dir); err != nil {
		return err
	}
	defer func() { b.op.stop() }()
	fmt.Printf("%d nodes, %d volumes; operator's log in %s\n", o.nodes, o.volumes, b.dir)
	for _, step := range []struct {
		name string
		f    func(context.Context) error
	}{
		{"nodes are made", b.nodes}, {"the network is made: all are in a published layout", b.join}, {"it and every node is Ready", func(ctx context.Context) error { return b.serves(ctx, o.nodes) }},
		{"it comes to rest", b.settle}, {"volumes are made, with claims and groups", b.volumes}, {"it comes to rest", b.settle}, {"nothing happens", pause(b.o.rest)}, {"agents write their figures, each every 5 minutes", b.figures},
		{"a node is added: layout published", b.add}, {"a node is drained: layout published", b.drain}, {"it is empty and leaves: layout published", b.remove},
		{"a node dies: its volume fenced, its pod freed", b.death}, {"a minute after (downAfter): layout published without it", b.without}, {"the operator is killed, another one leads and is at rest", b.restart},
	} {
		if err := b.measure(ctx, step.name, step.f); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// measure prints what the operator used for a step.
func (b *bench) measure(ctx context.Context, name string, f func(context.Context) error) error {
	before, err := b.op.usage()
	if err != nil {
		return err
	}
	op := b.op
	if err := f(ctx); err != nil {
		return err
	}
	if b.op != op {
		before = usage{at: before.at}
	}
	after, err := b.op.usage()
	if err != nil {
		return err
	}
	load, _ := os.ReadFile("/proc/loadavg")
	line, calls := after.since(before)
	fmt.Printf("%-58s %s  load %s\n    %s\n", name, line, strings.Fields(string(load))[0], calls)
	return nil
}

// limit bounds each step; poll is how often what is waited for is looked at, in a cache: times are no better than that.
const (
	limit = 15 * time.Minute
	poll  = 200 * time.Millisecond
)

func until(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(poll):
		}
	}
}

func pause(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// get reads the network.
func (b *bench) get(ctx context.Context) (*v1alpha1.MyNetwork, error) {
	n := &v1alpha1.MyNetwork{}
	return n, b.cache.Get(ctx, client.ObjectKey{Name: network}, n)
}

// serves waits until the network is Ready with so many nodes, and every node is.
func (b *bench) serves(ctx context.Context, nodes int) error {
	err := until(ctx, func() error {
		n, err := b.get(ctx)
		if err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionReady) || n.Status.Activity != "Serving" || int(n.Status.Nodes.Storage) != nodes {
			return fmt.Errorf("it is %s, nodes %+v", n.Status.Activity, n.Status.Nodes)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return until(ctx, func() error {
		var list v1alpha1.StorageNodeList
		if err := b.cache.List(ctx, &list); err != nil {
			return err
		}
		ready := 0
		for i := range list.Items {
			if meta.IsStatusConditionTrue(list.Items[i].Status.Conditions, v1alpha1.ConditionReady) && len(list.Items[i].Status.MemberGrant) > 0 {
				ready++
			}
		}
		if ready < nodes {
			return fmt.Errorf("%d of %d nodes are Ready", ready, nodes)
		}
		return nil
	})
}

func (b *bench) nodes(ctx context.Context) error {
	var names []string
	for i := range b.o.nodes {
		names = append(names, nodeName(i))
	}
	return b.f.Add(ctx, names...)
}

// downAfter is how long a dead node stays in the layout: the least that the API lets.
const downAfter = time.Minute

func (b *bench) join(ctx context.Context) error {
	err := b.s.Admin.Create(ctx, &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: network}, Spec: v1alpha1.MyNetworkSpec{
		Nodes: v1alpha1.NodesSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{fleet.Label: network}}, DownAfter: &metav1.Duration{Duration: downAfter}}}})
	if err != nil {
		return err
	}
	return until(ctx, func() error {
		n, err := b.get(ctx)
		if err != nil {
			return err
		}
		have := 0
		if l := b.layout(n); l != nil {
			have = l.Len()
		}
		if have < b.o.nodes {
			return fmt.Errorf("the layout has %d members, %s", have, n.Status.Activity)
		}
		return nil
	})
}

// layout is the one that the network's status names.
func (b *bench) layout(n *v1alpha1.MyNetwork) *placement.Layout {
	if n.Status.Layout == nil {
		return nil
	}
	hash, err := hex.DecodeString(n.Status.Layout.Hash)
	if err != nil || len(hash) != 32 {
		return nil
	}
	if b.last == nil || [32]byte(b.last.Hash()) != [32]byte(hash) {
		b.last = b.f.Layout([32]byte(hash))
	}
	return b.last
}

// settle waits until the operator has written nothing for ten seconds.
func (b *bench) settle(ctx context.Context) error {
	const quiet = 10 * time.Second
	last, at := -1, time.Now()
	return until(ctx, func() error {
		if n := b.op.tap.Writes(); n != last {
			last, at = n, time.Now()
		}
		if time.Since(at) < quiet {
			return fmt.Errorf("%d writes", last)
		}
		return nil
	})
}

// volume is the record of volume i, attached to node i by turns.
func (b *bench) volume(uid types.UID, i int) *v1alpha1.VolumeRecord {
	id := fmt.Sprintf("%032x", i+1)
	return &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: string(uid) + "." + id}, Spec: v1alpha1.VolumeRecordSpec{Network: network, NetworkUID: string(uid), VolumeID: id,
		Name: "pvc-" + id, Capacity: resource.MustParse("10Gi"), Copies: 3, Claim: &v1alpha1.ClaimReference{Namespace: "default", Name: "data-" + id}},
		Fact:  v1alpha1.VolumeFact{Epoch: 1, Token: strings.Repeat("1", 16)},
		State: v1alpha1.VolumeState{Holder: nodeName(i % b.o.nodes), HolderEpoch: 1}}
}

func (b *bench) volumes(ctx context.Context) error {
	n, err := b.get(ctx)
	if err != nil {
		return err
	}
	slots := make(chan struct{}, 16)
	errs := make([]error, b.o.volumes)
	var all sync.WaitGroup
	for i := range b.o.volumes {
		all.Go(func() {
			slots <- struct{}{}
			v := b.volume(n.UID, i)
			if errs[i] = b.s.Admin.Create(ctx, claim(v)); errs[i] == nil {
				errs[i] = b.s.Admin.Create(ctx, v)
			}
			<-slots
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i := range b.o.nodes {
		b.f.Use(nodeName(i), 1<<30, 1) // that a node has copies at all is a fact, which it reports at once
	}
	return until(ctx, func() error {
		if n, err := b.get(ctx); err != nil || int(n.Status.Volumes) != b.o.volumes {
			return fmt.Errorf("it counts %d, %w", n.Status.Volumes, err)
		}
		var groups v1alpha1.ContentGroupList
		if err := b.cache.List(ctx, &groups); err != nil {
			return err
		}
		ready := 0
		for i := range groups.Items {
			if meta.IsStatusConditionTrue(groups.Items[i].Status.Conditions, v1alpha1.ConditionReady) {
				ready++
			}
		}
		if ready < b.o.volumes {
			return fmt.Errorf("%d groups are Ready", ready)
		}
		return nil
	})
}

// claim is what a volume was made for.
func claim(v *v1alpha1.VolumeRecord) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: v.Spec.Claim.Name, Namespace: v.Spec.Claim.Namespace}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeName: "pv-" + v.Spec.VolumeID, StorageClassName: new("mynetwork-" + network),
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: v.Spec.Capacity}}}}
}

// figures has agents report for a minute as they do when their disks are written.
func (b *bench) figures(ctx context.Context) error {
	const minute = time.Minute
	every := 5 * time.Minute / time.Duration(b.o.nodes)
	tick := time.NewTicker(every)
	defer tick.Stop()
	end := time.After(minute)
	for i := 0; ; i++ {
		select {
		case <-tick.C:
			b.f.Use(nodeName(i%b.o.nodes), int64(i+2)<<30, int64(i+2))
		case <-end:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// layoutAfter waits for a layout that is newer than the one before do.
func (b *bench) layoutAfter(ctx context.Context, do func() error) error {
	n, err := b.get(ctx)
	if err != nil {
		return err
	}
	before := n.Status.Layout.Version
	if err := do(); err != nil {
		return err
	}
	return until(ctx, func() error {
		if n, err := b.get(ctx); err != nil || n.Status.Layout.Version == before {
			return fmt.Errorf("layout %d, %w", before, err)
		}
		return nil
	})
}

func (b *bench) add(ctx context.Context) error {
	return b.layoutAfter(ctx, func() error { return b.f.Add(ctx, nodeName(b.o.nodes)) })
}

func (b *bench) guest() *v1alpha1.StorageNode {
	return &v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: network + "." + nodeName(b.o.nodes)}}
}

func (b *bench) drain(ctx context.Context) error {
	if err := b.serves(ctx, b.o.nodes+1); err != nil {
		return err
	}
	return b.layoutAfter(ctx, func() error {
		return b.s.Admin.Patch(ctx, b.guest(), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"scheduling":"Drained"}}`)))
	})
}

func (b *bench) remove(ctx context.Context) error {
	return b.layoutAfter(ctx, func() error {
		label := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{%q:null}}}`, fleet.Label)) // else it would be made anew
		return errors.Join(b.s.Admin.Patch(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(b.o.nodes)}}, label), b.s.Admin.Delete(ctx, b.guest()))
	})
}

// death lets a node die on which a pod writes a volume.
func (b *bench) death(ctx context.Context) error {
	n, err := b.get(ctx)
	if err != nil {
		return err
	}
	v := b.volume(n.UID, 0)
	size := corev1.ResourceList{corev1.ResourceStorage: v.Spec.Capacity}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "db-0", Namespace: "default"}, Spec: corev1.PodSpec{NodeName: nodeName(0), Containers: []corev1.Container{{Name: "c", Image: "i"}},
		Volumes: []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: v.Spec.Claim.Name}}}}}}
	for _, o := range []client.Object{
		&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: claim(v).Spec.VolumeName}, Spec: corev1.PersistentVolumeSpec{Capacity: size, AccessModes: claim(v).Spec.AccessModes,
			ClaimRef:               &corev1.ObjectReference{Namespace: "default", Name: v.Spec.Claim.Name},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: v1alpha1.DriverName, VolumeHandle: v.Name}}}}, pod} {
		if err := b.s.Admin.Create(ctx, o); err != nil {
			return err
		}
	}
	b.f.Kill(nodeName(0))
	return until(ctx, func() error {
		var pods corev1.PodList
		if err := b.s.Admin.List(ctx, &pods, client.InNamespace("default")); err != nil || len(pods.Items) > 0 {
			return fmt.Errorf("%d pods, %w", len(pods.Items), err)
		}
		var node corev1.Node
		if err := b.s.Admin.Get(ctx, client.ObjectKey{Name: nodeName(0)}, &node); err != nil {
			return err
		}
		if !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintUnreachable }) {
			return errors.New("no taint")
		}
		return nil
	})
}

// without waits for a layout in which the dead node is down.
func (b *bench) without(ctx context.Context) error {
	return until(ctx, func() error {
		n, err := b.get(ctx)
		if err != nil {
			return err
		}
		l := b.layout(n)
		if l == nil || !slices.ContainsFunc(l.Members(), func(m placement.Node) bool { return m.ID == nodeName(0) && m.State == placement.Down }) {
			return errors.New("the dead node is in the layout")
		}
		return nil
	})
}

func (b *bench) restart(ctx context.Context) (err error) {
	b.op.stop()
	if b.op, err = startOperator(ctx, b.s, b.o, b.dir); err != nil {
		return err
	}
	b.f.Revive(nodeName(0))
	return until(ctx, func() error {
		n, err := b.get(ctx)
		if err != nil {
			return err
		}
		if meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionDegraded) {
			return errors.New("the node is still taken for dead")
		}
		return nil
	})
}
