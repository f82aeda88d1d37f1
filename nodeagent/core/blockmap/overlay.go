package blockmap

import (
	"cmp"
	"slices"
	"sort"
)

// Overlay is the edits since the last merge, in memory: a page known here overrides the map. Later calls win. The zero
// value is ready for use, with a known hash; NewOverlay takes a secret seed so that a guest cannot aim at collisions.
//
// Puts are in an open-addressing table of 16 bytes a slot, at most three quarters full; discards are disjoint intervals
// below it. A page in both is the put's: Discard takes the puts it covers out of the table.
type Overlay struct {
	seed  uint64
	drop  func(Addr)
	slots []slot // power of two, linear probing
	n     int    // slots in use
	holes []interval
}

type slot struct {
	key  uint64 // page + 1, 0 = free
	addr Addr
}

type interval struct{ from, to uint64 }

// NewOverlay makes an empty overlay. drop, which may be nil, is told each address that a later call took out before any
// merge saw it.
func NewOverlay(seed uint64, drop func(Addr)) *Overlay { return &Overlay{seed: seed, drop: drop} }

const minSlots = 64

// home is the slot at which the search for key begins: a finalizer after splitmix64, keyed by the seed. Four
// neighbouring keys share a cache line.
func (o *Overlay) home(key uint64) int {
	x := (key>>2 ^ o.seed) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>31) * 0x94d049bb133111eb
	return int(((x^x>>32)<<2 | key&3) & uint64(len(o.slots)-1))
}

// find is the slot of key, or the free one where it belongs. The table is not empty.
func (o *Overlay) find(key uint64) int {
	i := o.home(key)
	for o.slots[i].key != key && o.slots[i].key != 0 {
		i = (i + 1) & (len(o.slots) - 1)
	}
	return i
}

// Put maps the pages [page, page+n) to consecutive addresses from addr, which is not a hole and all in one block. It
// allocates only when the table grows.
func (o *Overlay) Put(page, n uint64, addr Addr) {
	for i := range n {
		o.put(page+i+1, addr+Addr(i))
	}
}

func (o *Overlay) put(key uint64, addr Addr) {
	if (o.n+1)*4 > len(o.slots)*3 {
		o.grow()
	}
	s := &o.slots[o.find(key)]
	if s.key == 0 {
		o.n++
	} else if s.addr != addr {
		o.dropped(s.addr)
	}
	*s = slot{key, addr}
}

func (o *Overlay) grow() {
	old := o.slots
	o.slots = make([]slot, max(minSlots, 2*len(old)))
	for _, s := range old {
		if s.key != 0 {
			o.slots[o.find(s.key)] = s
		}
	}
}

func (o *Overlay) dropped(a Addr) {
	if o.drop != nil {
		o.drop(a)
	}
}

// Discard makes [page, page+n) holes. Its cost is that of the smaller of n and the table, whatever the range.
func (o *Overlay) Discard(page, n uint64) {
	end := page + n
	if end < page {
		end = ^uint64(0)
	}
	if end == page {
		return
	}
	if o.n > 0 {
		o.remove(page, end)
	}
	lo := len(o.holes)
	if lo > 0 && o.holes[lo-1].to >= page {
		lo = sort.Search(len(o.holes), func(i int) bool { return o.holes[i].to >= page })
	}
	hi := lo
	for hi < len(o.holes) && o.holes[hi].from <= end {
		hi++
	}
	if lo < hi {
		page, end = min(page, o.holes[lo].from), max(end, o.holes[hi-1].to)
	}
	o.holes = slices.Replace(o.holes, lo, hi, interval{page, end})
}

// remove takes the puts of [page, end) out of the table.
func (o *Overlay) remove(page, end uint64) {
	if end-page <= uint64(len(o.slots)) {
		for p := page; p < end; p++ {
			if i := o.find(p + 1); o.slots[i].key != 0 {
				o.free(i)
			}
		}
		return
	}
	for i := 0; i < len(o.slots); {
		if k := o.slots[i].key; k > page && k <= end {
			o.free(i) // another may take its place: look again
		} else {
			i++
		}
	}
}

// free empties slot i and closes the gap, so that no search ends too early.
func (o *Overlay) free(i int) {
	o.dropped(o.slots[i].addr)
	o.n--
	mask := len(o.slots) - 1
	for j := (i + 1) & mask; o.slots[j].key != 0; j = (j + 1) & mask {
		if (j-o.home(o.slots[j].key))&mask >= (j-i)&mask {
			o.slots[i] = o.slots[j]
			i = j
		}
	}
	o.slots[i] = slot{}
}

// Lookup is what the overlay knows of a page: an address, or 0 for a discarded one.
func (o *Overlay) Lookup(page uint64) (a Addr, known bool) {
	if o.n > 0 {
		if s := &o.slots[o.find(page+1)]; s.key != 0 {
			return s.addr, true
		}
	}
	return 0, o.hole(page)
}

func (o *Overlay) hole(page uint64) bool {
	if len(o.holes) == 0 {
		return false
	}
	i := o.after(page)
	return i < len(o.holes) && o.holes[i].from <= page
}

// after is the first interval that ends after page.
func (o *Overlay) after(page uint64) int {
	return sort.Search(len(o.holes), func(i int) bool { return o.holes[i].to > page })
}

// LookupRange sets out[i], for each page first+i that the overlay knows, and known[i] if known is not nil; it leaves the
// others alone. It returns how many it knows. So it may run before the map's LookupRange, to see whether that is
// needed, or after it, to override it. It allocates nothing.
func (o *Overlay) LookupRange(first uint64, out []Addr, known []bool) (n int) {
	if o.n == 0 && len(o.holes) == 0 {
		return 0
	}
	h := o.after(first)
	for i := range out {
		page := first + uint64(i)
		for h < len(o.holes) && o.holes[h].to <= page {
			h++
		}
		a, ok := Addr(0), h < len(o.holes) && o.holes[h].from <= page
		if o.n > 0 {
			if s := &o.slots[o.find(page+1)]; s.key != 0 {
				a, ok = s.addr, true
			}
		}
		if ok {
			out[i] = a
			n++
			if known != nil {
				known[i] = true
			}
		}
	}
	return n
}

// Len is the number of edits: pages put and ranges discarded.
func (o *Overlay) Len() int { return o.n + len(o.holes) }

// Bytes is the memory in use.
func (o *Overlay) Bytes() int { return 16 * (len(o.slots) + cap(o.holes)) }

// Reset empties the overlay and keeps its memory. No address is dropped.
func (o *Overlay) Reset() {
	clear(o.slots)
	o.n, o.holes = 0, o.holes[:0]
}

// Release empties the overlay and gives its memory back. No address is dropped.
func (o *Overlay) Release() { o.slots, o.n, o.holes = nil, 0, nil }

// Sorted gives the edits in page order, runs merged. It is a copy: the overlay may change or be reset meanwhile. The
// sorting itself waits for the first call of Next, so that a lock need not be held for it.
func (o *Overlay) Sorted() Edits {
	it := &sorted{puts: make([]slot, 0, o.n), holes: slices.Clone(o.holes)}
	for _, s := range o.slots {
		if s.key != 0 {
			it.puts = append(it.puts, slot{s.key - 1, s.addr})
		}
	}
	return it
}

type sorted struct {
	ready bool   // puts are in order
	puts  []slot // key is the page; what is left
	holes []interval
}

// Next implements Edits.
func (s *sorted) Next() (e Edit, ok bool) {
	if !s.ready {
		slices.SortFunc(s.puts, func(a, b slot) int { return cmp.Compare(a.key, b.key) })
		s.ready = true
	}
	if len(s.holes) > 0 && (len(s.puts) == 0 || s.holes[0].from < s.puts[0].key) {
		h := &s.holes[0]
		e = Edit{Page: h.from, Count: h.to - h.from}
		if len(s.puts) > 0 {
			e.Count = min(e.Count, s.puts[0].key-h.from)
		}
	} else if len(s.puts) > 0 {
		e = Edit{Page: s.puts[0].key, Count: 1, Addr: s.puts[0].addr}
		for e.Count < uint64(len(s.puts)) && s.puts[e.Count] == (slot{e.Page + e.Count, e.Addr + Addr(e.Count)}) {
			e.Count++
		}
		s.puts = s.puts[e.Count:]
	} else {
		return e, false
	}
	for end := e.Page + e.Count; len(s.holes) > 0 && s.holes[0].from < end; s.holes = s.holes[1:] {
		if s.holes[0].to > end {
			s.holes[0].from = end
			break
		}
	}
	return e, true
}
