package replica

import (
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// pull starts a task that copies from another store what this one misses of an extent: bytes moved are bytes missed.
func (s *Server) pull(h *Head, rest []byte, to Replier) error {
	if len(rest) != 17 || rest[16] > 3 || h.Extent.IsAside() {
		return fmt.Errorf("pull: %w", ErrBad)
	}
	head, source, how := *h, block.StoreID(rest), pullHow{chosen: rest[16] >= 1, keep: rest[16] == 2, anew: rest[16] == 3}
	s.env.Go("pull", func() {
		if err := s.pullFrom(&head, source, how); err != nil {
			s.refuse(to, fmt.Errorf("pull of %s from %s: %w", head.Extent, source, err))
			return
		}
		s.mu.Lock()
		s.stateAfter(head.Extent, to)
		s.mu.Unlock()
	})
	return nil
}

// pullHow is what a pull may do to records that the source does not have.
type pullHow struct {
	chosen bool // they go, as a recovery has chosen the source's log
	keep   bool // and are set aside first
	anew   bool // there are none, and all that this store has is replaced
}

// use is what appends of the pull are for. What a recovery has chosen was acknowledged: without it a volume does not open, and nobody cleans it.
func (how pullHow) use() store.Use {
	if how.chosen {
		return store.Unread | store.ForCleaning
	}
	return store.Unread
}

func (s *Server) pullFrom(h *Head, source block.StoreID, how pullHow) error {
	want, err := s.client.Stat(source, h.Extent)
	if err != nil {
		return err
	}
	if !want.Held {
		return ErrNotHeld
	}
	st, held := s.store.Stat(h.Extent)
	if how.anew {
		if !held || st.Unknown || want.Unknown || st.Chain.Seq != want.Chain.Seq || st.Chain.Hash != want.Chain.Hash {
			return fmt.Errorf("the logs do not end the same: %w", ErrGap)
		}
		return s.pullWhole(h, source, &st.Chain, &want.Chain)
	}
	// A log whose tail is not known ends nobody's doubt, unless a recovery has chosen it.
	counts := !want.Unknown || how.chosen
	if held && st.Unknown && st.Chain.LogLen == 0 {
		err = fmt.Errorf("%w: its open record is lost", errRotten)
	} else {
		err = s.dropDivergence(h, source, &want.Chain, how)
	}
	if errors.Is(err, errRotten) && counts && mayReplace(h, &st, &want.Chain, how) {
		return s.pullWhole(h, source, &st.Chain, &want.Chain)
	}
	if err != nil {
		return err
	}
	var at journal.Chain
	if st, ok := s.store.Stat(h.Extent); ok {
		at = st.Chain
	}
	if at.LogLen < want.Chain.LogLen {
		log, err := s.missing(h, source, at, &want.Chain)
		if err == nil {
			err = s.pullRecords(h, source, log, how.use())
		}
		if err != nil {
			return err
		}
	}
	if !counts {
		return nil
	}
	return s.settle(h)
}

// missing reads what the source's log has behind at. It must lead to the end that the source says it has: nothing else vouches for its last
// record, which may have rotted where it is, and would be a record like others here. store.ErrTooLarge above MaxWhole, whatever the source says.
func (s *Server) missing(h *Head, source block.StoreID, at journal.Chain, want *journal.Chain) ([]byte, error) {
	if n := want.LogLen - at.LogLen; n > MaxWhole {
		return nil, fmt.Errorf("store %s says that extent %s has %d bytes of log more: %w", source, h.Extent, n, store.ErrTooLarge)
	}
	log := make([]byte, want.LogLen-at.LogLen)
	if err := s.client.Read(source, TypeReadLog, h.Extent, at.LogLen, log); err != nil {
		return nil, err
	}
	return log, leadsTo(log, at, want)
}

// leadsTo checks that log, behind at, ends as its source says.
func leadsTo(log []byte, at journal.Chain, want *journal.Chain) error {
	err := at.Walk(log, func(*journal.Record, block.Hash) error { return nil })
	switch {
	case err != nil: // not as an error of the log here
		return fmt.Errorf("the source's log is damaged: %v: %w", err, block.ErrMismatch)
	case at.Seq != want.Seq || at.Hash != want.Hash:
		return fmt.Errorf("the source's log is damaged: its last record, seq %d, is not the one that it had: %w", want.Seq, block.ErrMismatch)
	}
	return nil
}

// errRotten is returned if this store can not read its own log.
var errRotten = errors.New("the log here is damaged")

// mayReplace tells whether all that this store has of an extent may go for what the source has. What has an unknown tail counts for nothing
// until then.
func mayReplace(h *Head, have *store.ExtentStat, want *journal.Chain, how pullHow) bool {
	switch {
	case have.Chain.LogLen == 0:
		return have.Unknown
	case how.keep:
		return false
	}
	return have.Unknown || how.chosen && have.Chain.Epoch.Less(h.Epoch) || !journal.Longer(&have.Chain, want)
}

// pullWhole puts the source's extent in the place of one whose log is damaged: nothing can be compared with it, or appended to it.
func (s *Server) pullWhole(h *Head, source block.StoreID, have, want *journal.Chain) error {
	log, data, err := s.client.Whole(source, h.Extent, want)
	if err == nil {
		err = leadsTo(log, journal.Chain{}, want)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	err = s.admit(h)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.store.ReplaceExtent(h.Extent, *have, log, data)
}

// pullAppend appends a record with its payload; at tells where that has been placed, nil: nowhere.
func (s *Server) pullAppend(h *Head, rec, payload []byte, at *store.Placed, use store.Use) error {
	return s.pullBusy(func() (err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := s.admit(h); err != nil {
			return err
		}
		if at == nil {
			_, err = s.store.AppendAs(h.Extent, rec, payload, use)
		} else {
			_, err = s.store.AppendPlaced(h.Extent, rec, at)
		}
		return err
	})
}

// pullPlace places payloads. The store is not locked meanwhile: appends of others go on.
func (s *Server) pullPlace(h *Head, off uint32, payload []byte) (at store.Placed, err error) {
	err = s.pullBusy(func() (err error) {
		at, err = s.store.Place(h.Extent, off, payload)
		return err
	})
	return at, err
}

// pullBusy does something that may find the store busy, and then makes room and tries again.
func (s *Server) pullBusy(try func() error) error {
	for {
		err := try()
		if !errors.Is(err, store.ErrBusy) {
			return err
		}
		if s.isStopped() {
			return errStopped
		}
		// the log is full: commit what is staged and let it be tidied
		done := s.env.NewEvent()
		s.mu.Lock()
		s.wait(waiting{to: replyFunc(func() { done.Set() })})
		s.mu.Unlock()
		done.Wait()
		if _, err := s.store.Tidy(tidyBudget); err != nil {
			return err
		}
	}
}

type replyFunc func()

func (f replyFunc) Reply(Status, ...[]byte) { f() }

// dropDivergence cuts what this store holds beyond the last record that it shares with the source, if anything: such
// records lost against a later epoch, or against the log that this epoch has chosen. Records of this very epoch are never
// cut: the order may be late, and they may have been acknowledged.
func (s *Server) dropDivergence(h *Head, source block.StoreID, want *journal.Chain, how pullHow) error {
	st, ok := s.store.Stat(h.Extent)
	if !ok || st.Chain.LogLen == 0 {
		return nil
	}
	if st.Chain.Seq == want.Seq && st.Chain.Hash == want.Hash {
		return nil
	}
	mine, err := s.hashes(h.Extent, st.Chain.LogLen, s.localLog)
	if err != nil {
		return fmt.Errorf("%w: %w", errRotten, err)
	}
	theirs, err := s.hashes(h.Extent, want.LogLen, func(x block.ExtentID, off uint32, p []byte) error {
		return s.client.Read(source, TypeReadLog, x, off, p)
	})
	if err != nil {
		return err
	}
	same := 0
	for same < len(mine) && same < len(theirs) && mine[same] == theirs[same] {
		same++
	}
	// An epoch above this one was never promised here (admit says so below): the last record, which none vouches for, has rotted.
	chosen := how.chosen && st.Chain.Epoch != h.Epoch
	switch {
	case same == len(mine):
		return nil
	case chosen:
	case same == len(theirs):
		return fmt.Errorf("source is behind: %w", ErrGap)
	case !wins(want, s.state(h.Extent).Chain):
		return fmt.Errorf("source lost against this log: %w", ErrGap)
	}
	if how.keep {
		if err := s.setAside(h); err != nil {
			return err
		}
	}
	first := st.Chain.Seq + 1 - uint64(len(mine))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admit(h); err != nil {
		return err
	}
	if same == 0 { // even the open records differ: one was of a try that failed
		_, err = s.store.Free(h.Extent)
		return err
	}
	_, err = s.store.Cut(h.Extent, first+uint64(same)-1)
	return err
}

// settle ends the doubt about a tail that damage may have shortened, once all of the source's log is here. Not before: a pull that breaks off
// would leave a replica that has forgotten what it acknowledged, and counts in the next recovery.
func (s *Server) settle(h *Head) error {
	st, ok := s.store.Stat(h.Extent)
	if !ok || !st.Unknown {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admit(h); err != nil {
		return err
	}
	_, err := s.store.Cut(h.Extent, st.Chain.Seq)
	return err
}

func wins(a *journal.Chain, b journal.Chain) bool { return journal.Longer(a, &b) }

func (s *Server) localLog(x block.ExtentID, off uint32, p []byte) error {
	return s.store.ReadLog(x, off, p)
}

// hashes gives the chain hash of each record of a log of n bytes.
func (s *Server) hashes(x block.ExtentID, n uint32, read func(block.ExtentID, uint32, []byte) error) (out []block.Hash, err error) {
	log := make([]byte, n)
	if err := read(x, 0, log); err != nil {
		return nil, err
	}
	var c journal.Chain
	err = c.Walk(log, func(_ *journal.Record, h block.Hash) error {
		out = append(out, h)
		return nil
	})
	return out, err
}
