package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// Replier takes the answer to one request, exactly once, from any goroutine; parts are copied before it returns.
type Replier interface {
	Reply(st Status, parts ...[]byte)
}

// Verb is what a grant may allow.
type Verb uint8

// Verbs of requests.
const (
	VerbRead Verb = iota
	VerbWrite
	VerbRepair
	VerbDelete
)

// manyReplier is a Replier of many requests, that may be told of several answers before it has to act on them.
type manyReplier interface {
	Replier
	// ReplyMore is Reply, and the next call follows at once.
	ReplyMore(st Status, parts ...[]byte)
}

// Authorizer decides who may do what; from is the authenticated node name. It returns the reason for a refusal.
type Authorizer interface {
	Allow(from string, v block.VolumeID, epoch uint64, verb Verb) error
}

// Server is the door of one store.
type Server struct {
	env    task.Env
	store  *store.Store
	id     block.StoreID
	auth   Authorizer
	client *Client // to the sources of pulls

	mu      sync.Mutex // admission: the promise check and the staging are one step
	contact map[block.VolumeID]time.Duration
	pending []waiting
	asked   bool // one of pending must not wait for others to come
	// gathered is the payload of what is pending, in bytes.
	gathered int
	blocked  []blocked // appends that wait for room in the store's log, in order
	stopped  bool

	layout Layout // nil: none is followed
	noted  uint64 // its version that was noted
	// acknowledged is its version that is durable, and noting tells that a task waits for mu to note it. Neither is guarded by mu.
	acknowledged atomic.Uint64
	noting       atomic.Bool

	patience time.Duration // gatherTime
	rest     time.Duration // tidyPause
	commit   task.Signal
	tidy     task.Signal
	hurry    task.Signal // tidying must not wait for a pause
}

// waiting is an answer that is due when its LSN is durable.
type waiting struct {
	lsn store.LSN
	to  Replier
	seq uint64 // appends: the durable sequence to answer
	// payload is how many bytes an append has beside its record.
	payload int
	state   func() (State, Status) // others: made at the time of the answer
}

// blocked is an append that the store had no room for yet. It owns body.
type blocked struct {
	use  store.Use
	head Head
	body []byte
	to   Replier
}

// NewServer makes the door of st and starts its commit and tidy tasks. client reaches the stores to pull from.
func NewServer(env task.Env, st *store.Store, id block.StoreID, auth Authorizer, client *Client) *Server {
	s := &Server{env: env, store: st, id: id, auth: auth, client: client, contact: make(map[block.VolumeID]time.Duration), patience: gatherTime, rest: tidyPause,
		commit: env.NewSignal(), tidy: env.NewSignal(), hurry: env.NewSignal()}
	env.Go("commit", s.commitLoop)
	env.Go("tidy", s.tidyLoop)
	return s
}

// Stop ends the tasks after what is staged has been committed. The store stays open.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	for _, b := range s.blocked {
		s.refuse(b.to, errStopped)
	}
	s.blocked = nil
	s.mu.Unlock()
	s.commit.Notify()
	s.tidy.Notify()
	s.hurry.Notify()
}

// errStopped answers what comes too late; whether it was applied is open.
var errStopped = errors.New("the store is being closed")

func (s *Server) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// commitLoop makes staged changes durable and answers for them. While one commit runs, the next batch gathers.
func (s *Server) commitLoop() {
	var batch []waiting
	for {
		s.commit.Wait()
		for {
			s.gather()
			s.mu.Lock()
			batch = append(batch[:0], s.pending...)
			clear(s.pending)
			s.pending, s.asked, s.gathered = s.pending[:0], false, 0
			stopped := s.stopped
			s.mu.Unlock()
			if len(batch) == 0 {
				if stopped {
					return
				}
				break
			}
			_, err := s.store.Commit()
			s.answer(batch, err)
			clear(batch)
			s.unblock()
			s.tidy.Notify()
		}
	}
}

func (s *Server) answer(batch []waiting, err error) {
	var seq [AppendReplySize]byte
	for i := range batch {
		w := &batch[i]
		switch {
		case err != nil:
			s.refuse(w.to, err)
		case w.state != nil:
			st, code := w.state()
			w.to.Reply(code, st.Encode())
		default:
			binary.LittleEndian.PutUint64(seq[:], w.seq)
			if many, ok := w.to.(manyReplier); ok && i+1 < len(batch) && batch[i+1].to == w.to {
				many.ReplyMore(StatusOK, seq[:])
				continue
			}
			w.to.Reply(StatusOK, seq[:])
		}
	}
}

// tidyBudget is the most bytes that one step of background work may sync, so that it never holds up commits long.
const tidyBudget = 8 << 20

// tidyPause is how long tidying waits after a commit. A log that is idle is marked, which is a write: a writer that waits for each
// of its small commits would have one marked after each.
const tidyPause = 20 * time.Millisecond

func (s *Server) tidyLoop() {
	for !s.isStopped() {
		s.tidy.Wait()
		s.mu.Lock()
		full, rest := len(s.blocked) > 0, s.rest
		s.mu.Unlock()
		if !full {
			s.hurry.WaitFor(rest)
		}
		for more := true; more && !s.isStopped(); {
			var err error
			more, err = s.store.Tidy(tidyBudget)
			s.unblock() // also on an error: what a failed store cannot take is refused
			if err != nil {
				break
			}
		}
	}
}

// Handle takes one request. It does not block, and borrows body only until it returns; if to is a store.Keeper too, it lends body, and the store
// holds the payload of a large append until the commit.
func (s *Server) Handle(from string, typ Type, body []byte, to Replier) {
	s.handle(from, typ, body, to, false)
}

// HandleOwn is Handle for a request that was made in this process: the pages of an append are not hashed again, because this process
// has just made their rows of them. What may happen to them between is found like bit rot: whoever reads checks (invariant P1 of the
// engine), and so does the scrubber.
func (s *Server) HandleOwn(from string, typ Type, body []byte, to Replier) {
	s.handle(from, typ, body, to, true)
}

func (s *Server) handle(from string, typ Type, body []byte, to Replier, own bool) {
	if typ == TypeVolumes {
		s.volumes(to)
		return
	}
	h, rest, err := getHead(body)
	if err == nil && h.Store != s.id {
		err = fmt.Errorf("store %s is not here (this is %s): %w", h.Store, s.id, ErrNotHeld)
	}
	if err == nil {
		err = s.allow(from, typ, &h)
	}
	if err != nil {
		s.refuse(to, err)
		return
	}
	switch typ {
	case TypeAppend, TypeAppendGC:
		err = s.append(typ, &h, rest, to, own)
	case TypePromise:
		err = s.promise(&h, rest, to)
	case TypeStat:
		st := s.state(h.Extent)
		to.Reply(StatusOK, st.Encode())
	case TypeReadLog, TypeReadData:
		err = s.read(typ, &h, rest, to)
	case TypeCut:
		err = s.cut(&h, rest, to)
	case TypeConfirm:
		err = s.confirm(&h, rest, to)
	case TypePull:
		err = s.pull(&h, rest, to)
	case TypeFree:
		err = s.freeAs(&h, rest, to)
	case TypeLease:
		s.lease(&h, to)
	case TypeHoldings:
		err = s.holdings(&h, len(rest) == 1 && rest[0] == 1, to)
	case TypeExtents:
		s.extents(&h, to)
	case TypeDrop:
		err = s.drop(&h, rest, to)
	case TypeRepair:
		err = s.repair(&h, rest, to)
	case TypeScrub:
		s.scrub(&h, to)
	default:
		err = fmt.Errorf("request type %d: %w", typ, ErrBad)
	}
	if err != nil {
		s.refuse(to, err)
	}
}

func (s *Server) allow(from string, typ Type, h *Head) error {
	verb := VerbRead
	switch typ {
	case TypeAppend, TypeAppendGC, TypePromise, TypeConfirm, TypeCut:
		verb = VerbWrite
	case TypeFree:
		verb = VerbWrite
		if s.store.Deleted(h.Extent.Volume) != nil { // who may delete frees what a deleted volume used: it has no writer any more
			verb = VerbDelete
		}
	case TypePull, TypeRepair:
		verb = VerbRepair
	case TypeDrop:
		verb = VerbDelete
	}
	if err := s.auth.Allow(from, h.Extent.Volume, h.Epoch.Number, verb); err != nil {
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	return nil
}

func (s *Server) refuse(to Replier, err error) {
	var f *FencedError
	var l *LayoutError
	switch {
	case errors.As(err, &l):
		to.Reply(StatusLayout, l.encode())
	case errors.As(err, &f):
		var b [block.EpochSize]byte
		f.Promised.Put(b[:])
		to.Reply(StatusFenced, b[:])
	default:
		to.Reply(statusOf(err), []byte(err.Error()))
	}
}

func statusOf(err error) Status {
	for _, c := range [...]struct {
		err error
		st  Status
	}{
		{ErrBad, StatusBad}, {ErrDenied, StatusDenied}, {ErrNotHeld, StatusNotHeld}, {store.ErrNotHeld, StatusNotHeld}, {journal.ErrChain, StatusGap}, {ErrGap, StatusGap},
		{store.ErrFull, StatusFull}, {store.ErrBusy, StatusBusy}, {block.ErrMismatch, StatusMismatch}, {store.ErrDeleted, StatusDeleted},
		{store.ErrQuarantined, StatusQuarantined}, {ErrUnsure, StatusUnsure}, {journal.ErrFormat, StatusBad}, {journal.ErrShort, StatusBad},
	} {
		if errors.Is(err, c.err) {
			return c.st
		}
	}
	return StatusError
}

// admit checks and, if needed, stages the raising of the promise. The caller holds s.mu.
func (s *Server) admit(h *Head) error { return s.admitAs(h, false) }

// admitAs is admit for an epoch that its writer has, or has not, just seen to be the registry's.
func (s *Server) admitAs(h *Head, fresh bool) error {
	v := h.Extent.Volume
	promised := s.store.Promised(v)
	raise, err := replication.Admit(promised, h.Epoch)
	if err != nil {
		return &FencedError{Promised: promised}
	}
	unsure := s.store.Unsure(v)
	switch {
	case unsure && !fresh:
		// Damage may have cost this store a higher promise. Only a number that the registry has just shown is known to be
		// the highest.
		return fmt.Errorf("volume %s: damage may have lost a promise here, the registry's epoch settles it: %w", v, ErrUnsure)
	case unsure:
		_, err = s.store.Settle(v, h.Epoch)
	case raise:
		_, err = s.store.Promise(v, h.Epoch)
	}
	if err != nil {
		return err
	}
	s.contact[h.Extent.Volume] = s.env.Now()
	return nil
}

func (s *Server) state(x block.ExtentID) State {
	st := State{Promised: s.store.Promised(x.Volume)}
	if e, ok := s.store.Stat(x); ok {
		// Of what was freed here, whole, a part may be here again, as a fetch has broken off: that is less than was here.
		st.Held, st.Unknown, st.Chain = true, e.Unknown || !e.Durable.Closed && (s.isPast(x) || s.mayHaveFreed(x)), e.Durable
		if c := s.confirmed(x); st.Chain.Epoch.Less(c) {
			st.Chain.Epoch = c
		}
	} else {
		st.Past = s.isPast(x)
		st.Freed = st.Past || s.mayHaveFreed(x)
	}
	return st
}

// confirmKey is where the epoch is kept that went on from a closed extent's log as it is here.
func confirmKey(x block.ExtentID) string { return "confirm/" + x.String() }

func (s *Server) confirmed(x block.ExtentID) (e block.Epoch) {
	if b := s.store.Meta(confirmKey(x)); len(b) == block.EpochSize {
		e = block.GetEpoch(b)
	}
	return e
}

func (s *Server) confirm(h *Head, rest []byte, to Replier) error {
	if len(rest) != 8+32 {
		return fmt.Errorf("confirm: %w", ErrBad)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admit(h); err != nil {
		return err
	}
	st, ok := s.store.Stat(h.Extent)
	if !ok || st.Chain.Seq != binary.LittleEndian.Uint64(rest) || st.Chain.Hash != block.Hash(rest[8:]) {
		return fmt.Errorf("confirm of %s: its log ends elsewhere: %w", h.Extent, journal.ErrChain)
	}
	b := make([]byte, block.EpochSize)
	h.Epoch.Put(b)
	if _, err := s.store.SetMeta(confirmKey(h.Extent), b); err != nil {
		return err
	}
	s.stateAfter(h.Extent, to)
	return nil
}

// stateAfter answers with the state of x as it is when the change that was staged is durable.
func (s *Server) stateAfter(x block.ExtentID, to Replier) {
	s.wait(waiting{to: to, state: func() (State, Status) { return s.state(x), StatusOK }})
}

func (s *Server) promise(h *Head, rest []byte, to Replier) error {
	if len(rest) > 1 || (len(rest) == 1 && rest[0] > 1) {
		return fmt.Errorf("promise: %w", ErrBad)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admitAs(h, len(rest) == 1 && rest[0] == 1); err != nil {
		return err
	}
	s.stateAfter(h.Extent, to)
	return nil
}

func (s *Server) cut(h *Head, rest []byte, to Replier) error {
	if len(rest) != 8 {
		return fmt.Errorf("cut: %w", ErrBad)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admit(h); err != nil {
		return err
	}
	if _, err := s.store.Cut(h.Extent, binary.LittleEndian.Uint64(rest)); err != nil {
		return err
	}
	s.stateAfter(h.Extent, to)
	return nil
}

// freeAs frees an extent, or sets it aside first.
func (s *Server) freeAs(h *Head, rest []byte, to Replier) error {
	switch {
	case len(rest) > 1 || (len(rest) == 1 && rest[0] != 1):
		return fmt.Errorf("free: %w", ErrBad)
	case len(rest) == 0:
		return s.free(h, to)
	}
	s.freeKept(h, to)
	return nil
}

func (s *Server) free(h *Head, to Replier) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admit(h); err != nil {
		return err
	}
	if err := s.noteFreed(h.Extent); err != nil {
		return err
	}
	if _, err := s.store.Free(h.Extent); err != nil {
		return err
	}
	if s.store.Meta(confirmKey(h.Extent)) != nil {
		if _, err := s.store.SetMeta(confirmKey(h.Extent), nil); err != nil {
			return err
		}
	}
	s.stateAfter(h.Extent, to)
	return nil
}

func (s *Server) drop(h *Head, signed []byte, to Replier) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admit(h); err != nil {
		return err
	}
	if _, err := s.store.DropVolume(h.Extent.Volume, append([]byte(nil), signed...)); err != nil {
		return err
	}
	if err := s.forgetFreed(h.Extent.Volume); err != nil {
		return err
	}
	s.stateAfter(h.Extent, to)
	return nil
}
