package plugin

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// readyPoll is how often it is looked whether a network's agent has come or gone, which the kubelet has to be told.
const readyPoll = 3 * time.Second

// patience is how many looks in a row must miss an agent before the kubelet is told that it is gone: one that is started anew, or is slow on a
// busy node, does not take the node's label away, on which pods are scheduled.
const patience = 10

// teller is a node's part, which tells the kubelet on which networks' agents it can count.
type teller interface {
	Ready(ctx context.Context) ([]string, error)
	Told() ([]string, bool)
}

// readiness judges when the kubelet has to be told anew.
type readiness struct {
	missed map[string]int // looks in a row that missed a network which was told
}

// look compares what the kubelet was told with what is so, and says whether it has to be told.
func (r *readiness) look(told, ready []string) bool {
	again := false
	missed := map[string]int{}
	for _, n := range told {
		if slices.Contains(ready, n) {
			continue
		}
		missed[n] = r.missed[n] + 1
		again = again || missed[n] >= patience
	}
	for _, n := range ready {
		again = again || !slices.Contains(told, n)
	}
	r.missed = missed
	return again
}

// watchReady registers anew when what the kubelet was told of networks' agents is not so: the node's labels then change.
func watchReady(ctx context.Context, d teller, again chan<- struct{}, every time.Duration, log *slog.Logger) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var r readiness
	for {
		brief, cancel := context.WithTimeout(ctx, readyPoll)
		now, err := d.Ready(brief)
		cancel()
		if told, ok := d.Told(); ok && err == nil && r.look(told, now) {
			log.Info("other agents are ready on this node than the kubelet was told", "networks", now, "told", told)
			select {
			case again <- struct{}{}:
			case <-ctx.Done():
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
