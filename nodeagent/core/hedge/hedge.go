package hedge

import (
	"math/bits"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Rules say when a read is sent to another replica. Times are in nanoseconds.
type Rules struct {
	Factor  int64   // of what nineteen reads of twenty take
	Floor   int64   // no read is late before it
	Ceiling int64   // each is late after it
	Share   float64 // of reads that may be sent twice
	Rate    float64 // and so many a second beside that, for who waits for nothing else
	Burst   float64 // most that may gather
	Probe   int64   // time between reads of a replica that others are preferred to
	Lead    int     // octaves by which the own replica may be slower than others and is asked first
}

// Default are the rules of an engine.
func Default() Rules {
	return Rules{Factor: 3, Floor: 2e6, Ceiling: 100e6, Share: 0.05, Rate: 10, Burst: 64, Probe: 1e9, Lead: 2}
}

const (
	steps    = 2                    // buckets of an octave
	least    = 14                   // log2 of the shortest time that is told apart, 16 µs
	buckets  = (34 - least) * steps // up to 17 s
	enough   = 16                   // reads that tell what is usual
	memory   = 512                  // reads after which all count half
	ordinary = 64 << 10             // bytes; larger reads are judged apart
	still    = (64 - least) * steps // rank of a replica that stands still
)

// times is how long reads took, by half octaves.
type times struct {
	n   uint32
	in  [buckets]uint32
	mid int64 // half of them took at most so long
	top int64 // nineteen of twenty did
}

func bucketOf(d int64) int {
	octave := bits.Len64(uint64(max(d, 1))) - 1
	if octave < least {
		return 0
	}
	return min((octave-least)*steps+int(d>>(octave-1)&1), buckets-1)
}

// upper is the longest time of a bucket.
func upper(b int) int64 {
	octave := int64(1) << (least + b/steps)
	return octave + octave/steps*int64(b%steps+1)
}

func (t *times) add(d int64) {
	t.in[bucketOf(d)]++
	if t.n++; t.n >= memory {
		t.n = 0
		for i := range t.in {
			t.in[i] /= 2
			t.n += t.in[i]
		}
	}
	t.mid, t.top = t.upTo(t.n/2), t.upTo(t.n-t.n/20)
}

// upTo is how long the n shortest took at most.
func (t *times) upTo(n uint32) int64 {
	sum := uint32(0)
	for i, c := range t.in {
		if sum += c; sum >= max(n, 1) {
			return upper(i)
		}
	}
	return upper(buckets - 1)
}

// replica is what is known of one.
type replica struct {
	small, large times
	asked        int   // reads that it has not answered
	quiet        int64 // when it last answered, or was first asked since it owed nothing
	tried        int64 // when it was last asked
}

func (r *replica) of(bytes int) *times {
	if bytes > ordinary {
		return &r.large
	}
	return &r.small
}

// State is what an engine knows of the replicas that it reads from. The zero value is not usable: see New.
type State struct {
	rules  Rules
	known  map[block.StoreID]*replica
	tokens float64
	filled int64
}

// New makes a State that knows nothing.
func New(r Rules) *State {
	return &State{rules: r, known: map[block.StoreID]*replica{}, tokens: r.Burst}
}

func (s *State) of(id block.StoreID) *replica {
	r := s.known[id]
	if r == nil {
		r = &replica{}
		s.known[id] = r
	}
	return r
}

// Asked is called when a replica is asked for so many bytes; End follows, however late. It tells after how long the read is late.
func (s *State) Asked(now int64, id block.StoreID, bytes int) (patience int64) {
	r := s.of(id)
	if r.asked++; r.asked == 1 {
		r.quiet = now
	}
	r.tried = now
	return s.patience(r, bytes)
}

func (s *State) patience(r *replica, bytes int) int64 {
	t := r.of(bytes)
	if t.n < enough {
		return s.rules.Ceiling
	}
	return min(max(s.rules.Factor*t.top, s.rules.Floor), s.rules.Ceiling)
}

// Ended is called when a replica has answered what it was asked for at began, or never will (right false): that tells nothing of its times.
func (s *State) Ended(now int64, id block.StoreID, bytes int, began int64, right bool) {
	r := s.of(id)
	r.asked--
	r.quiet = now
	if right {
		r.of(bytes).add(now - began)
	}
}

// Read counts a read, of which a share is what may be sent twice.
func (s *State) Read() { s.tokens = min(s.tokens+s.rules.Share, s.rules.Burst) }

// Hedge tells whether a late read may be sent to another replica, and counts it.
func (s *State) Hedge(now int64) bool {
	s.tokens = min(s.tokens+s.rules.Rate*float64(now-s.filled)/1e9, s.rules.Burst)
	s.filled = now
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	return true
}

// Rank is by how much others are preferred to a replica; 0: by nothing. own is the replica of this process.
func (s *State) Rank(now int64, id block.StoreID, own bool) int {
	r := s.known[id]
	if r == nil || now-r.tried >= s.rules.Probe {
		return 0
	}
	if r.asked > 0 && now-r.quiet > s.patience(r, 0) {
		return still
	}
	rank := 0
	if r.small.n >= enough {
		rank = max((bucketOf(r.small.mid)-bucketOf(s.rules.Floor))/steps, 0)
	}
	if own {
		rank = max(rank-s.rules.Lead, 0)
	}
	return rank
}
