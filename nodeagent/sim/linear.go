package sim

import (
	"time"

	"github.com/anishathalye/porcupine"
)

type pageInput struct {
	write bool
	v     uint64
}

// register is one page: a register of values.
func register(initial uint64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return initial },
		Step: func(state, input, output any) (bool, any) {
			in := input.(pageInput)
			if in.write {
				return true, in.v
			}
			return in.v == state.(uint64), state
		},
		Equal: func(a, b any) bool { return a == b },
	}
}

// linearize checks each page of each reign by itself.
func (w *World) linearize() {
	for _, v := range w.vols {
		for _, r := range v.all {
			if r.adminned() {
				continue
			}
			if p := r.linearizable(w.s.now); p >= 0 {
				w.violate(2, "v%d.%d page %d: porcupine finds no order", v.spec.ID[0], r.n, p)
				return
			}
		}
	}
}

// adminned tells whether something other than requests changed the content during the reign.
func (r *reign) adminned() bool {
	for i := r.base; i < len(r.log); i++ {
		if k := r.log[i].kind; k == entryContent {
			return true
		}
	}
	return r.cutBack
}

// linearizable gives the first page whose history is not linearizable, or -1.
func (r *reign) linearizable(now time.Duration) int {
	for i, c := range r.clients {
		if c.pending != nil { // never answered
			r.ops = append(r.ops, record(i, c.pending, -1))
		}
	}
	byPage := make(map[int][]porcupine.Operation)
	pages := 0
	for _, o := range r.ops {
		ret := int64(o.ret)
		if o.ret < 0 {
			ret = int64(now) + int64(time.Hour)
		}
		for i, v := range o.values {
			p := o.page + i
			pages = max(pages, p+1)
			byPage[p] = append(byPage[p], porcupine.Operation{ClientId: o.client, Input: pageInput{o.write, v}, Call: int64(o.call), Return: ret})
		}
	}
	first := stateAt(r.log, r.base)
	for p := range pages {
		var initial uint64
		if p < len(first) {
			initial = first[p]
		}
		if ops := byPage[p]; len(ops) > 1 && !porcupine.CheckOperations(register(initial), ops) {
			return p
		}
	}
	return -1
}

func record(i int, p *pending, ret time.Duration) opRecord {
	values := make([]uint64, p.e.n)
	if p.e.kind == entryWrite {
		for j := range values {
			values[j] = p.e.first + uint64(j)
		}
	}
	return opRecord{client: i, write: true, page: p.e.page, values: values, call: p.call, ret: ret}
}
