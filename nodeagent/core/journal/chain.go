package journal

import (
	"fmt"
	"math"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Chain is the end of an extent's log: what the next record must follow. The zero value expects the open record of a
// new extent at offset 0, whatever its sequence.
type Chain struct {
	Seq     uint64      // of the last record; 0 before the first
	Hash    block.Hash  // chain hash of the last record
	Epoch   block.Epoch // of the last record
	LogLen  uint32      // bytes
	DataLen uint32      // bytes
	Closed  bool        // the last record is a closed record: nothing follows
}

// Check reports ErrChain unless r is the record that follows c.
func (c *Chain) Check(r *Record) error {
	switch {
	case c.Closed:
		return fmt.Errorf("seq %d after the closed record %d: %w", r.Seq, c.Seq, ErrChain)
	case c.LogLen == 0 && r.Type != TypeOpen:
		return fmt.Errorf("seq %d: an extent begins with %s: %w", r.Seq, r.Type, ErrChain)
	case c.LogLen != 0 && (r.Type == TypeOpen || r.Seq != c.Seq+1 || r.Prev != c.Hash):
		return fmt.Errorf("seq %d (%s) after %d: %w", r.Seq, r.Type, c.Seq, ErrChain)
	case r.LogOff != c.LogLen || r.DataOff != c.DataLen:
		return fmt.Errorf("seq %d at log %d data %d, want %d and %d: %w", r.Seq, r.LogOff, r.DataOff, c.LogLen, c.DataLen, ErrChain)
	case uint64(c.LogLen)+uint64(r.Size()) > math.MaxUint32 || uint64(c.DataLen)+uint64(r.Payload) > math.MaxUint32:
		return fmt.Errorf("seq %d: extent of %d and %d bytes: %w", r.Seq, c.LogLen, c.DataLen, ErrChain)
	case r.Epoch.Less(c.Epoch) || (r.Epoch.Number == c.Epoch.Number && r.Epoch.Token != c.Epoch.Token && c.LogLen != 0):
		return fmt.Errorf("seq %d: epoch %s after %s: %w", r.Seq, r.Epoch, c.Epoch, ErrChain)
	}
	return nil
}

// Advance moves the end past r, whose chain hash is h. The caller has called Check.
func (c *Chain) Advance(r *Record, h block.Hash) {
	c.Seq, c.Hash, c.Epoch = r.Seq, h, r.Epoch
	c.LogLen += uint32(r.Size())
	c.DataLen += r.Payload
	c.Closed = r.Type == TypeClosed
}

// Walk parses and checks the records of log, which continues c, calling visit for each; it moves c along. It stops at
// the first error, returning it with c at the last good record. visit's record borrows from log.
func (c *Chain) Walk(log []byte, visit func(r *Record, h block.Hash) error) error {
	for len(log) > 0 {
		r, n, err := Parse(log)
		if err != nil {
			return err
		}
		if err := c.Check(&r); err != nil {
			return err
		}
		h := HashOf(log[:n])
		if err := visit(&r, h); err != nil {
			return err
		}
		c.Advance(&r, h)
		log = log[n:]
	}
	return nil
}

// Longer reports whether log end a is the one that recovery prefers over b: the later epoch, then the higher
// sequence. See DESIGN.md, invariant J4.
func Longer(a, b *Chain) bool {
	if d := a.Epoch.Compare(b.Epoch); d != 0 {
		return d > 0
	}
	return a.Seq > b.Seq
}
