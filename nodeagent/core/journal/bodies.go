package journal

import (
	"fmt"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Position is a place in a volume's journal: a record's start, and where to ask for it.
type Position struct {
	Extent  block.ExtentID
	LogOff  uint32
	Seq     uint64          // of the record that starts there
	Members []block.StoreID // the extent's replicas when this was written: a hint
}

// Encode gives the position as bytes: extent 28, log offset u32, sequence u64, members.
func (p *Position) Encode() []byte {
	var w writer
	w.position(p)
	return w.b
}

// DecodePosition reads what Encode wrote.
func DecodePosition(b []byte) (Position, error) {
	r := reader{b: b}
	p := r.position()
	return p, r.done()
}

// Open is the body of an open record: the extent's literal replica list and what came before it.
//
// Encoding: extent 28, previous extent 28, layout u64, replicas u8, quorum u8, capacity u32, checkpoint position, members, and, of
// a weak volume that is not in its first history: version u8 = 1, history.
type Open struct {
	Extent     block.ExtentID
	Previous   block.ExtentID  // zero for a volume's first
	Layout     uint64          // version of the layout that proposed the members
	Replicas   uint8           // R: quorums count over it, whatever is alive
	Quorum     uint8           // W: fsynced copies that answer a FLUSH
	Capacity   uint32          // most bytes of the data stream; reserved by each member
	Checkpoint Position        // latest durable checkpoint when the extent was opened; zero Extent if none
	Members    []block.StoreID // R of them; a missing one is named too
	History    History         // that the extent belongs to; zero for a volume's first, and always for a strong volume
}

// Encode gives the body.
func (o *Open) Encode() []byte {
	var w writer
	w.extent(o.Extent)
	w.extent(o.Previous)
	w.u64(o.Layout)
	w.u8(o.Replicas)
	w.u8(o.Quorum)
	w.u32(o.Capacity)
	w.position(&o.Checkpoint)
	w.members(o.Members)
	if !o.History.IsZero() {
		w.u8(historyVersion)
		w.history(&o.History)
	}
	return w.b
}

// DecodeOpen reads what Encode wrote.
func DecodeOpen(b []byte) (o Open, err error) {
	r := reader{b: b}
	o = Open{Extent: r.extent(), Previous: r.extent(), Layout: r.u64(), Replicas: r.u8(), Quorum: r.u8(), Capacity: r.u32(),
		Checkpoint: r.position(), Members: r.members()}
	if o.Extent.IsZero() || int(o.Replicas) != len(o.Members) || o.Quorum == 0 || o.Quorum > o.Replicas {
		r.fail("open of %s: %d replicas, quorum %d, %d members", o.Extent, o.Replicas, o.Quorum, len(o.Members))
	}
	for i, s := range o.Members {
		if slices.Contains(o.Members[:i], s) {
			r.fail("open of %s: store %s is named twice", o.Extent, s)
		}
	}
	if r.err == nil && len(r.b) > 0 {
		o.History = r.openHistory()
	}
	return o, r.done()
}

func (w *writer) position(p *Position) {
	w.extent(p.Extent)
	w.u32(p.LogOff)
	w.u64(p.Seq)
	w.members(p.Members)
}

func (r *reader) position() Position {
	return Position{Extent: r.extent(), LogOff: r.u32(), Seq: r.u64(), Members: r.members()}
}

// Closed is the body of a closed record: the extent ends here and the journal goes on in Next.
type Closed struct {
	Next    block.ExtentID
	Members []block.StoreID
}

// Encode gives the body: next extent 28, members.
func (c *Closed) Encode() []byte {
	var w writer
	w.extent(c.Next)
	w.members(c.Members)
	return w.b
}

// DecodeClosed reads what Encode wrote.
func DecodeClosed(b []byte) (c Closed, err error) {
	r := reader{b: b}
	c = Closed{Next: r.extent(), Members: r.members()}
	if c.Next.IsZero() {
		r.fail("closed without a next extent")
	}
	return c, r.done()
}

// Discard is the body of a discard record: pages [Page, Page+Count) read as zeros from here on.
type Discard struct {
	Page  uint64
	Count uint64
}

// Encode gives the body: page u64, count u64.
func (d *Discard) Encode() []byte {
	var w writer
	w.u64(d.Page)
	w.u64(d.Count)
	return w.b
}

// DecodeDiscard reads what Encode wrote.
func DecodeDiscard(b []byte) (d Discard, err error) {
	r := reader{b: b}
	d = Discard{Page: r.u64(), Count: r.u64()}
	if d.Page+d.Count < d.Page {
		r.fail("discard of %d pages at %d", d.Count, d.Page)
	}
	return d, r.done()
}

// Seal is the body of a seal record: a block of this extent is complete and has this id. Each replica recomputes it
// from its own log and refuses the record if it differs.
//
// Encoding: block header 64, dataOff u32, logOff u32, logLen u32, id 32.
type Seal struct {
	Header  block.Header
	DataOff uint32 // of the block's first page in the extent's data stream
	LogOff  uint32 // of the first record that carries its pages
	LogLen  uint32 // from there to the end of the last such record
	ID      block.Hash
}

// Encode gives the body.
func (s *Seal) Encode() []byte {
	w := writer{b: make([]byte, block.HeaderSize, block.HeaderSize+44)}
	s.Header.Put(w.b)
	w.u32(s.DataOff)
	w.u32(s.LogOff)
	w.u32(s.LogLen)
	w.bytes(s.ID[:])
	return w.b
}

// DecodeSeal reads what Encode wrote.
func DecodeSeal(b []byte) (s Seal, err error) {
	if s.Header, err = block.GetHeader(b); err != nil {
		return s, fmt.Errorf("seal: %w", err)
	}
	r := reader{b: b[block.HeaderSize:]}
	s.DataOff, s.LogOff, s.LogLen, s.ID = r.u32(), r.u32(), r.u32(), r.hash()
	return s, r.done()
}

// BlockRows gathers from log, which is the range [LogOff, LogOff+LogLen) of the extent's log, the encoded rows of the
// sealed block. Records in between that are not of the block are passed over, as long as they carry no payload: a block's
// pages lie back to back in the data stream, each record saying its place. It returns block.ErrMismatch otherwise.
func (s *Seal) BlockRows(log []byte) ([]byte, error) {
	rows := make([]byte, 0, int(s.Header.Rows)*block.RowSize)
	data := s.DataOff
	for len(log) > 0 {
		r, n, err := Parse(log)
		if err != nil {
			return nil, fmt.Errorf("rows of block %d: %w", s.Header.Number, err)
		}
		if r.Type.HasPages() && r.Block == s.Header.Number {
			if r.DataOff != data || int(r.Page)*block.RowSize != len(rows) {
				return nil, fmt.Errorf("block %d: page %d at %d, want page %d at %d: %w", r.Block, r.Page, r.DataOff, len(rows)/block.RowSize, data, block.ErrMismatch)
			}
			rows = append(rows, r.Body...)
			data += r.Payload
		}
		log = log[n:]
	}
	if len(rows) != int(s.Header.Rows)*block.RowSize {
		return nil, fmt.Errorf("block %d: %d bytes of rows for %d rows: %w", s.Header.Number, len(rows), s.Header.Rows, block.ErrMismatch)
	}
	return rows, nil
}

// Snapshot is the body of a snapshot record: the content at this place of the journal is kept.
type Snapshot struct {
	ID      [16]byte
	Created int64 // unix seconds, for people only
	Name    string
}

// Encode gives the body: id 16, created i64, name.
func (s *Snapshot) Encode() []byte {
	var w writer
	w.bytes(s.ID[:])
	w.u64(uint64(s.Created))
	w.name(s.Name)
	return w.b
}

// DecodeSnapshot reads what Encode wrote.
func DecodeSnapshot(b []byte) (s Snapshot, err error) {
	r := reader{b: b}
	s = Snapshot{ID: r.id16(), Created: int64(r.u64()), Name: r.name()}
	return s, r.done()
}
