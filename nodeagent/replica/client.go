package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// Transport carries requests to the node that holds a store.
type Transport interface {
	// Send queues a request; requests to one store from one caller arrive in order. parts are copied before it returns.
	// done is called exactly once, from any goroutine, and must not block; it only borrows body.
	Send(s block.StoreID, typ Type, done Done, parts ...[]byte)
}

// Target is one of the stores that SendAll sends to.
type Target struct {
	Store block.StoreID
	Head  []byte // the first part for this store, at most AppendHeadSize bytes
	Done  Done
}

// Sharer is a Transport that sends large requests, which are the same but for their heads, from one copy.
type Sharer interface {
	// SendAll is Send to each target in order, of its head and then the parts. It may change to.
	SendAll(typ Type, to []Target, parts ...[]byte)
}

// Way leads to one store, for a caller that asks it again and again: nothing is made for a single request.
type Way interface {
	// Send is Send of the Transport that made the way. One call at a time.
	Send(typ Type, parts ...[]byte)
}

// Binder is a Transport that makes ways.
type Binder interface {
	// Bind makes a way to a store, whose requests done is called for, each. After one or several answers that came together, settle
	// is called, on the goroutine that called done and before that waits for anything; also more often than needed. Either may run on several
	// goroutines at once.
	Bind(s block.StoreID, done Done, settle func()) Way
}

// Done takes the outcome of a request. err is set, and wraps ErrUnreachable, when no answer came.
type Done func(st Status, body []byte, err error)

// Timeout bounds a control request; a pull has PullTimeout because it moves up to an extent.
const (
	Timeout     = 5 * time.Second
	PullTimeout = 120 * time.Second
)

// Client asks stores and waits for answers. The zero value is not usable; fill in Env and Transport.
type Client struct {
	Env       task.Env
	Transport Transport
}

// call is one blocking request; it survives its caller giving up.
type call struct {
	mu   sync.Mutex
	done task.Event
	gone bool // the caller gave up
	over bool // the answer is here
	err  error
	take func(body []byte) error
}

func (c *call) finish(st Status, body []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	c.over, c.err = true, outcome(st, body, err, c.take)
	c.done.Set()
}

// outcome makes an error of an answer; take, if not nil, borrows the body of a good one.
func outcome(st Status, body []byte, err error, take func(body []byte) error) error {
	switch {
	case err != nil:
		return err
	case st == StatusFenced:
		return fenced(body)
	case st != StatusOK:
		return ErrorOf(st, append([]byte(nil), body...))
	case take != nil:
		return take(body)
	}
	return nil
}

// FencedError carries the epoch that a replica has promised to a later writer.
type FencedError struct{ Promised block.Epoch }

// Error says which epoch won.
func (e *FencedError) Error() string {
	return fmt.Sprintf("epoch %s is promised: %v", e.Promised, replication.ErrFenced)
}

// Unwrap makes errors.Is(err, replication.ErrFenced) hold.
func (e *FencedError) Unwrap() error { return replication.ErrFenced }

func fenced(body []byte) error {
	if len(body) < block.EpochSize {
		return replication.ErrFenced
	}
	return &FencedError{Promised: block.GetEpoch(body)}
}

// Call sends a request and waits at most limit. take, if not nil, borrows the body of the answer.
func (c *Client) Call(s block.StoreID, typ Type, limit time.Duration, take func(body []byte) error, parts ...[]byte) error {
	w := &call{done: c.Env.NewEvent(), take: take}
	c.Transport.Send(s, typ, w.finish, parts...)
	if !w.done.WaitFor(limit) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.over {
			w.gone = true
			return fmt.Errorf("store %s, no answer in %v: %w", s, limit, ErrUnreachable)
		}
	}
	if w.err != nil {
		return fmt.Errorf("store %s: %w", s, w.err)
	}
	return nil
}

func (c *Client) state(s block.StoreID, typ Type, limit time.Duration, parts ...[]byte) (st State, err error) {
	err = c.Call(s, typ, limit, func(b []byte) (err error) {
		st, err = DecodeState(b)
		return err
	}, parts...)
	return st, err
}

// Stat asks for the state of an extent and of the volume's promise.
func (c *Client) Stat(s block.StoreID, x block.ExtentID) (State, error) {
	h := Head{Store: s, Extent: x}
	return c.state(s, TypeStat, Timeout, h.Encode())
}

// Promise has the store refuse, durably, all writers of the volume below e.
func (c *Client) Promise(s block.StoreID, e block.Epoch, x block.ExtentID) (State, error) {
	h := Head{Store: s, Epoch: e, Extent: x}
	return c.state(s, TypePromise, Timeout, h.Encode())
}

// AskPromise is Promise for a writer that does not wait: done gets the outcome, once, from any goroutine, and must not block. Nothing bounds how late
// that is but the connection's own watch.
func (c *Client) AskPromise(s block.StoreID, e block.Epoch, x block.ExtentID, done func(err error)) {
	h := Head{Store: s, Epoch: e, Extent: x}
	c.Transport.Send(s, TypePromise, func(st Status, body []byte, err error) { done(outcome(st, body, err, isState)) }, h.Encode())
}

func isState(body []byte) error {
	_, err := DecodeState(body)
	return err
}

// PromiseFresh is Promise by a writer that has just seen that e is the registry's epoch: it also ends the doubt of a store
// that may have lost a promise (ErrUnsure).
func (c *Client) PromiseFresh(s block.StoreID, e block.Epoch, x block.ExtentID) (State, error) {
	h := Head{Store: s, Epoch: e, Extent: x}
	return c.state(s, TypePromise, Timeout, h.Encode(1))
}

// Cut has the store drop the records of x after seq.
func (c *Client) Cut(s block.StoreID, e block.Epoch, x block.ExtentID, after uint64) (State, error) {
	h := Head{Store: s, Epoch: e, Extent: x}
	return c.state(s, TypeCut, Timeout, h.Encode(binary.LittleEndian.AppendUint64(nil, after)...))
}

// Confirm has the store note, durably, that its log of x, which ends in c, is the one that epoch e went on from. From
// then on it counts as being of epoch e when tails are compared.
func (c *Client) Confirm(s block.StoreID, e block.Epoch, x block.ExtentID, end *journal.Chain) (State, error) {
	h := Head{Store: s, Epoch: e, Extent: x}
	b := binary.LittleEndian.AppendUint64(nil, end.Seq)
	return c.state(s, TypeConfirm, Timeout, h.Encode(append(b, end.Hash[:]...)...))
}

// Pull has the store fetch from source what it misses of x. What it holds beside that goes if it lost against a later
// epoch; otherwise the answer is ErrGap.
func (c *Client) Pull(s block.StoreID, e block.Epoch, x block.ExtentID, source block.StoreID) (State, error) {
	return c.pull(s, e, x, source, 0)
}

// PullChosen is Pull for a recovery that has chosen the source's log: everything else of former epochs goes.
func (c *Client) PullChosen(s block.StoreID, e block.Epoch, x block.ExtentID, source block.StoreID) (State, error) {
	return c.pull(s, e, x, source, 1)
}

// PullKept is PullChosen for a weak volume: what would go is set aside first.
func (c *Client) PullKept(s block.StoreID, e block.Epoch, x block.ExtentID, source block.StoreID) (State, error) {
	return c.pull(s, e, x, source, 2)
}

// PullAnew has store s put the source's extent in the place of its own, which ends in the same record and is damaged where no store can tell: the
// keyed hashes of records, which the chain leaves out. ErrGap: they do not end the same.
func (c *Client) PullAnew(s block.StoreID, e block.Epoch, x block.ExtentID, source block.StoreID) (State, error) {
	return c.pull(s, e, x, source, 3)
}

func (c *Client) pull(s block.StoreID, e block.Epoch, x block.ExtentID, source block.StoreID, chosen byte) (State, error) {
	h := Head{Store: s, Epoch: e, Extent: x}
	return c.state(s, TypePull, PullTimeout, h.Encode(append(source[:], chosen)...))
}

// Free has the store drop x.
func (c *Client) Free(s block.StoreID, e block.Epoch, x block.ExtentID) error {
	return c.free(s, e, x, Timeout)
}

// FreeKept is Free for a weak volume's copy that is not what the journal has: it is set aside first.
func (c *Client) FreeKept(s block.StoreID, e block.Epoch, x block.ExtentID) error {
	return c.free(s, e, x, PullTimeout, 1)
}

func (c *Client) free(s block.StoreID, e block.Epoch, x block.ExtentID, limit time.Duration, extra ...byte) error {
	h := Head{Store: s, Epoch: e, Extent: x}
	err := c.Call(s, TypeFree, limit, nil, h.Encode(extra...))
	if errors.Is(err, ErrNotHeld) {
		return nil
	}
	return err
}

// Drop has the store delete the volume for ever, on the word of the signed record.
func (c *Client) Drop(s block.StoreID, e block.Epoch, v block.VolumeID, signed []byte) error {
	h := Head{Store: s, Epoch: e, Extent: block.ExtentID{Volume: v}}
	return c.Call(s, TypeDrop, Timeout, nil, h.Encode(signed...))
}

// Append sends one record and waits until it is durable there. Writers with many in flight use the Transport.
func (c *Client) Append(s block.StoreID, e block.Epoch, x block.ExtentID, rec, payload []byte) error {
	h := Head{Store: s, Epoch: e, Extent: x}
	var head [AppendHeadSize]byte
	PutAppendHead(head[:], &h, len(rec))
	return c.Call(s, TypeAppend, Timeout, nil, head[:], rec, payload)
}

// Read fills p from the log or data stream (typ TypeReadLog or TypeReadData) of x at off, in pieces of MaxRead.
func (c *Client) Read(s block.StoreID, typ Type, x block.ExtentID, off uint32, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), MaxRead)
		b, dst := readBody(s, x, off, n), p[:n]
		err := c.Call(s, typ, Timeout, func(body []byte) error {
			if len(body) != len(dst) {
				return fmt.Errorf("%d bytes for %d: %w", len(body), len(dst), ErrBad)
			}
			copy(dst, body)
			return nil
		}, b[:])
		if err != nil {
			return err
		}
		p, off = p[n:], off+uint32(n)
	}
	return nil
}

// readBody is a read's request.
func readBody(s block.StoreID, x block.ExtentID, off uint32, n int) (b [headSize + 8]byte) {
	h := Head{Store: s, Extent: x}
	h.Put(b[:])
	binary.LittleEndian.PutUint32(b[headSize:], off)
	binary.LittleEndian.PutUint32(b[headSize+4:], uint32(n))
	return b
}

// ReadThen asks for n bytes, at most MaxRead, as Read does, and does not wait: then is called once, from any goroutine, however late. It must
// not block, and only borrows the bytes.
func (c *Client) ReadThen(s block.StoreID, typ Type, x block.ExtentID, off uint32, n int, then func(p []byte, err error)) {
	b := readBody(s, x, off, n)
	c.Transport.Send(s, typ, func(st Status, body []byte, err error) {
		if err = outcome(st, body, err, nil); err == nil && len(body) != n {
			err = fmt.Errorf("%d bytes for %d: %w", len(body), n, ErrBad)
		}
		if err != nil {
			body, err = nil, fmt.Errorf("store %s: %w", s, err)
		}
		then(body, err)
	}, b[:])
}

// MaxWhole is the largest extent that Whole fetches, in bytes of both streams.
const MaxWhole = 160 << 20

// Whole reads both streams of x up to an end, into memory. They are not verified. store.ErrTooLarge above MaxWhole.
func (c *Client) Whole(s block.StoreID, x block.ExtentID, end *journal.Chain) (log, data []byte, err error) {
	if n := int64(end.LogLen) + int64(end.DataLen); n > MaxWhole {
		return nil, nil, fmt.Errorf("extent %s of %d bytes is too large to be fetched whole: %w", x, n, store.ErrTooLarge)
	}
	log, data = make([]byte, end.LogLen), make([]byte, end.DataLen)
	if err := c.Read(s, TypeReadLog, x, 0, log); err != nil {
		return nil, nil, err
	}
	return log, data, c.Read(s, TypeReadData, x, 0, data)
}

// Repair has the store replace bytes of x by good ones, which it checks against the leaf or the chain first.
func (c *Client) Repair(s block.StoreID, e block.Epoch, x block.ExtentID, off uint32, data bool, good []byte) error {
	h := Head{Store: s, Epoch: e, Extent: x}
	b := h.Encode(binary.LittleEndian.AppendUint32(nil, off)...)
	return c.Call(s, TypeRepair, Timeout, nil, append(b, flag(data)), good)
}

// Lease is what a store knows of a volume's present writer.
type Lease struct {
	Promised block.Epoch
	Age      time.Duration // since it last heard from that writer; MaxAge if never since it started
}

// MaxAge stands for "never".
const MaxAge = time.Duration(1<<63 - 1)

// Lease asks how fresh the present writer is. It changes nothing.
func (c *Client) Lease(s block.StoreID, v block.VolumeID) (l Lease, err error) {
	h := Head{Store: s, Extent: block.ExtentID{Volume: v}}
	err = c.Call(s, TypeLease, Timeout, func(b []byte) error {
		if len(b) != block.EpochSize+8 {
			return ErrBad
		}
		l = Lease{Promised: block.GetEpoch(b), Age: time.Duration(binary.LittleEndian.Uint64(b[block.EpochSize:]))}
		return nil
	}, h.Encode())
	return l, err
}

// Extents lists the extents of a volume that the store holds.
func (c *Client) Extents(s block.StoreID, v block.VolumeID) (out []block.ExtentID, err error) {
	h := Head{Store: s, Extent: block.ExtentID{Volume: v}}
	err = c.Call(s, TypeExtents, Timeout, func(b []byte) error {
		for ; len(b) >= block.ExtentIDSize; b = b[block.ExtentIDSize:] {
			out = append(out, block.GetExtentID(b))
		}
		return nil
	}, h.Encode())
	return out, err
}

// Holding is one extent that a store holds, and where its durable log ends.
type Holding struct {
	Extent  block.ExtentID
	Seq     uint64
	Hash    block.Hash
	Unknown bool // damage may have cost it records
}

const holdingSize = block.ExtentIDSize + 8 + 32 + 1

// Holdings lists what the store holds of a volume for its journal.
func (c *Client) Holdings(s block.StoreID, v block.VolumeID) ([]Holding, error) {
	return c.holdings(s, v)
}

// SetAside lists what the store has set aside of a volume, under the names that Aside gives.
func (c *Client) SetAside(s block.StoreID, v block.VolumeID) ([]Holding, error) {
	return c.holdings(s, v, 1)
}

func (c *Client) holdings(s block.StoreID, v block.VolumeID, extra ...byte) (out []Holding, err error) {
	h := Head{Store: s, Extent: block.ExtentID{Volume: v}}
	err = c.Call(s, TypeHoldings, Timeout, func(b []byte) error {
		for ; len(b) >= holdingSize; b = b[holdingSize:] {
			rest := b[block.ExtentIDSize:]
			out = append(out, Holding{block.GetExtentID(b), binary.LittleEndian.Uint64(rest), block.Hash(rest[8:40]), rest[40] == 1})
		}
		return nil
	}, h.Encode(extra...))
	return out, err
}

// Volumes lists the volumes of which the store holds extents.
func (c *Client) Volumes(s block.StoreID) (out []block.VolumeID, err error) {
	h := Head{Store: s}
	err = c.Call(s, TypeVolumes, Timeout, func(b []byte) error {
		for ; len(b) >= 16; b = b[16:] {
			out = append(out, block.VolumeID(b[:16]))
		}
		return nil
	}, h.Encode())
	return out, err
}

// Finding is one damaged range that a scrub met.
type Finding struct {
	Off  uint32
	N    uint32
	Data bool // of the data stream; else of the log
}

// Scrub has the store check every byte of x. It returns what is damaged.
func (c *Client) Scrub(s block.StoreID, x block.ExtentID) (out []Finding, err error) {
	h := Head{Store: s, Extent: x}
	err = c.Call(s, TypeScrub, PullTimeout, func(b []byte) error {
		for ; len(b) >= 9; b = b[9:] {
			out = append(out, Finding{Off: binary.LittleEndian.Uint32(b), N: binary.LittleEndian.Uint32(b[4:]), Data: b[8] == 1})
		}
		return nil
	}, h.Encode())
	return out, err
}
