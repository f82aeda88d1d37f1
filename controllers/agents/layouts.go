package agents

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// Limits of calls about layouts.
const (
	callTimeout  = 10 * time.Second // of one agent: a body has at most 64 MiB, and mostly less than 1
	storeTimeout = 2 * time.Minute  // of a majority: of 16,000 members, 16 at a time
	atOnce       = 16               // agents that are spoken to at a time
)

var _ mynetwork.LayoutBodies = (*Agents)(nil)

// Fetch implements mynetwork.LayoutBodies. What was stored or fetched last is remembered.
func (a *Agents) Fetch(ctx context.Context, n *v1alpha1.MyNetwork, hash [32]byte) ([]byte, error) {
	a.mu.Lock()
	b := a.bodies[string(n.UID)]
	a.mu.Unlock()
	if b.hash == hash && b.data != nil {
		return b.data, nil
	}
	l, err := a.open(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mynetwork.ErrNoBody, err)
	}
	var errs []error
	for part := range slices.Chunk(l.nodes(nil), atOnce) {
		data, failed := l.first(ctx, part, hash)
		if data != nil {
			a.remember(n, hash, data)
			return data, nil
		}
		errs = append(errs, failed...)
	}
	return nil, fmt.Errorf("%w: %w", mynetwork.ErrNoBody, errors.Join(errs[:min(len(errs), 3)]...))
}

// first asks some agents at once, and takes the first right answer.
func (l *line) first(ctx context.Context, nodes []string, hash [32]byte) ([]byte, []error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	type answer struct {
		data []byte
		err  error
	}
	answers := make(chan answer, len(nodes))
	for _, node := range nodes {
		go func() {
			var data []byte
			err := l.call(node, func(c agentv1.AgentClient) error {
				r, err := c.GetLayout(ctx, &agentv1.GetLayoutRequest{Hash: hash[:]})
				if err != nil {
					return err
				}
				if got, err := placement.Decode(r.Body); err != nil || [32]byte(got.Hash()) != hash {
					return fmt.Errorf("what it gives is not layout %x: %w", hash[:6], errors.Join(mynetwork.ErrNoBody, err))
				}
				data = r.Body
				return nil
			})
			answers <- answer{data, err}
		}()
	}
	var errs []error
	for range nodes {
		if r := <-answers; r.err == nil {
			return r.data, nil
		} else {
			errs = append(errs, r.err)
		}
	}
	return nil, errs
}

// Store implements mynetwork.LayoutBodies. Agents outside of the layout get it from others.
func (a *Agents) Store(ctx context.Context, n *v1alpha1.MyNetwork, layout *placement.Layout) error {
	data, err := layout.AppendBinary(nil)
	if err != nil {
		return err
	}
	l, err := a.open(ctx, n)
	if err != nil {
		return err
	}
	var members []string
	for _, m := range layout.Members() {
		if m.State != placement.Down {
			members = append(members, m.ID)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	answers := make(chan error, len(members))
	slots := make(chan struct{}, atOnce)
	for _, node := range members {
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			answers <- l.call(node, func(c agentv1.AgentClient) error {
				_, err := c.PutLayout(ctx, &agentv1.PutLayoutRequest{Body: data})
				return err
			})
		}()
	}
	have, need := 0, len(members)/2+1
	var errs []error
	for range members {
		if err := <-answers; err != nil {
			errs = append(errs, err)
		} else if have++; have == need {
			a.remember(n, [32]byte(layout.Hash()), data)
			return nil
		}
	}
	return fmt.Errorf("%d of %d members have it, %d are needed: %w", have, len(members), need, errors.Join(errs[:min(len(errs), 3)]...))
}

func (a *Agents) remember(n *v1alpha1.MyNetwork, hash [32]byte, data []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bodies == nil {
		a.bodies = map[string]body{}
	}
	a.bodies[string(n.UID)] = body{hash, data}
}
