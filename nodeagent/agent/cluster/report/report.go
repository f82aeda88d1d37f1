// Package report tells Kubernetes about a node, and hears from there what the node may do.
//
// It follows the node's StorageNode. What the agent says is status.agent, written by server-side apply: the fields are the agent's, the rest
// is the operator's. Changes are written at once, those within Debounce as one; figures (space, counts of copies) at most every
// Figures, or every Moving while copies come or go, or somebody waits for what a scrub finds. Nothing else is periodic: a node at rest
// writes its figures if they changed, and nothing more.
//
// What it hears: status.formatGrant, the one store that may be formatted; status.memberGrant, with which the node keeps copies of all
// volumes; an annotation by which people have the disks scrubbed; and, once, which stores the node said it had when it last spoke.
//
// # Invariants
//
//  1. Nothing is said before the former report was read: it is the memory of a node that has lost its own. (TestFormer)
//  2. The report that Kubernetes has is the newest, whatever was lost on the way, and also if the object was made anew. (TestLost)
//  3. A report that says nothing new is not written. (TestQuiet)
//  4. A time that is none, or is yet to come, scrubs nothing. (TestScrubAsked)
//  5. A member grant is taken only if a control key signed it, for this node. (TestMemberGrant)
//
// Concurrency: Run is a Runnable; Changed may be called from any goroutine.
package report

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/follow"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// Times of reports.
const (
	Debounce = 200 * time.Millisecond
	Figures  = 5 * time.Minute
	Moving   = 10 * time.Second // figures that people look at, as progress
	look     = time.Second      // at what tells of no change by itself, as the state of a disk
	retryMax = 30 * time.Second
	calm     = time.Second // between two reports

	formatPause = 10 * time.Second
)

// Stores are the node's stores; *stores.Set is it.
type Stores interface {
	Remember(path string, id block.StoreID) error
	Grant(id block.StoreID) error
}

// Options are what a Reporter works with.
type Options struct {
	API     follow.API
	Network string // name of the MyNetwork
	Node    string
	// Apply writes status.agent of a StorageNode.
	Apply func(ctx context.Context, name string, st *v1alpha1.AgentStatus) error
	// Collect says how the node is.
	Collect func() v1alpha1.AgentStatus
	Stores  Stores
	// Member takes a new member grant.
	Member func(ctx context.Context, encoded []byte) error
	// Scrub has all disks read that were not since then; it may be called again for the same time.
	Scrub func(since time.Time)
	Log   *slog.Logger
}

// Reporter reports about one node. The zero value is not usable: see New.
type Reporter struct {
	opt  Options
	wake chan struct{}

	mu      sync.Mutex
	object  *v1alpha1.StorageNode // as last heard; nil: never
	granted chan string           // ids to format
	member  string                // grant that was handed on
}

// New makes a reporter.
func New(o Options) *Reporter {
	return &Reporter{opt: o, wake: make(chan struct{}, 1), granted: make(chan string, 1)}
}

// Changed says that there may be something to report.
func (r *Reporter) Changed() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run reports until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	own := fields.SelectorFromSet(fields.Set{"spec.network": r.opt.Network, "spec.nodeName": r.opt.Node})
	f := &follow.Follower{API: r.opt.API, What: "the StorageNode of " + r.opt.Node, New: func() client.ObjectList { return &v1alpha1.StorageNodeList{} },
		Options: []client.ListOption{client.MatchingFieldsSelector{Selector: own}}, Log: r.opt.Log, Keep: func(o client.Object) bool {
			n, ok := o.(*v1alpha1.StorageNode)
			return ok && n.Spec.Network == r.opt.Network && n.Spec.NodeName == r.opt.Node
		}, Changed: func(set map[client.ObjectKey]client.Object) { r.heard(ctx, set) }}
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.Run(ctx) })
	wg.Go(func() { r.format(ctx) })
	r.report(ctx)
	wg.Wait()
	return nil
}

// heard takes what the StorageNode says.
func (r *Reporter) heard(ctx context.Context, set map[client.ObjectKey]client.Object) {
	var n *v1alpha1.StorageNode
	for _, o := range set {
		n = o.(*v1alpha1.StorageNode)
	}
	if n == nil {
		r.opt.Log.Info("there is no StorageNode of this node yet; the operator makes it")
		return
	}
	if former := n.Status.Agent; former != nil && r.present() == nil {
		for _, s := range former.Stores {
			id, ok := parseID(s.ID)
			if ok && s.State != v1alpha1.StoreNew {
				if err := r.opt.Stores.Remember(s.Path, id); err != nil {
					r.opt.Log.Error("what stores this node had can not be kept; nothing is reported or formatted", "err", err)
					return
				}
			}
		}
	}
	r.mu.Lock()
	r.object = n
	news := string(n.Status.MemberGrant) != r.member && len(n.Status.MemberGrant) > 0
	r.mu.Unlock()
	r.scrub(n)
	if news {
		if err := r.opt.Member(ctx, n.Status.MemberGrant); err != nil {
			r.opt.Log.Error("the grant to keep copies is not accepted", "err", err)
		} else {
			r.mu.Lock()
			r.member = string(n.Status.MemberGrant)
			r.mu.Unlock()
		}
	}
	if id := n.Status.FormatGrant; id != "" {
		select {
		case r.granted <- id:
		default: // one is under way, and the next look at the object comes with its report
		}
	}
	r.Changed()
}

// skew is how much later than here a time may be that somebody wrote.
const skew = time.Minute

// scrub hands on that somebody has asked for the disks to be read.
func (r *Reporter) scrub(n *v1alpha1.StorageNode) {
	text := n.Annotations[v1alpha1.AnnotationScrub]
	if text == "" {
		return
	}
	t, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil:
		r.opt.Log.Warn("the scrub that is asked for is not begun: write a time as date -u +%FT%TZ prints it", "annotation", v1alpha1.AnnotationScrub, "err", err)
	case time.Until(t) > skew:
		r.opt.Log.Warn("the scrub that is asked for is not begun: its time is yet to come", "annotation", v1alpha1.AnnotationScrub, "time", t)
	default:
		r.opt.Scrub(t)
	}
}

func (r *Reporter) present() *v1alpha1.StorageNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.object
}

// format formats what is granted.
func (r *Reporter) format(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case text := <-r.granted:
			id, ok := parseID(text)
			if !ok {
				continue
			}
			if err := r.opt.Stores.Grant(id); err != nil {
				r.opt.Log.Error("a store that was granted is not formatted yet", "store", text, "err", err)
				r.again(ctx, text)
			}
			r.Changed()
		}
	}
}

// again formats once more after a while, if it is still granted.
func (r *Reporter) again(ctx context.Context, id string) {
	r.Changed()
	if task.Pause(ctx, formatPause) && r.present().Status.FormatGrant == id {
		select {
		case r.granted <- id:
		default:
		}
	}
}

func parseID(s string) (block.StoreID, bool) {
	v, err := block.ParseVolumeID(s) // ids of volumes and stores are written alike
	return block.StoreID(v), err == nil && len(s) == 32
}

// report writes what changed.
func (r *Reporter) report(ctx context.Context) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	var sent *v1alpha1.AgentStatus
	var figures, moving time.Time // when the next may be written
	wait := time.Duration(0)
	for {
		urgent := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.wake:
			urgent = true
		}
		if urgent && !task.Pause(ctx, Debounce) { // what changes with it is one report
			return
		}
		n := r.present()
		if n == nil {
			continue
		}
		now := r.opt.Collect()
		due := time.Now().After(figures) || time.Now().After(moving) && moves(sent, &now)
		if !differs(sent, &now, n.Status.Agent, due) {
			continue
		}
		if err := r.write(ctx, n.Name, &now); err != nil {
			wait = min(max(2*wait, Debounce), retryMax)
			r.opt.Log.Info("the node's report is not written yet", "err", err)
			task.Pause(ctx, wait/2+rand.N(wait))
			continue
		}
		wait, sent = 0, &now
		figures, moving = time.Now().Add(Figures-rand.N(Figures/10)), time.Now().Add(Moving)
		task.Pause(ctx, calm)
	}
}

func (r *Reporter) write(ctx context.Context, name string, st *v1alpha1.AgentStatus) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return r.opt.Apply(ctx, name, st)
}

// moves tells whether figures have changed that tell of a progress: copies come or go, or a scrub has found something, or ended.
func moves(sent, now *v1alpha1.AgentStatus) bool {
	if sent == nil || now.MissingCopies != sent.MissingCopies || len(now.LeavingVolumes) > 0 && now.Copies != sent.Copies || len(now.Stores) != len(sent.Stores) {
		return true
	}
	for i := range now.Stores {
		a, b := &now.Stores[i], &sent.Stores[i]
		if a.ErrorsFound != b.ErrorsFound || a.ErrorsRepaired != b.ErrorsRepaired || a.LastScrubbed.Unix() != b.LastScrubbed.Unix() {
			return true
		}
	}
	return false
}

// differs tells whether a report has to be written: something changed since the last one, Kubernetes has another one, or the figures
// changed and may be written.
func differs(sent, now, there *v1alpha1.AgentStatus, figures bool) bool {
	if sent == nil || there == nil {
		return true
	}
	if !equal(sent.Facts(), now.Facts()) || !equal(there.Facts(), now.Facts()) {
		return true
	}
	return figures && !equal(sent, now)
}

// equal compares as Kubernetes keeps it: times in seconds, quantities by value, no difference between none and empty.
func equal(a, b *v1alpha1.AgentStatus) bool { return reflect.DeepEqual(canonical(a), canonical(b)) }

func canonical(st *v1alpha1.AgentStatus) *v1alpha1.AgentStatus {
	out := st.DeepCopy()
	out.CertificateEnds.Time = out.CertificateEnds.Time.UTC().Truncate(time.Second)
	if len(out.Unreachable) == 0 {
		out.Unreachable = nil
	}
	for _, list := range []*[]string{&out.Pressure, &out.LastVolumes, &out.LeavingVolumes, &out.UnplacedVolumes} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	if len(out.Lacks) == 0 {
		out.Lacks = nil
	}
	if len(out.Stores) == 0 {
		out.Stores = nil
	}
	for i := range out.Stores {
		if t := &out.Stores[i].LastScrubbed; !t.IsZero() {
			t.Time = t.UTC().Truncate(time.Second)
		}
		for _, q := range []**resource.Quantity{&out.Stores[i].Capacity, &out.Stores[i].Used, &out.Stores[i].Data} {
			if *q != nil {
				*q = resource.NewQuantity((*q).Value(), resource.BinarySI)
			}
		}
	}
	slices.SortFunc(out.Stores, func(a, b v1alpha1.StoreStatus) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
