package fsck

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// Deleted asks a store for the deletion record that it keeps of a volume; nil if it keeps none.
type Deleted func(ctx context.Context, s block.StoreID, v block.VolumeID) ([]byte, error)

// Options are what a Checker works with.
type Options struct {
	Network   string
	Keys      []ed25519.PublicKey // the control keys
	Registry  registry.Store
	Members   *members.Table
	Transport replica.Transport
	Grants    volumes.Granter
	Stores    *stores.Set
	Deleted   Deleted
}

// Checker checks. The zero value is not usable: see New.
type Checker struct {
	opt    Options
	client *replica.Client
}

// New makes a checker.
func New(o Options) *Checker {
	return &Checker{opt: o, client: &replica.Client{Env: task.NewReal(), Transport: o.Transport}}
}

// Kinds of findings.
const (
	kindRegistry  = "registry"
	kindChain     = "chain"
	kindReplicas  = "replicas"
	kindLog       = "log"
	kindLeaf      = "leaf"
	kindTable     = "table"
	kindBlock     = "block"
	kindMap       = "map"
	kindReference = "reference"
)

// report gathers progress and hands it on now and then.
type report struct {
	ctx   context.Context
	send  func(*agentv1.Progress) error
	p     agentv1.Progress
	start time.Time
	last  time.Time
}

const (
	sendEvery    = 200 * time.Millisecond
	sendFindings = 100
)

func newReport(ctx context.Context, send func(*agentv1.Progress) error) *report {
	now := time.Now()
	return &report{ctx: ctx, send: send, start: now, last: now}
}

// stage names what is checked from now on.
func (r *report) stage(stage, volume string) error {
	r.p.Stage, r.p.Volume = stage, volume
	return r.step(0)
}

// step counts bytes that were checked.
func (r *report) step(bytes int64) error {
	r.p.Bytes += bytes
	r.p.Total = max(r.p.Total, r.p.Bytes)
	if len(r.p.Findings) < sendFindings && time.Since(r.last) < sendEvery {
		return r.ctx.Err()
	}
	return r.flush()
}

func (r *report) flush() error {
	r.last = time.Now()
	if s := r.last.Sub(r.start).Seconds(); s > 0 {
		r.p.Rate = float64(r.p.Bytes) / s
	}
	out := &agentv1.Progress{Stage: r.p.Stage, Volume: r.p.Volume, Bytes: r.p.Bytes, Total: r.p.Total, Rate: r.p.Rate,
		Errors: r.p.Errors, Repaired: r.p.Repaired, Findings: r.p.Findings, Done: r.p.Done}
	r.p.Findings = nil
	return errors.Join(r.ctx.Err(), r.send(out))
}

// add notes a finding.
func (r *report) add(f *agentv1.Finding) {
	r.p.Errors++
	if f.Repaired {
		r.p.Repaired++
	}
	r.p.Findings = append(r.p.Findings, f)
}

// done sends the last message.
func (r *report) done() error {
	r.p.Done = true
	return r.flush()
}

// finding makes a finding about a volume.
func finding(kind string, v block.VolumeID, format string, args ...any) *agentv1.Finding {
	return &agentv1.Finding{Kind: kind, Volume: v.String(), Problem: fmt.Sprintf(format, args...)}
}

// Fsck implements control.Checker.
func (c *Checker) Fsck(ctx context.Context, req *agentv1.FsckRequest, send func(*agentv1.Progress) error) error {
	if err := c.opt.Members.Ready(ctx); err != nil {
		return err
	}
	r := newReport(ctx, send)
	records, err := c.select_(req.Volumes, r)
	if err != nil {
		return err
	}
	for _, n := range c.opt.Members.States() {
		if !n.Alive {
			r.add(&agentv1.Finding{Kind: kindReplicas, Node: n.Name, Problem: "node does not answer: what it holds is not checked"})
		}
	}
	for _, rec := range records {
		if err := c.fsckVolume(ctx, &rec, req.Quick, r); err != nil {
			return err
		}
	}
	return r.done()
}

// select_ gives the records of the named volumes, or of all live ones; entries that cannot be read are findings.
func (c *Checker) select_(names []string, r *report) (out []registry.Record, err error) {
	for _, n := range names {
		rec, err := registry.Find(c.opt.Registry, n)
		if err != nil {
			return nil, err
		}
		out = append(out, rec)
	}
	if len(names) > 0 {
		return out, nil
	}
	all, err := c.opt.Registry.List()
	if err != nil {
		r.add(&agentv1.Finding{Kind: kindRegistry, Problem: err.Error()})
	}
	for _, rec := range all {
		if rec.Live() {
			out = append(out, rec)
		}
	}
	return out, nil
}

// attempts is how often a volume is walked before what is wrong counts, as its writer may move things meanwhile. What is wrong stays so; what was
// freed or moved under one walk is not what is freed or moved under the next.
const attempts = 3

// fault is what two findings of the same fault have in common.
type fault struct {
	kind, store, extent, problem string
	offset                       int64
}

func faultOf(f *agentv1.Finding) fault { return fault{f.Kind, f.Store, f.Extent, f.Problem, f.Offset} }

// still gives the findings of a walk that the one before had as well.
func still(before, now []*agentv1.Finding) (out []*agentv1.Finding) {
	had := make(map[fault]bool, len(before))
	for _, f := range before {
		had[faultOf(f)] = true
	}
	for _, f := range now {
		if had[faultOf(f)] {
			out = append(out, f)
		}
	}
	return out
}

func (c *Checker) fsckVolume(ctx context.Context, rec *registry.Record, quick bool, r *report) error {
	if rec.Fact.Anchor.Extent.IsZero() {
		return r.stage("never opened", rec.Name)
	}
	var found []*agentv1.Finding
	for i := 0; i == 0 || len(found) > 0 && i < attempts; i++ {
		if err := r.stage("chain and map", rec.Name); err != nil {
			return err
		}
		anchor := rec.Fact.Anchor.Extent
		if now, err := c.opt.Registry.Load(rec.ID); err == nil { // its writer moves it, and frees what lay before
			anchor = now.Anchor.Extent
		}
		w, err := c.look(ctx, rec.ID, anchor)
		if err != nil {
			return err
		}
		w.report = r
		now, err := w.walk(rec.Replicas)
		if err != nil {
			return err
		}
		if i > 0 {
			now = still(found, now)
		}
		found = now
	}
	for _, f := range found {
		r.add(f)
	}
	if quick {
		return nil
	}
	return c.scrubVolume(ctx, rec, false, r)
}
