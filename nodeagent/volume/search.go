package volume

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// A registry that was restored from an old copy may name an anchor that cleaning has freed since. The journal's end is
// then looked for from the other side, in what the stores hold (invariant R12 of core/replication):
//
// The extent that was opened last, by its writer's epoch, session and sequence, is the journal's end, or was opened in vain
// behind it: each writer has brought what it found at a majority under its own epoch before it opened anything. Its open
// record names the extent of a checkpoint that was durable then, so that one is part of the journal. From it on, or from
// the first extent whose predecessor was freed (only what lies before the anchor is), the chain leads to the end.
//
// An extent of the journal is open at a quorum. So it shows in every survey to which all stores of the layout answer, as
// long as no more disks than a FLUSH survives are lost. One that any store has freed after it was closed there is past: what
// follows it was durable, and is part of the journal. Of one that members only may have freed, more than R-W must say so, unless
// a whole copy of it is somewhere: that one leads on. Whole is one that ends as the open record behind it says; a store that was
// away may keep one that an earlier writer closed in vain.

// survey is what the stores of the network hold of the volume.
type survey struct {
	e        *Engine
	v        block.VolumeID
	held     map[block.ExtentID][]block.StoreID
	answered map[block.StoreID]bool
	lack     map[block.StoreID]bool // have said before that they may have freed the extent that is looked for
	past     map[block.ExtentID]bool
	silent   []block.StoreID // stores of the layout that did not answer
}

// surveyStores asks the stores of the layout, and those given, what they hold of a volume.
func (e *Engine) surveyStores(v block.VolumeID, more []block.StoreID) *survey {
	s := &survey{e: e, v: v, held: make(map[block.ExtentID][]block.StoreID), answered: make(map[block.StoreID]bool), lack: make(map[block.StoreID]bool),
		past: make(map[block.ExtentID]bool)}
	layout := e.Placer.Candidates(block.ExtentID{Volume: v}.Key())
	stores := slices.Clone(layout)
	for _, m := range more {
		if !slices.Contains(stores, m) {
			stores = append(stores, m)
		}
	}
	var mu sync.Mutex
	e.each(stores, func(id block.StoreID) {
		if !e.Placer.Alive(id) {
			return // asking would take long, and is done again
		}
		list, err := e.Client.Holdings(id, v)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		s.answered[id] = true
		for _, h := range list {
			s.held[h.Extent] = append(s.held[h.Extent], id)
		}
	}, nil)
	for _, id := range layout {
		if !s.answered[id] {
			s.silent = append(s.silent, id)
		}
	}
	return s
}

// extents lists what is held, in order, so that a run in the simulator can be repeated.
func (s *survey) extents() []block.ExtentID {
	return slices.SortedFunc(maps.Keys(s.held), func(a, b block.ExtentID) int { return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.N, b.N)) })
}

// openBytes is more than an open record has.
const openBytes = 8 << 10

// first reads the open record of an extent from a store that holds it.
func (s *survey) first(x block.ExtentID) (r journal.Record, open journal.Open, err error) {
	err = fmt.Errorf("extent %s: %w", x, replica.ErrNotHeld)
	for _, id := range s.held[x] {
		var st replica.State
		if st, err = s.e.Client.Stat(id, x); err != nil {
			continue
		}
		if st.Chain.LogLen == 0 {
			err = fmt.Errorf("extent %s on store %s has no open record: %w", x, id, journal.ErrShort)
			continue
		}
		log := make([]byte, min(st.Chain.LogLen, openBytes))
		if err = s.e.readStream(id, replica.TypeReadLog, x, 0, log); err != nil {
			continue
		}
		if r, _, err = journal.Parse(log); err != nil {
			continue
		}
		if err = s.e.authentic(x.Volume, log[:r.Size()]); err != nil {
			continue // nobody with the volume's key opened it
		}
		if open, err = journal.DecodeOpen(r.Body); err == nil && open.Extent == x {
			return r, open, nil
		}
	}
	return r, open, err
}

// newest is the extent that was opened last of those that can be read.
func (s *survey) newest() (x block.ExtentID, ok bool) {
	var number uint64
	ids := s.extents()
	for _, id := range ids {
		number = max(number, id.Epoch)
	}
	var last journal.Record
	for number > 0 && !ok {
		var next uint64
		for _, id := range ids {
			if id.Epoch < number {
				next = max(next, id.Epoch)
			}
			if id.Epoch != number {
				continue
			}
			if r, _, err := s.first(id); err == nil && (!ok || opened(&last, &r) || (!opened(&r, &last) && x.N < id.N)) {
				x, last, ok = id, r, true
			}
		}
		number = next
	}
	return x, ok
}

// opened tells whether open record a was written before b.
func opened(a, b *journal.Record) bool {
	if d := a.Epoch.Compare(b.Epoch); d != 0 {
		return d < 0
	}
	return a.Seq < b.Seq
}

// errDoubt tells that members which do not answer would have to say whether an extent was freed.
var errDoubt = errors.New("its members do not all answer")

// look asks all stores that answered about an extent.
func (s *survey) look(x block.ExtentID) (seen map[block.StoreID]replica.State) {
	seen = make(map[block.StoreID]replica.State)
	var mu sync.Mutex
	s.e.each(slices.SortedFunc(maps.Keys(s.answered), func(a, b block.StoreID) int { return bytes.Compare(a[:], b[:]) }), func(id block.StoreID) {
		st, err := s.e.Client.Stat(id, x)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			seen[id] = st
		}
	}, nil)
	return seen
}

// gone tells whether an extent, which one that is not gone names as its predecessor, was freed. behind is the open record of that one: it
// says how the extent ends. If members that do not answer would have to say, it is errDoubt.
func (s *survey) gone(x block.ExtentID, behind *journal.Record) (bool, error) {
	seen := s.look(x)
	whole := false
	for _, st := range seen { // they need not be its members: whole copies move
		if st.Past {
			return true, nil
		}
		whole = whole || st.Held && st.Chain.Closed && st.Chain.Seq == behind.Seq-1 && st.Chain.Hash == behind.Prev
	}
	if s.past[x] {
		return true, nil
	}
	_, open, err := s.first(x)
	if err != nil {
		return len(s.held[x]) == 0, nil
	}
	if whole {
		return false, nil
	}
	freed, unknown := 0, 0
	for _, m := range open.Members {
		st, ok := seen[m]
		switch {
		case st.Freed || s.lack[m]:
			freed++
		case !ok:
			unknown++
		}
	}
	spare := len(open.Members) - replication.Structure(len(open.Members), int(open.Quorum))
	if freed > 0 && freed <= spare && freed+unknown > spare {
		return false, fmt.Errorf("extent %s: %w", x, errDoubt)
	}
	return freed > spare, nil
}

// trace goes from the newest extent back to one that is certainly part of the journal. met tells that it passed at, or
// that at is the newest: then at is part of the journal, or as good, and after follows it, if anything does. An error means
// that it is not known.
func (s *survey) trace(at block.ExtentID) (start, after journal.Position, met bool, err error) {
	x, ok := s.newest()
	if !ok {
		return start, after, false, fmt.Errorf("volume %s: no store holds an extent of it: %w", s.v, ErrLost)
	}
	var until block.ExtentID
	for {
		r, open, err := s.first(x)
		if err != nil {
			return start, after, met, err
		}
		if until.IsZero() {
			until = open.Checkpoint.Extent
		}
		here := journal.Position{Extent: x, Members: open.Members}
		met = met || x == at
		end := x == until || open.Previous.IsZero() || met
		if !end {
			if end, err = s.gone(open.Previous, &r); err != nil {
				return start, after, met, err
			}
		}
		if end {
			return here, after, met, nil
		}
		x, after = open.Previous, here
	}
}

// errMoved tells a recovery to go on from another extent.
type errMoved struct{ to journal.Position }

func (errMoved) Error() string { return "the journal goes on elsewhere" }

// refind looks for the journal when a recovery's extent is held by no member, or some may have freed it, or its members do not
// answer for long. errMoved says where the journal is found; errNoCopy: the extent is part of it, or it is not known yet; it is asked for again.
func (e *Engine) refind(c *chase, tails *replication.Tails) error {
	if c.sure {
		if _, ok := tails.Decide(); ok {
			return fmt.Errorf("extent %s: %w", c.x, ErrLost)
		}
		return e.passed(c)
	}
	s := e.surveyStores(c.x.Volume, c.members)
	for _, t := range tails.Freed() {
		s.lack[t.Store] = !t.Past
		s.past[c.x] = s.past[c.x] || t.Past
	}
	start, after, met, err := s.trace(c.x)
	switch {
	case e.Err() != nil:
		return e.Err()
	case len(s.silent) > 0 || (err != nil && !errors.Is(err, ErrLost)):
		if c.waits%25 == 0 {
			e.Logf("volume %s: %d of %d replicas of extent %s answer, and it is not sure that the journal has not gone on from there; to know, all stores must answer, and %s do not (%v)",
				e.spec.ID, tails.Granted(), len(c.members), c.x, s.silent, err)
		}
		c.waits++
		e.Env.Sleep(retryPause)
		return errNoCopy
	case err == nil && !met:
		e.Logf("volume %s: the journal has gone on from extent %s: the registry is older than that; it is found at %s", e.spec.ID, c.x, start.Extent)
		return errMoved{start}
	}
	whole := tails.Clone()
	whole.Unfreed = true
	best, ok := whole.Decide()
	switch {
	case ok && !best.Held && err == nil && !after.Extent.IsZero(): // its copies have moved: none is on a member
		return errMoved{after}
	case ok && !best.Held:
		return fmt.Errorf("extent %s: %w", c.x, ErrLost)
	}
	c.sure = err == nil // else no open record was readable, this time
	return errNoCopy
}

// passed is for an extent of the journal whose members do not answer: some may be gone for good, with a node that was removed once its copies
// had moved, and the registry is older than that. errMoved: the extent is known to have been closed at a quorum, so nothing can be added to it by
// anybody, and each recovery goes on behind it. errNoCopy: that is not known, and its members are asked again.
func (e *Engine) passed(c *chase) error {
	s := e.surveyStores(c.x.Volume, c.members)
	if len(s.silent) > 0 {
		return errNoCopy
	}
	start, after, met, err := s.trace(c.x)
	switch {
	case err != nil || met && after.Extent.IsZero():
		return errNoCopy
	case !met:
		return errMoved{start}
	}
	r, _, err := s.first(after.Extent)
	if err != nil || !s.moved(c.x, &r) {
		return errNoCopy
	}
	e.Logf("volume %s: too few members of extent %s answer, but it was closed before a copy of it was moved; the journal goes on at %s", e.spec.ID, c.x, after.Extent)
	return errMoved{after}
}

// moved tells whether a store that is no member of an extent has all of it, up to where the open record behind it says that it ends. Such a copy is
// made only once that end is durable at a quorum of the members (invariant K8).
func (s *survey) moved(x block.ExtentID, behind *journal.Record) bool {
	for _, id := range s.held[x] {
		st, err := s.e.Client.Stat(id, x)
		if err != nil || !st.Held || st.Unknown || !st.Chain.Closed || st.Chain.Seq != behind.Seq-1 || st.Chain.Hash != behind.Prev {
			continue
		}
		log, err := s.e.readChain(id, x, &st.Chain)
		if err != nil {
			continue
		}
		if r, _, err := journal.Parse(log); err == nil {
			if open, err := journal.DecodeOpen(r.Body); err == nil && !slices.Contains(open.Members, id) {
				return true
			}
		}
	}
	return false
}

// forgotten looks for the journal of a volume that was never opened, as the registry has it, although a store has promised it to a writer: the
// registry was restored from a copy of before, or that writer died before it had anything acknowledged. Then at is zero.
func (e *Engine) forgotten() (at journal.Position, err error) {
	for waits := 0; e.Err() == nil; waits++ {
		s := e.surveyStores(e.spec.ID, nil)
		x, found := s.newest()
		err = nil // what a former look did not find out counts no more
		if found {
			found, err = s.begun(x)
		}
		if found && err == nil {
			if at, _, _, err = s.trace(block.ExtentID{}); err == nil {
				e.Logf("volume %s: the registry has it as never opened, it was restored from an old copy; its journal is found at %s", e.spec.ID, at.Extent)
				return at, nil
			}
		}
		if !found && err == nil {
			if err = s.ruleOut(e.structure(e.spec.Replicas)); err == nil {
				return journal.Position{}, nil
			}
		}
		if waits%25 == 0 {
			e.Logf("volume %s: the registry has it as never opened, but stores have promised it to a writer; whether they hold its journal is not known (%v)", e.spec.ID, err)
		}
		e.Env.Sleep(retryPause)
	}
	return journal.Position{}, e.Err()
}

// errMayHold tells that there may be a journal at a quorum of which nothing can be read.
var errMayHold = errors.New("as many as may have it")

// ruleOut tells, by an error, that need stores may hold an extent whose open record nobody can read.
func (s *survey) ruleOut(need int) error {
	if len(s.silent) >= need {
		return fmt.Errorf("stores %s do not answer, %w", s.silent, errMayHold)
	}
	for _, x := range s.extents() {
		if _, _, err := s.first(x); err != nil && len(s.held[x])+len(s.silent) >= need {
			return fmt.Errorf("stores %s have extent %s, whose open record none can show, and stores %s do not answer, %w: %w", s.held[x], x, s.silent, errMayHold, err)
		}
	}
	return nil
}

// begun tells whether a journal whose newest extent is x has more in it than that.
func (s *survey) begun(x block.ExtentID) (bool, error) {
	r, open, err := s.first(x)
	if err != nil || !open.Previous.IsZero() {
		return err == nil, err
	}
	seen := s.look(x)
	if vain(&open, seen) {
		return false, nil
	}
	for _, id := range s.held[x] {
		st, ok := seen[id]
		if !ok {
			return false, fmt.Errorf("extent %s: %w", x, errDoubt)
		}
		if st.Held && (st.Unknown || st.Chain.Seq > r.Seq) {
			return true, nil
		}
	}
	return false, nil
}

// vain tells that an extent was never open at a quorum: too many of its members never had it. seen is what stores say of it.
func vain(open *journal.Open, seen map[block.StoreID]replica.State) bool {
	mayHave := len(open.Members)
	for _, m := range open.Members {
		if st, ok := seen[m]; ok && !st.Held && !st.Freed && !st.Past {
			mayHave--
		}
	}
	return mayHave < replication.Structure(len(open.Members), int(open.Quorum))
}
