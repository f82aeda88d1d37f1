// Package holding is what a node's holder is to have, whatever becomes of the holder: it remembers what the agent gave it, and gives it to
// each holder anew. So of agent and holder either may die alone, and is filled again by the other.
//
// A Holding is a holder's client as the volumes see it. Beside each entry that was put or got it keeps copies of its descriptors until
// the entry is dropped. Run watches the holder: when it has ended, the next one is dialled and given everything. Meanwhile
// what is attached goes on, as the agent has the descriptors; a Put waits for the next holder for a little while, then it is
// ErrAway: without a holder nothing new is attached.
//
// Invariants:
//
//  1. After a holder was replaced, the new one has every entry that was put or got and not dropped, and no other. (TestRefill)
//  2. What was dropped holds no descriptor. (TestRefill)
//  3. A caller that gives up does not end the connection, and with it the ownership of every entry: its call goes on. (TestSteady)
//
// Concurrency: Holding is safe for concurrent use; Run is a Runnable.
package holding

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// ErrAway is returned while no holder runs.
var ErrAway = errors.New("this node's holder does not run: without it a device would end with the agent")

const (
	dialPause = 200 * time.Millisecond
	lookPause = 500 * time.Millisecond // at whether the holder is there: a few microseconds on a unix socket
	putWait   = 10 * time.Second
)

// Holding is a client of the holder at a path. The zero value is not usable: see New.
type Holding struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	client  *holder.Client // nil: none
	up      chan struct{}  // closed when there is one
	entries map[string]*holder.Entry
}

// New makes a holding without a holder.
func New(path string, log *slog.Logger) *Holding {
	return &Holding{path: path, log: log, up: make(chan struct{}), entries: map[string]*holder.Entry{}}
}

// Connect connects for the first time, if it can.
func (h *Holding) Connect(ctx context.Context) error {
	c, err := holder.Dial(ctx, h.path)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.client = c
	close(h.up)
	h.mu.Unlock()
	return nil
}

// Run keeps the connection until ctx ends. connected is told of the first holder, if Connect found none.
func (h *Holding) Run(ctx context.Context, connected func(ctx context.Context)) {
	if h.Up() {
		connected = nil
	}
	for ctx.Err() == nil {
		if c := h.current(); c != nil {
			if err := h.stays(ctx, c); ctx.Err() != nil {
				return
			} else if err != nil {
				h.log.Warn("this node's holder has ended; the next one is given what it had", "err", err)
			}
			h.lost(c)
		}
		c, ok := h.dial(ctx)
		if !ok {
			return
		}
		if err := h.fill(c); err != nil {
			h.log.Warn("the new holder can not be given what the former one had; it is tried again", "err", err)
			_ = c.Close()
			task.Pause(ctx, dialPause)
			continue
		}
		if connected != nil {
			connected(ctx)
			connected = nil
		}
	}
}

// Up tells whether there is a holder.
func (h *Holding) Up() bool { return h.current() != nil }

func (h *Holding) current() *holder.Client {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.client
}

// stays returns when the holder of a client has ended, or ctx has. The client itself is asked: whoever dials a second time may meet
// the next holder already.
func (h *Holding) stays(ctx context.Context, c *holder.Client) error {
	for {
		if _, err := c.List(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		if !task.Pause(ctx, task.UntilBeat(lookPause)) {
			return ctx.Err()
		}
	}
}

func (h *Holding) lost(c *holder.Client) {
	_ = c.Close()
	h.mu.Lock()
	h.client, h.up = nil, make(chan struct{})
	h.mu.Unlock()
}

// dial connects to the next holder; false: ctx has ended.
func (h *Holding) dial(ctx context.Context) (*holder.Client, bool) {
	for {
		c, err := holder.Dial(ctx, h.path)
		if err == nil {
			return c, true
		}
		if !task.Pause(ctx, dialPause) {
			return nil, false
		}
	}
}

// fill gives everything to a new holder, and takes it into use. One that has an entry already, as it did not end, gives it up first.
func (h *Holding) fill(c *holder.Client) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	ctx := context.Background()
	for _, name := range slices.Sorted(maps.Keys(h.entries)) {
		err := c.Put(ctx, h.entries[name])
		if errors.Is(err, holder.ErrExists) {
			if err = takeBack(ctx, c, name); err == nil {
				err = c.Put(ctx, h.entries[name])
			}
		}
		if err != nil {
			return fmt.Errorf("entry %s: %w", name, err)
		}
	}
	h.client = c
	close(h.up)
	return nil
}

func takeBack(ctx context.Context, c *holder.Client, name string) error {
	e, err := c.Get(ctx, name)
	if err != nil {
		return err
	}
	e.Close()
	return c.Drop(ctx, name)
}

// Close gives up all entries to the holder, and forgets them.
func (h *Holding) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.entries {
		e.Close()
	}
	clear(h.entries)
	if h.client == nil {
		return nil
	}
	return h.client.Close()
}

// remember keeps copies of an entry's descriptors. The caller holds mu.
func (h *Holding) remember(e *holder.Entry) error {
	kept := &holder.Entry{Name: e.Name, Meta: slices.Clone(e.Meta), Conn: e.Conn}
	for _, list := range []struct{ from, to *[]int }{{&e.Device, &kept.Device}, {&e.Memory, &kept.Memory}} {
		for _, fd := range *list.from {
			dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				kept.Close()
				return fmt.Errorf("copy a descriptor of %s: %w", e.Name, err)
			}
			*list.to = append(*list.to, dup)
		}
	}
	h.forget(e.Name)
	h.entries[e.Name] = kept
	return nil
}

func (h *Holding) forget(name string) {
	if e := h.entries[name]; e != nil {
		e.Close()
		delete(h.entries, name)
	}
}

// wait waits until there is a holder. On success the lock is held.
func (h *Holding) wait(ctx context.Context) (*holder.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, putWait)
	defer cancel()
	for {
		h.mu.Lock()
		if h.client != nil {
			return h.client, nil
		}
		up := h.up
		h.mu.Unlock()
		select {
		case <-up:
		case <-ctx.Done():
			return nil, ErrAway
		}
	}
}

// known are the answers of a holder; any other error is one of the connection.
func known(err error) bool {
	for _, e := range []error{holder.ErrServer, holder.ErrVersion, holder.ErrProtocol, holder.ErrNotFound, holder.ErrOwned, holder.ErrExists,
		holder.ErrNotOwner, holder.ErrLimit} {
		if errors.Is(err, e) {
			return true
		}
	}
	return err == nil
}

// Put gives the holder an entry. Its descriptors stay the caller's. Errors: those of holder.Client, ErrAway.
func (h *Holding) Put(ctx context.Context, e *holder.Entry) error {
	c, err := h.wait(ctx)
	if err != nil {
		return err
	}
	defer h.mu.Unlock()
	err = c.Put(context.WithoutCancel(ctx), e)
	if err != nil && known(err) {
		return err
	}
	return h.remember(e) // a holder that has just ended gets it with all others
}

// Get makes the agent own an entry. The descriptors are the caller's. Errors: those of holder.Client, ErrAway.
func (h *Holding) Get(ctx context.Context, name string) (*holder.Entry, error) {
	c, err := h.wait(ctx)
	if err != nil {
		return nil, err
	}
	defer h.mu.Unlock()
	e, err := c.Get(context.WithoutCancel(ctx), name)
	if err != nil {
		return nil, err
	}
	if e.State != holder.Ended {
		if err := h.remember(e); err != nil {
			e.Close()
			return nil, err
		}
	}
	return e, nil
}

// Drop has the holder forget an entry. Without a holder there is none that has it. Errors: those of holder.Client.
func (h *Holding) Drop(ctx context.Context, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forget(name)
	if h.client == nil {
		return nil
	}
	if err := h.client.Drop(context.WithoutCancel(ctx), name); known(err) {
		return err
	}
	return nil
}

// List tells what the holder has. Errors: ErrAway.
func (h *Holding) List(ctx context.Context) ([]holder.Listed, error) {
	c, err := h.wait(ctx)
	if err != nil {
		return nil, err
	}
	defer h.mu.Unlock()
	return c.List(context.WithoutCancel(ctx))
}
