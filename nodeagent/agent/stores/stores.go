package stores

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"crypto/rand"

	"mynetwork.io/mynetwork/metrics/meter"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/agent/transport"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Errors of opening.
var (
	// ErrNotFormatted tells that a directory has no store, and that none may be made there.
	ErrNotFormatted = errors.New("no store here, and formatting was not asked for: mount the disk, or allow to format")
	// ErrForeign tells that a store belongs to another network or node.
	ErrForeign = errors.New("store belongs elsewhere")
)

// Config is one store.
type Config struct {
	Path     string
	Capacity int64 // bytes it may use; 0: the whole file system
	Log      int64 // bytes of its write-ahead log, at Format; 0: the store's default
	// Wrap makes what the store sees of its directory; nil: the directory itself.
	Wrap func(disk.FS) disk.FS
}

// Options are what a Set works with.
type Options struct {
	Node    string
	Network string
	Stores  []Config
	Format  bool // allows to make stores in empty directories
	// Memory is the path of the file that remembers which stores there were. With it, a directory without a store is no error: it is
	// offered under a new id, and formatted once Grant names that id. Format has to be false.
	Memory string
	Auth   replica.Authorizer
	Layout replica.Layout      // that opens of extents are judged by; nil: none
	Keys   []ed25519.PublicKey // the control keys
	// Pulled hears of each copy that was made here from another store; nil: nobody does.
	Pulled func(Pull)
	Log    *slog.Logger
}

// Store is an open store.
type Store struct {
	*store.Store
	ID       block.StoreID
	Path     string
	Capacity int64
	Opened   store.Report
	Disk     *DiskMeter // what it asked of the disk
	fs       *disk.OS
	door     *door
	local    volume.Local
	load     counters
	suspect  atomic.Pointer[string]
	clearing atomic.Uint32
	freed    chan struct{} // an extent was freed
}

// Set is the stores of one node. The zero value is not usable: see Open.
type Set struct {
	opt Options
	env *task.Real

	mu      sync.RWMutex
	byID    map[block.StoreID]*Store
	all     []*Store
	slots   []*slot // by configuration
	memory  memory
	pulls   *replica.Client // nil: not started
	closed  bool
	closing chan struct{} // closed once closed is set
	granted sync.Mutex    // held while a store is formatted
	pulled  meter.Operations
}

var _ peer.Handler = (*Set)(nil)

// Open opens all stores. Start must follow before requests are taken.
func Open(o Options) (*Set, error) {
	s := &Set{opt: o, env: task.NewReal(), byID: map[block.StoreID]*Store{}, closing: make(chan struct{})}
	if o.Memory != "" {
		var err error
		if s.memory, err = readMemory(o.Memory); err != nil {
			return nil, err
		}
	}
	for _, c := range o.Stores {
		sl := &slot{cfg: c}
		s.slots = append(s.slots, sl)
		err := s.openSlot(sl)
		if err != nil && o.Memory != "" {
			err = s.without(sl, err)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("store %s: %w", c.Path, err), s.Close())
		}
	}
	return s, nil
}

// openSlot opens the store of a directory, and serves it once started.
func (s *Set) openSlot(sl *slot) error {
	st, err := s.open(sl.cfg)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if same := s.byID[st.ID]; same != nil || s.closed {
		err := errors.New("the agent is stopping")
		if same != nil {
			err = fmt.Errorf("it is the same as %s", same.Path)
		}
		return errors.Join(err, st.Store.Close(), st.fs.Close())
	}
	if s.pulls != nil {
		s.serve(st)
	}
	sl.store = st
	s.byID[st.ID] = st
	s.all = append(s.all, st)
	if s.opt.Memory != "" {
		return s.remember(sl.cfg.Path, st.ID)
	}
	return nil
}

// networkID is a network's uid in the form of a superblock.
func networkID(uid string) [16]byte {
	h := block.Sum([]byte(uid))
	return [16]byte(h[:16])
}

const logSegments = 8

func (c Config) options() store.Options {
	opt := store.Options{Capacity: c.Capacity}
	if c.Log > 0 {
		opt.Segments, opt.SegmentSize = logSegments, max(c.Log/logSegments/4096*4096, 1<<20)
	}
	return opt
}

func (s *Set) open(c Config) (*Store, error) {
	if s.opt.Format || s.opt.Memory != "" {
		if err := os.MkdirAll(c.Path, 0o700); err != nil {
			return nil, err
		}
	}
	fs, err := disk.OpenOS(c.Path)
	if err != nil {
		return nil, err
	}
	opt := c.options()
	counted := &DiskMeter{}
	var seen disk.FS = fs
	if c.Wrap != nil {
		seen = c.Wrap(fs)
	}
	st, report, err := store.Open(disk.NewMetered(seen, counted), opt)
	if errors.Is(err, store.ErrNoStore) {
		if err = s.format(fs, opt); err == nil {
			st, report, err = store.Open(disk.NewMetered(seen, counted), opt)
		}
	}
	if err != nil {
		_ = fs.Close()
		return nil, err
	}
	out := &Store{Store: st, ID: st.Superblock().Store, Path: c.Path, Capacity: c.Capacity, Opened: report, Disk: counted, fs: fs, freed: make(chan struct{}, 1)}
	if sb := st.Superblock(); sb.Network != networkID(s.opt.Network) || sb.Node != s.opt.Node {
		err := fmt.Errorf("%w: it was made by node %s, this is node %s of network %s", ErrForeign, sb.Node, s.opt.Node, s.opt.Network)
		return nil, errors.Join(err, st.Close(), fs.Close())
	}
	out.local = ownReads{st, &out.load}
	s.opt.Log.Info("store is open", "path", c.Path, "store", out.ID, "generation", report.Generation, "damage", report.Damage,
		"unknown", len(report.Unknown), "unsure", report.Unsure)
	return out, nil
}

func (s *Set) format(fs disk.FS, o store.Options) error {
	if !s.opt.Format {
		return ErrNotFormatted
	}
	return s.formatAs(newID(), fs, o)
}

func newID() (id block.StoreID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

func (s *Set) formatAs(id block.StoreID, fs disk.FS, o store.Options) error {
	sb := store.Superblock{Network: networkID(s.opt.Network), Node: s.opt.Node, Store: id}
	s.opt.Log.Info("formatting a store", "store", sb.Store)
	return store.Format(fs, sb, o)
}

// Start opens the doors. pulls reaches the other nodes' stores.
func (s *Set) Start(pulls replica.Transport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulls = &replica.Client{Env: s.env, Transport: pulls}
	for _, st := range s.all {
		s.serve(st)
	}
}

// serve opens a store's door. The caller holds mu.
func (s *Set) serve(st *Store) {
	st.door = s.newDoor(st)
	s.env.Go("measure a store", func() { s.measuring(st) })
}

func (s *Set) newDoor(st *Store) *door {
	srv := replica.NewServer(s.env, st.Store, st.ID, s.opt.Auth, s.pulls)
	if s.opt.Layout != nil {
		srv.Follow(s.opt.Layout)
	}
	return &door{srv: srv, set: s, store: st}
}

// Acknowledge has the stores note the present layout, without waiting, and gives the newest version that all of them have noted that can
// still vote: see replica.Server.
func (s *Set) Acknowledge() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.opt.Layout == nil || s.closed {
		return 0
	}
	least := s.opt.Layout.Version()
	for _, st := range s.all {
		if st.Quarantined() != nil {
			continue
		}
		if st.door == nil {
			return 0 // not started yet
		}
		least = min(least, st.door.srv.Acknowledge())
	}
	return least
}

// Close ends the doors, once what was taken is committed, and closes the stores. It may be repeated.
func (s *Set) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.closing)
	all := slices.Clone(s.all)
	s.mu.Unlock()
	for _, st := range all {
		if st.door != nil {
			st.door.srv.Stop()
		}
	}
	s.env.Wait()
	var err error
	for _, st := range all {
		err = errors.Join(err, st.Store.Close(), st.fs.Close())
	}
	return err
}

// All lists the stores that are open.
func (s *Set) All() []*Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.all)
}

// Door gives the door of a store of this node for this node's own requests, nil if it is not here or closed.
func (s *Set) Door(id block.StoreID) transport.Local {
	if d := s.doorOf(id); d != nil {
		return d
	}
	return nil
}

func (s *Set) doorOf(id block.StoreID) *door {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := s.byID[id]
	if st == nil || s.closed {
		return nil
	}
	return st.door
}

// Local gives a store of this node for reading, nil if it is not here or closed.
func (s *Set) Local(id block.StoreID) volume.Local {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := s.byID[id]
	if st == nil || s.closed {
		return nil
	}
	return st.local
}

// Announce tells what this node says of its stores. It waits for no disk: whoever asks takes a node that does not answer for away.
func (s *Set) Announce() []members.Store {
	var out []members.Store
	for _, st := range s.All() {
		m := members.Store{ID: st.ID, Clearing: st.Clearing(), Quarantined: st.Quarantined() != nil || st.Suspected() != nil}
		if u, err := st.Usage(); err == nil {
			m.Capacity, m.Used = u.Total, u.Used
		} else {
			m.Quarantined = true
		}
		m.Extents = uint32(st.CountExtents())
		out = append(out, m)
	}
	return out
}

// Serve implements peer.Handler.
func (s *Set) Serve(from peer.Identity, req *peer.Request) {
	defer req.Release()
	if req.Type == members.TypeStores {
		req.Reply(replica.StatusOK, members.Encode(s.Announce(), req.Body))
		return
	}
	if req.Type == TypeDeleted {
		s.serveDeleted(req)
		return
	}
	if len(req.Body) < 16 {
		req.Reply(replica.StatusBad, []byte("request without a store"))
		return
	}
	id := block.StoreID(req.Body[:16])
	d := s.doorOf(id)
	if d == nil {
		req.Reply(replica.StatusNotHeld, []byte("store is not on this node"))
		return
	}
	d.Handle(from.Node, req.Type, req.Body, req)
}

// TypeDeleted is the type of the request that asks a store for the deletion record that it keeps of a volume. Body:
// store 16, volume 16; the answer is the record, empty if there is none. Any node of the network may ask.
const TypeDeleted = 0x81

// Deleted gives the deletion record that a store of this node keeps of a volume; nil if it keeps none.
func (s *Set) Deleted(id block.StoreID, v block.VolumeID) ([]byte, error) {
	s.mu.RLock()
	st := s.byID[id]
	s.mu.RUnlock()
	if st == nil || s.Door(id) == nil {
		return nil, fmt.Errorf("store %s: %w", id, replica.ErrNotHeld)
	}
	return st.Store.Deleted(v), nil
}

func (s *Set) serveDeleted(req *peer.Request) {
	if len(req.Body) != 32 {
		req.Reply(replica.StatusBad, []byte("want a store and a volume"))
		return
	}
	signed, err := s.Deleted(block.StoreID(req.Body[:16]), block.VolumeID(req.Body[16:]))
	if err != nil {
		req.Reply(replica.StatusNotHeld)
		return
	}
	req.Reply(replica.StatusOK, signed)
}

// door is a replica's server behind the check of deletion records.
type door struct {
	srv   *replica.Server
	set   *Set
	store *Store
}

const (
	volumeAt = 16 + block.EpochSize
	headSize = volumeAt + block.ExtentIDSize
)

// Handle implements transport.Local.
func (d *door) Handle(from string, typ replica.Type, body []byte, to replica.Replier) {
	if d.admits(typ, body, to) {
		d.srv.Handle(from, typ, body, d.counted(typ, body, to))
	}
}

// HandleOwn implements transport.Local.
func (d *door) HandleOwn(from string, typ replica.Type, body []byte, to replica.Replier) {
	if d.admits(typ, body, to) {
		d.srv.HandleOwn(from, typ, body, d.counted(typ, body, to))
	}
}

// admits answers a drop that has no deletion record.
func (d *door) admits(typ replica.Type, body []byte, to replica.Replier) bool {
	if typ == replica.TypeDrop {
		if err := d.checkDrop(body); err != nil {
			to.Reply(replica.StatusDenied, []byte(err.Error()))
			return false
		}
	}
	d.store.load.count(typ)
	return true
}

func (d *door) checkDrop(body []byte) error {
	if len(body) < headSize {
		return fmt.Errorf("drop of %d bytes: %w", len(body), warrant.ErrDeletion)
	}
	v := block.VolumeID(body[volumeAt:][:16])
	r, err := warrant.VerifyDeletion(body[headSize:], v, d.set.opt.Network, d.set.opt.Keys)
	if err != nil {
		return err
	}
	if e := binary.LittleEndian.Uint64(body[16:]); e != r.Epoch {
		return fmt.Errorf("volume %s: dropped in epoch %d, signed for %d: %w", v, e, r.Epoch, warrant.ErrDeletion)
	}
	return nil
}
