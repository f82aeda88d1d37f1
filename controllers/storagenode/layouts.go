package storagenode

import (
	"context"
	"sync"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// layouts remembers the layout of each network that was decoded last: of many nodes it is megabytes. The zero value has none.
type layouts struct {
	mu    sync.Mutex
	known map[string]decoded // by network
}

type decoded struct {
	hash   string
	layout *placement.Layout
}

// present is the present layout of a network; nil: there is none, or it can not be had now. The next round asks again.
func (l *layouts) present(ctx context.Context, bodies Bodies, n *v1alpha1.MyNetwork) *placement.Layout {
	if n == nil || n.Status.Layout == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.known[n.Name]; ok && d.hash == n.Status.Layout.Hash {
		return d.layout
	}
	layout, err := mynetwork.PresentLayout(ctx, bodies, n)
	if err != nil {
		return nil
	}
	if l.known == nil {
		l.known = map[string]decoded{}
	}
	l.known[n.Name] = decoded{n.Status.Layout.Hash, layout}
	return layout
}
