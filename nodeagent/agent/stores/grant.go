package stores

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/atomicfile"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// ErrNoOffer is returned by Grant for an id that no directory was offered under.
var ErrNoOffer = errors.New("no empty directory was offered under this id")

// State says what became of a directory's store.
type State string

// The states, in the words of the API.
const (
	New         State = "New"         // an empty directory, offered under an id
	Serving     State = "Serving"     // reads and writes
	Full        State = "Full"        // reads and deletes
	Missing     State = "Missing"     // there was a store, and the directory is empty
	Quarantined State = "Quarantined" // an error: nothing is placed on it any more, and what it holds moves away
)

// Status describes one store, or the offer of one.
type Status struct {
	ID             block.StoreID
	Path           string
	State          State
	Message        string // what is wrong, and what to do
	Capacity, Used int64  // bytes; 0 unless it serves
	Data           int64  // of Used: data and journals
}

// slot is one directory. Guarded by Set.mu.
type slot struct {
	cfg   Config
	store *Store // nil: none is open
	why   error  // why; nil: the directory is empty
	tried error  // why it was not formatted when it was granted
}

// memory is what is known of a node's stores beside their disks: see the package's comment.
type memory struct {
	Format  int               `json:"format"`
	Stores  map[string]textID `json:"stores"`  // by path: the store that was last open there
	Offered map[string]textID `json:"offered"` // by path: the id under which an empty directory is offered
	Begun   map[string]textID `json:"begun"`   // by path: the id that it is being formatted as
}

// textID is an id in hex.
type textID block.StoreID

// MarshalText implements encoding.TextMarshaler.
func (t textID) MarshalText() ([]byte, error) { return []byte(block.StoreID(t).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *textID) UnmarshalText(b []byte) error {
	if n, err := hex.Decode(t[:], b[:min(len(b), 2*len(t))]); err != nil || n != len(t) || len(b) != 2*len(t) {
		return fmt.Errorf("%q is no id of a store", b)
	}
	return nil
}

// memoryFormat is of the file that remembers a node's stores; it only climbs.
const memoryFormat = 1

func readMemory(name string) (memory, error) {
	m := memory{Format: memoryFormat, Stores: map[string]textID{}, Offered: map[string]textID{}, Begun: map[string]textID{}}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		m = memory{}
		err = json.Unmarshal(b, &m)
	}
	if err == nil && (m.Format != memoryFormat || m.Stores == nil || m.Offered == nil || m.Begun == nil) {
		err = fmt.Errorf("format %d is not known to this version", m.Format)
		if m.Format > memoryFormat {
			return m, fmt.Errorf("the memory of this node's stores, %s, has format %d and is of a newer version of this program, which knows up to %d: start that", name, m.Format, memoryFormat)
		}
	}
	if err != nil {
		return m, fmt.Errorf("the memory of this node's stores, %s: %w; if it is damaged, move it away: directories with a store are found again", name, err)
	}
	return m, nil
}

func (s *Set) writeMemory() error {
	b, err := json.Marshal(s.memory)
	if err != nil {
		return err
	}
	return atomicfile.Write(s.opt.Memory, b)
}

// remember notes the store that is open in a directory. The caller holds mu.
func (s *Set) remember(path string, id block.StoreID) error {
	_, offered := s.memory.Offered[path]
	if s.memory.Stores[path] == textID(id) && !offered {
		return nil
	}
	s.memory.Stores[path] = textID(id)
	delete(s.memory.Offered, path)
	delete(s.memory.Begun, path)
	return s.writeMemory()
}

// without makes do without the store of a directory: it is offered if it is empty.
func (s *Set) without(sl *slot, why error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !errors.Is(why, ErrNotFormatted) {
		sl.why = why
		s.opt.Log.Error("a store can not be opened", "path", sl.cfg.Path, "err", why)
	}
	if s.memory.Offered[sl.cfg.Path] == (textID{}) {
		s.memory.Offered[sl.cfg.Path] = textID(newID())
		return s.writeMemory()
	}
	return nil
}

// Remember says that a directory had a store, as others remember. It changes nothing where more is known here.
func (s *Set) Remember(path string, id block.StoreID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opt.Memory == "" || s.memory.Stores[path] != (textID{}) {
		return nil
	}
	for _, sl := range s.slots {
		if sl.cfg.Path == path && sl.store == nil {
			s.memory.Stores[path] = textID(id)
			return s.writeMemory()
		}
	}
	return nil
}

// Statuses describes all stores, those that are missing and those that are offered. A directory that had a store and is empty gives
// two: the one that is missing, and the offer, for the case that its disk was replaced.
func (s *Set) Statuses() (out []Status) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, sl := range s.slots {
		path := sl.cfg.Path
		former, offered := block.StoreID(s.memory.Stores[path]), block.StoreID(s.memory.Offered[path])
		switch {
		case sl.store != nil:
			out = append(out, sl.store.status())
		case sl.why != nil:
			id := cmp.Or(former, offered)
			out = append(out, Status{ID: id, Path: path, State: Quarantined, Message: sl.why.Error()})
		default:
			offer := Status{ID: offered, Path: path, State: New, Message: "an empty directory; it is formatted when this id is granted"}
			if !former.IsZero() {
				out = append(out, Status{ID: former, Path: path, State: Missing, Message: "the directory is empty, and a store was in it: if its disk is not mounted, " +
					"mount it and restart this node's agent; if it was replaced, approve the new id of this path"})
				offer.Message = "an empty directory that had another store: it is formatted only if a person approves this id"
			}
			if sl.tried != nil {
				offer.Message = "it was granted, and can not be formatted: " + sl.tried.Error()
			}
			out = append(out, offer)
		}
	}
	return out
}

func (st *Store) status() Status {
	out := Status{ID: st.ID, Path: st.Path, State: Serving}
	u, err := st.Usage()
	if q := st.Quarantined(); q != nil {
		err = q
	}
	switch {
	case err != nil:
		out.State, out.Message = Quarantined, err.Error()
		return out
	case st.Suspected() != nil:
		out.State, out.Message = Quarantined, st.Suspected().Error()
	case u.UserFree <= 0:
		out.State, out.Message = Full, "no space is left for writes; reads and deletes go on: add a node or a disk, or delete data"
	}
	if silence := st.Silence(time.Now()); silence != "" {
		out.Message = silence
	}
	out.Capacity, out.Used, out.Data = u.Total, u.Used, u.Live
	return out
}

// Grant formats the directory that is offered under an id, and serves it. Repeating it does nothing. It fails with ErrNoOffer for any
// other id, and if the directory is not empty any more.
func (s *Set) Grant(id block.StoreID) error {
	s.granted.Lock()
	defer s.granted.Unlock()
	s.mu.RLock()
	var found *slot
	_, done := s.byID[id]
	for _, sl := range s.slots {
		if sl.store == nil && sl.why == nil && s.memory.Offered[sl.cfg.Path] == textID(id) {
			found = sl
		}
	}
	s.mu.RUnlock()
	switch {
	case done:
		return nil
	case found == nil || id.IsZero():
		return fmt.Errorf("store %s: %w", id, ErrNoOffer)
	}
	err := s.make(id, found)
	if err == nil {
		err = s.openSlot(found)
	}
	s.mu.Lock()
	found.tried = err
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("store %s: %w", found.cfg.Path, err)
	}
	return nil
}

// make formats a directory, also one in which this was begun before under the same id.
func (s *Set) make(id block.StoreID, sl *slot) error {
	path := sl.cfg.Path
	s.mu.Lock()
	again := s.memory.Begun[path] == textID(id)
	s.memory.Begun[path] = textID(id)
	err := s.writeMemory()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if again {
		if err := removeHalf(path); err != nil {
			return err
		}
	}
	dir, err := disk.OpenOS(path)
	if err != nil {
		return err
	}
	err = s.formatAs(id, dir, sl.cfg.options())
	if errors.Is(err, store.ErrNotEmpty) {
		err = fmt.Errorf("%w; it must be empty: move the files away, or mount the disk", err)
	}
	return errors.Join(err, dir.Close())
}

// removeHalf removes what a format that was cut short leaves: a log, and a directory of extents without any.
func removeHalf(path string) error {
	if err := os.Remove(filepath.Join(path, "ext")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it holds extents, and is not formatted: %w", err)
	}
	return os.RemoveAll(filepath.Join(path, "wal"))
}
