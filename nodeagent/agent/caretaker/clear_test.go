package caretaker

import (
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/registry"
)

// TestSpare: a copy is given up only by a volume that has bounds and more than it needs, and that is as it was seen.
func TestSpare(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *registry.Record)
		want   bool
	}{
		"more than the least": {func(*registry.Record) {}, true},
		"the least":           {func(r *registry.Record) { r.Replicas = 3 }, false},
		"no bounds":           {func(r *registry.Record) { r.Adaptive = registry.Adaptive{} }, false},
		"equal bounds":        {func(r *registry.Record) { r.Adaptive = registry.Adaptive{Least: 4, Most: 4} }, false},
		"not safe":            {func(r *registry.Record) { r.Replicas, r.Adaptive.Least = 3, 1 }, false},
		"weak":                {func(r *registry.Record) { r.Replicas, r.Adaptive.Least, r.Weak = 3, 1, true }, true},
		"weak, not safe":      {func(r *registry.Record) { r.Replicas, r.Adaptive.Least, r.Weak = 2, 1, true }, false},
		"taken since":         {func(r *registry.Record) { r.Fact.Revision = "8" }, false},
		"encrypted":           {func(r *registry.Record) { r.Encrypted = true }, false},
		"sealed":              {func(r *registry.Record) { r.Snapshots = []registry.Snapshot{{Name: registry.SealName}} }, false},
		"deleted":             {func(r *registry.Record) { r.Deletion = &registry.Deletion{} }, false},
	} {
		r := registry.Record{Replicas: 4, Adaptive: registry.Adaptive{Least: 3, Most: 5}}
		r.Fact.Revision = "7"
		c.change(&r)
		if spare(&r, "7") != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}

// TestOn: only stores in the stage that have copies count, and a volume is opened for each stage once in a while.
func TestOn(t *testing.T) {
	w := &ward{}
	stages := map[block.StoreID]clearing.Stage{{1}: clearing.Unreferenced, {2}: clearing.Surplus, {3}: clearing.Unreferenced, {4}: clearing.Unreferenced}
	if w.on(stages, clearing.Unreferenced) != nil {
		t.Error("a volume that was not looked at has copies")
	}
	w.verdict = &Verdict{Stores: map[block.StoreID]*Share{{4}: {Copies: 1}, {1}: {Copies: 2}, {2}: {Copies: 1}, {3}: {Missing: 1}}}
	if got := w.on(stages, clearing.Unreferenced); len(got) != 2 || got[0] != (block.StoreID{1}) || got[1] != (block.StoreID{4}) {
		t.Errorf("%v", got)
	}
	now := time.Now()
	stage, on := w.errand(stages, now)
	w.done[stage] = now
	next, more := w.errand(stages, now.Add(errandPause-1))
	again, _ := w.errand(stages, now.Add(errandPause))
	if stage != clearing.Unreferenced || len(on) != 2 || next != clearing.Surplus || len(more) != 1 || again != clearing.Unreferenced {
		t.Errorf("%v %v, then %v %v, then %v", stage, on, next, more, again)
	}
}
