package agent

import (
	"context"
	"fmt"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/caretaker"
	"mynetwork.io/mynetwork/nodeagent/agent/scrub"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// startKeeping makes what looks after data that nobody uses.
func (a *Agent) startKeeping(client *replica.Client) {
	c := &a.cfg
	if c.ScrubPeriod > 0 {
		a.scrubber = scrub.New(scrub.Options{Stores: a.stores.All, Placer: a.members, Client: client, Period: c.ScrubPeriod, Limit: c.ScrubLimit,
			Events: a.events, Log: c.Log})
	}
	opt := caretaker.Options{Node: c.Node, Members: a.members, Client: client, Registry: a.registry, Say: a.say, Changed: a.tell,
		Grace: c.Grace, GiveUp: a.kube == nil, Stages: a.stages, Every: c.Survey, Quiet: c.Quiet, Idle: time.Duration(c.Adaptive.FallAfter) * time.Second, Events: a.events, Log: c.Log}
	if !c.NoCaretaker {
		opt.Tender = tender{a}
	}
	a.caretaker = caretaker.New(opt)
}

// tender opens volumes by the agent's manager, which is made later.
type tender struct{ a *Agent }

// Tend implements caretaker.Tender.
func (t tender) Tend(ctx context.Context, v block.VolumeID, seen string, work func(ctx context.Context, e *volume.Engine) error) error {
	return t.a.volumes.Tend(ctx, v, seen, work)
}

// say brings a warden's word to a node.
func (a *Agent) say(ctx context.Context, node string, word []byte) error {
	ctx, cancel := context.WithTimeout(ctx, replica.Timeout)
	defer cancel()
	conn, err := a.pool.Get(ctx, node, peer.Small)
	if err != nil {
		return err
	}
	resp, err := conn.Call(ctx, caretaker.TypeWord, word)
	if err != nil {
		return err
	}
	defer resp.Release()
	if resp.Status != replica.StatusOK {
		return fmt.Errorf("node %s: %w", node, replica.ErrorOf(resp.Status, resp.Body))
	}
	return nil
}

// hear takes a warden's word.
func (a *Agent) hear(from string, req *peer.Request) {
	defer req.Release()
	if err := a.caretaker.Heard(from, req.Body); err != nil {
		req.Reply(replica.StatusBad, []byte(err.Error()))
		return
	}
	req.Reply(replica.StatusOK)
}
