package volumes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zeebo/blake3"

	"mynetwork.io/mynetwork/nodeagent/agent/events"
	"mynetwork.io/mynetwork/nodeagent/agent/grants"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
	"mynetwork.io/mynetwork/nodeagent/export/device"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/metered"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
	"mynetwork.io/mynetwork/nodeagent/pace"
	"mynetwork.io/mynetwork/nodeagent/peer/grant"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// Errors of the manager, beside the registry's and the engine's.
var (
	ErrBusy      = errors.New("another operation on this volume is under way: try again")
	ErrAttached  = errors.New("volume is attached")
	ErrElsewhere = errors.New("volume is attached on another node")
	ErrInvalid   = errors.New("invalid request")
	ErrKey       = errors.New("encryption key")
	ErrPending   = errors.New("still under way: repeat the request to go on waiting")
	ErrMinority  = errors.New("too few nodes answer")
	ErrClosed    = errors.New("agent is stopping")
)

// Members is what is known of the network; *members.Table is it.
type Members interface {
	volume.Placer
	Ready(ctx context.Context) error
	States() []members.State
}

// Granter presents this node's grants; *grants.Keeper is one.
type Granter interface {
	Ensure(ctx context.Context, v block.VolumeID, verbs grant.Verbs) error
}

var _ Granter = (*grants.Keeper)(nil)

// DeletionSigner signs the deletion of a volume by the network's control key, or says why it does not.
type DeletionSigner interface {
	SignDeletion(ctx context.Context, d warrant.Deletion) ([]byte, error)
}

var _ DeletionSigner = grants.KeySigner{}

// Options are what a Manager works with.
type Options struct {
	Node      string
	Network   string
	Registry  registry.Store
	Transport replica.Transport
	Members   Members
	Cache     volume.Cache
	Local     func(s block.StoreID) volume.Local
	Room      func(s block.StoreID) (r volume.Room, known bool) // what a store has left, as far as is known here; nil: nobody knows
	Grants    Granter
	Keeper    Keeper // nil: rings and devices end with this process
	DeviceDir string
	Mounter   device.Mounter // nil: devices are made in this process, below DeviceDir
	// FuseTransport is demanded of devices of kind Fuse; empty: chosen by the device.
	FuseTransport fuse.Transport
	Grace         time.Duration // how long a store of the layout may be gone before its copies are made anew; 0: volume.DefaultGrace
	RingBytes     int           // 0: ring.DefaultSize
	CopyRate      int64         // bytes a second of repairs and moves, all volumes together; 0: pace.DefaultRate beside writes, below 0: no limit
	Deletions     DeletionSigner
	Events        *events.Log
	Log           *slog.Logger
	// Default is the kind of an attach that names none: Fuse if empty.
	Default Kind
}

// Manager manages the volumes of a node. The zero value is not usable: see New.
type Manager struct {
	opt    Options
	env    *task.Real // of this manager's own requests
	client *replica.Client
	pace   *pace.Budget    // of all volumes' copies
	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	slots  map[block.VolumeID]*slot

	watched map[*attachment]*copyWatch // nil: none ever was
}

// slot is what the manager holds of one volume. It is there while an operation runs or the volume is open.
type slot struct {
	busy bool        // an operation runs
	open *attachment // nil: not open here
	join *pending    // the attach or detach that runs, which others may wait for
	tend *pending    // the caretaking that runs, which gives way to any other operation
}

// pending is an attach or detach that goes on when who asked for it has gone.
type pending struct {
	detach bool
	done   chan struct{} // closed when it has ended
	err    error         // set before
	cancel func()        // makes it end soon
	room   *room         // of an attach: whether it waits for room; nil: it does not
}

// New makes a manager.
func New(o Options) *Manager {
	if o.RingBytes == 0 {
		o.RingBytes = ring.DefaultSize
	}
	if o.Default == "" {
		o.Default = Fuse
	}
	if o.Mounter == nil {
		o.Mounter = mounter.New(o.DeviceDir)
	}
	env := task.NewReal()
	budget := pace.New(env, o.CopyRate)
	if o.CopyRate == 0 {
		budget = pace.MakingWay(env, pace.DefaultRate)
	}
	m := &Manager{pace: budget, opt: o, env: env, client: &replica.Client{Env: env, Transport: o.Transport}, slots: map[block.VolumeID]*slot{}}
	m.ctx, m.stop = context.WithCancel(context.Background())
	return m
}

// acquire takes the right to operate on a volume, or returns ErrBusy. A caretaker is sent away.
func (m *Manager) acquire(v block.VolumeID) (*slot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := m.slots[v]; s != nil && s.tend != nil; s = m.slots[v] {
		t := s.tend
		m.mu.Unlock()
		t.cancel()
		<-t.done
		m.mu.Lock()
	}
	if m.closed {
		return nil, ErrClosed
	}
	s := m.slots[v]
	if s == nil {
		s = &slot{}
		m.slots[v] = s
	}
	if s.busy {
		return nil, fmt.Errorf("volume %s: %w", v, ErrBusy)
	}
	s.busy = true
	return s, nil
}

func (m *Manager) release(v block.VolumeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.slots[v]
	s.busy, s.join, s.tend = false, nil, nil
	if s.open == nil {
		delete(m.slots, v)
	}
}

// locked finds a live volume and runs f while nobody else operates on it.
func (m *Manager) locked(name string, f func(r *registry.Record, s *slot) error) error {
	r, err := m.find(name)
	if err != nil {
		return err
	}
	s, err := m.acquire(r.ID)
	if err != nil {
		return err
	}
	defer m.release(r.ID)
	if r, err = m.opt.Registry.Get(r.ID); err != nil { // as it is now
		return err
	}
	if !r.Live() {
		return fmt.Errorf("volume %q: %w", name, registry.ErrDeleted)
	}
	return f(&r, s)
}

// find finds a live volume.
func (m *Manager) find(name string) (registry.Record, error) {
	if name == "" {
		return registry.Record{}, fmt.Errorf("no volume is named: %w", ErrInvalid)
	}
	r, err := registry.Find(m.opt.Registry, name)
	if err == nil && !r.Live() {
		err = fmt.Errorf("volume %q: %w", name, registry.ErrDeleted)
	}
	return r, err
}

// attachmentOf gives what is open here of a volume, nil if nothing is.
func (m *Manager) attachmentOf(v block.VolumeID) *attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.slots[v]; s != nil {
		return s.open
	}
	return nil
}

func (m *Manager) setOpen(s *slot, a *attachment) {
	m.mu.Lock()
	s.open = a
	m.mu.Unlock()
}

// State is where a volume is.
type State int

// The states.
const (
	Detached  State = iota
	Attached        // here
	Elsewhere       // on another node, as far as is known
	Failed          // attached here, but the engine has ended
	Deleted
)

// Info describes a volume.
type Info struct {
	registry.Record
	State     State
	Kind      Kind
	Device    string         // path
	Transport string         // how the device's requests travel, and why so; empty where there is no choice
	Status    *volume.Status // of a volume that is open here
	Meter     *metered.Meter // what its users did since it was opened
	Err       error          // why its engine has ended
}

func (m *Manager) info(r registry.Record) Info {
	i := Info{Record: r}
	a := m.attachmentOf(r.ID)
	switch {
	case a != nil:
		st := a.eng.Status()
		a.now.Load().put(&i.Record)
		i.State, i.Kind, i.Device, i.Status, i.Err = Attached, a.kind, a.path(), &st, a.eng.Err()
		i.Transport, i.Meter = TransportOf(a.device()), &a.work
		i.Size = st.Size
		if i.Err != nil {
			i.State = Failed
		}
	case !r.Live():
		i.State = Deleted
	case r.Holder != "" && r.Holder != m.opt.Node:
		i.State = Elsewhere
	}
	return i
}

// Inspect describes one volume. One that is open here is described although the registry is away.
func (m *Manager) Inspect(name string) (Info, error) {
	r, err := registry.Find(m.opt.Registry, name)
	if err != nil {
		a := m.openNamed(name)
		if a == nil {
			return Info{}, err
		}
		r = a.rec
	}
	return m.info(r), nil
}

// Checkpoint makes the snapshots of a volume that is open here part of a checkpoint, where a view finds them; it does nothing for others.
func (m *Manager) Checkpoint(v block.VolumeID) error {
	a := m.attachmentOf(v)
	if a == nil {
		return nil
	}
	if err := a.eng.Checkpoint(); err != nil {
		return err
	}
	m.note(&a.rec, a.eng)
	return nil
}

// openNamed gives what is open here under a name or an id, nil if nothing is. It asks no registry.
func (m *Manager) openNamed(name string) *attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.slots {
		if a := s.open; a != nil && (a.rec.Name == name || a.rec.ID.String() == name) {
			return a
		}
	}
	return nil
}

// List describes all volumes, those deleted too if wanted. With an error it gives those that could be read.
func (m *Manager) List(deleted bool) ([]Info, error) {
	all, err := m.opt.Registry.List()
	var out []Info
	for _, r := range all {
		if r.Live() || deleted {
			out = append(out, m.info(r))
		}
	}
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

// Open describes the volumes that are open here.
func (m *Manager) Open() []Info {
	m.mu.Lock()
	var records []registry.Record
	for _, s := range m.slots {
		if s.open != nil {
			records = append(records, s.open.rec)
		}
	}
	m.mu.Unlock()
	var out []Info
	for _, r := range records {
		out = append(out, m.info(r))
	}
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Look has the engines of all open volumes look at once at who answers.
func (m *Manager) Look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.slots {
		if s.open != nil && s.open.eng != nil {
			s.open.eng.Look()
		}
	}
}

// Engine gives the engine of a volume that is open here, nil if it is not.
func (m *Manager) Engine(name string) *volume.Engine {
	if a := m.openNamed(name); a != nil {
		return a.eng
	}
	return nil
}

// KeyCheckSize is the size of a key's check value in bytes. One of zeros is not known: any key is tried.
const KeyCheckSize = 16

// keyCheck tells a right key from a wrong one, and nothing else: 16 bytes derived by BLAKE3 from key and volume.
func keyCheck(key []byte, v block.VolumeID) []byte {
	out := make([]byte, KeyCheckSize)
	blake3.DeriveKey("mynetwork.io 2026-11 key check v1", append(slices.Clone(key), v[:]...), out)
	return out
}

// CheckKey reports ErrKey unless key is what a volume needs. A clone is checked like its first ancestor.
func CheckKey(r *registry.Record, key []byte) error {
	switch {
	case !r.Encrypted && len(key) != 0:
		return fmt.Errorf("volume %q is not encrypted, but a key was given: %w", r.Name, ErrKey)
	case r.Encrypted && len(key) == 0:
		return fmt.Errorf("volume %q is encrypted: it needs its key: %w", r.Name, ErrKey)
	case r.Encrypted && !slices.Equal(keyCheck(key, r.ID), r.KeyCheck) && !slices.Equal(r.KeyCheck, make([]byte, KeyCheckSize)):
		return fmt.Errorf("volume %q: this is not its key: %w", r.Name, ErrKey)
	}
	return nil
}

func newID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

func now() int64 { return time.Now().Unix() }

// deps are what an engine works with.
func (m *Manager) deps(env task.Env, t replica.Transport) volume.Deps {
	return volume.Deps{Env: env, Client: &replica.Client{Env: env, Transport: t}, Registry: m.opt.Registry, Placer: m.opt.Members,
		Cache: m.opt.Cache, Local: m.local, Pace: m.pace, ScrubPeriod: -1, // each store's own agent reads it all
		Grace: m.opt.Grace, Room: m.opt.Room,
		Logf: func(format string, args ...any) { m.opt.Log.Info(fmt.Sprintf(format, args...)) }}
}

// local makes a nil interface of a nil store.
func (m *Manager) local(s block.StoreID) volume.Local { return m.opt.Local(s) }

// present presents the grants that a writer of r needs.
func (m *Manager) present(ctx context.Context, r *registry.Record) error {
	if err := m.opt.Grants.Ensure(ctx, r.ID, grants.Writer); err != nil {
		return err
	}
	ancestors, err := registry.Lineage(m.opt.Registry, r)
	if err != nil {
		return err
	}
	for _, a := range ancestors {
		if err := m.opt.Grants.Ensure(ctx, a.ID, grant.Read); err != nil {
			return err
		}
	}
	return nil
}
