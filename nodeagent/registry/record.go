package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Errors. ErrNotFound, ErrExists and ErrConflict are the engine's own.
var (
	ErrNotFound = volume.ErrNotFound
	ErrExists   = volume.ErrExists
	ErrConflict = volume.ErrConflict
	ErrCorrupt  = errors.New("registry entry is corrupt")
	ErrNewer    = errors.New("registry entry is of a newer version of this program")
	ErrDeleted  = errors.New("volume is deleted")
	ErrClones   = errors.New("volume has clones")
	ErrInvalid  = errors.New("not a valid registry record")
	ErrAway     = errors.New("the registry does not answer: what is attached goes on, try again when it is back")
)

// MaxName is the most bytes of a volume's name.
const MaxName = 200

// Record is all that a registry knows of a volume.
type Record struct {
	ID          block.VolumeID
	Name        string
	Size        int64 // bytes, as last known; the journal knows better
	Replicas    int
	Weak        bool
	Extent      uint32 // bytes; 0: the engine's default
	Compression block.Compression
	Encrypted   bool
	KeyCheck    []byte // tells a wrong key; says nothing about the right one
	Parent      block.VolumeID
	Snapshot    [16]byte // of Parent; zeros with a parent: not known, it may be any
	Created     int64    // unix seconds, for people
	Claim       Claim    // the PersistentVolumeClaim that it was made for
	Limits      Limits
	Adaptive    Adaptive

	Fact volume.Fact // its Revision counts changes of the fact alone

	// Holder is the node that has it attached, and HolderEpoch the number of the epoch that it took: a hint, never a proof. If the
	// fact has another number, somebody else took the volume since.
	Holder      string
	HolderEpoch uint64
	Snapshots   []Snapshot // as last known
	Used        int64      // bytes stored, counted once, as the holder last said
	Copies      int        // the fewest good copies that any part has, as the holder last said; 0: not known
	Lost        uint64     // number of the epoch that began a weak volume's present history: acknowledged data may be lost; 0: its first
	Deletion    *Deletion  // set once the volume is deleted
	// Unrooted is a clone that was made before a checkpoint of its parent named its snapshot, and was not opened yet: its first opening waits
	// until the parent's record says that the snapshot is Rooted.
	Unrooted bool
}

// Claim names a PersistentVolumeClaim. All is zero for a volume that was made for none.
type Claim struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Size is how many bytes it asks for where the volume was made larger than that, because sizes are rounded up; 0: not known, or as
	// many as the volume has. A version that does not know it leaves it out when it writes the record, and nothing but this is lost.
	Size int64 `json:"size,omitempty"`
}

// Limits bound what a volume's device may do in a second; 0: no limit.
type Limits struct {
	IOPS           int64 `json:"iops,omitempty"`           // reads, writes and discards
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"` // read and written
}

// Adaptive are the bounds within which a volume's Replicas follow how much it is read. Without them they stay as people set them.
type Adaptive struct {
	Least   int    `json:"least"` // 0, as Most: there are none
	Most    int    `json:"most"`
	Why     string `json:"why,omitempty"`     // of the last change that was not people's, in one CamelCase word; empty: there was none
	Changed int64  `json:"changed,omitempty"` // when that was, unix seconds
}

// Snapshot is what a registry knows of a snapshot.
type Snapshot struct {
	ID      [16]byte
	Name    string
	Created int64
	Size    int64
	Dying   bool // being deleted: no clone may be made of it
	// Kept is a snapshot that its user has deleted and that is there for the clones alone that start from it: no new one may be made. A version
	// that does not know this writes the record without it, and the snapshot is to be deleted again.
	Kept bool
	// Rooted says that a durable checkpoint of the volume names the snapshot, so that a clone can be opened. Not set, it is not known.
	Rooted bool
}

// Deletion says that, and on whose word, a volume is deleted.
type Deletion struct {
	At        int64
	Signed    []byte          // the deletion record, as the stores keep it
	Confirmed []block.StoreID // stores that keep it and have freed the volume's extents
}

// Live reports whether the volume is not deleted.
func (r *Record) Live() bool { return r.Deletion == nil }

// Spec is what an engine opens the volume with; the key is the caller's.
func (r *Record) Spec(key []byte) volume.Spec {
	return volume.Spec{ID: r.ID, Pages: uint64(r.Size) / block.PageSize, Replicas: r.Replicas, Weak: r.Weak, Extent: r.Extent,
		Compression: r.Compression, Key: key, Parent: r.Parent, Snapshot: r.Snapshot}
}

// FindSnapshot finds a snapshot by name or by id in hex.
func (r *Record) FindSnapshot(nameOrID string) (*Snapshot, bool) {
	for i := range r.Snapshots {
		s := &r.Snapshots[i]
		if s.Name == nameOrID || fmt.Sprintf("%x", s.ID) == nameOrID {
			return s, true
		}
	}
	return nil, false
}

// SealName is the name of the snapshot that a sealed volume shows for ever. Whatever the volume's journal may get behind it, readers do not
// see it; so nothing but this snapshot says that a volume is sealed, and a registry that is rebuilt knows it again.
const SealName = "mynetwork-sealed"

// Sealed gives the snapshot that a sealed volume shows; false: the volume is not sealed.
func (r *Record) Sealed() (*Snapshot, bool) {
	s, ok := r.FindSnapshot(SealName)
	return s, ok && s.Name == SealName
}

// Validate reports ErrInvalid unless every field is possible.
func (r *Record) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("volume %s: %s: %w", r.ID, fmt.Sprintf(format, args...), ErrInvalid)
	}
	switch {
	case r.ID.IsZero():
		return bad("no id")
	case !validName(r.Name):
		return bad("name %q: 1 to %d letters, digits, '.', '_' or '-', beginning with a letter or digit", r.Name, MaxName)
	case r.Size <= 0 || r.Size%block.PageSize != 0:
		return bad("size of %d bytes, want a positive multiple of %d", r.Size, block.PageSize)
	case r.Replicas < 1 || r.Replicas > journal.MaxMembers:
		return bad("%d replicas, want 1 to %d", r.Replicas, journal.MaxMembers)
	case r.Compression > block.CompressionZstd:
		return bad("unknown compression %d", r.Compression)
	case r.Encrypted != (len(r.KeyCheck) > 0):
		return bad("encryption without a check value, or the reverse")
	case r.Fact.Epoch.Session != 0:
		return bad("epoch %s has a session", r.Fact.Epoch)
	case r.Limits.IOPS < 0 || r.Limits.BytesPerSecond < 0:
		return bad("limits of %d I/Os and %d bytes a second, want 0 (none) or more", r.Limits.IOPS, r.Limits.BytesPerSecond)
	case r.Adaptive.Least < 0 || r.Adaptive.Most < r.Adaptive.Least || r.Adaptive.Most > journal.MaxMembers || (r.Adaptive.Least == 0) != (r.Adaptive.Most == 0):
		return bad("copies from %d to %d, want 1 to %d, the first no more than the second", r.Adaptive.Least, r.Adaptive.Most, journal.MaxMembers)
	case len(r.Adaptive.Why) > maxWhy:
		return bad("a reason of %d bytes for the number of copies, at most %d", len(r.Adaptive.Why), maxWhy)
	case len(r.Claim.Namespace) > maxNamespace || len(r.Claim.Name) > maxClaim:
		return bad("claim %s/%s: names of at most %d and %d bytes", r.Claim.Namespace, r.Claim.Name, maxNamespace, maxClaim)
	case r.Claim.Size < 0:
		return bad("claim %s/%s asks for %d bytes", r.Claim.Namespace, r.Claim.Name, r.Claim.Size)
	}
	return nil
}

// Lengths that Kubernetes allows.
const (
	maxNamespace = 63
	maxClaim     = 253
	maxWhy       = 64
)

func validName(name string) bool {
	ok := len(name) > 0 && len(name) <= MaxName
	for i, c := range []byte(name) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (alnum || i > 0 && strings.IndexByte("._-", c) >= 0)
	}
	return ok
}

// Store is a registry. All methods may block for its medium and are safe for concurrent use.
type Store interface {
	volume.Registry
	// Create adds a record. It fails with ErrExists when the id or the live name is taken, with ErrNotFound, ErrDeleted or
	// ErrInvalid when its parent or the parent's snapshot is not there, is deleted or is dying.
	Create(r Record) error
	// Get returns the record of a volume, a deleted one too, or ErrNotFound.
	Get(v block.VolumeID) (Record, error)
	// List returns all records, deleted ones too, ascending by id. With an error it returns those that could be read.
	List() ([]Record, error)
	// Update lets change alter the record of a volume, atomically, unless it returns an error. Id, name and fact must not be
	// altered: ErrInvalid. What has live clones is neither deleted nor, for a snapshot, made dying: ErrClones. change may be
	// called more than once, each time with the record as it is then.
	Update(v block.VolumeID, change func(r *Record) error) (Record, error)
}

// Namer is a Store that finds a live name without listing all: ErrNotFound.
type Namer interface {
	Named(name string) (Record, error)
}

// Tombs is a Store that lists the deleted volumes alone, and may forget one. Forget fails with ErrConflict when the record
// changed since it was read. It is for deletions that every store keeps: then nothing is left that the record protects.
type Tombs interface {
	Deleted() ([]Record, error)
	Forget(r *Record) error
}

// Find returns the live record that a name or an id in hex means. ErrNotFound.
func Find(s Store, nameOrID string) (Record, error) {
	if id, err := block.ParseVolumeID(nameOrID); err == nil {
		r, err := s.Get(id)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return r, err
		}
	}
	if n, ok := s.(Namer); ok {
		return n.Named(nameOrID)
	}
	all, err := s.List()
	return pick(nameOrID, all, err)
}

// pick finds a live name among the records that a List gave with err.
func pick(name string, all []Record, err error) (Record, error) {
	for _, r := range all {
		if r.Name == name && r.Live() {
			return r, nil
		}
	}
	if err != nil { // it may be one of those that cannot be read
		return Record{}, fmt.Errorf("volume %q: %w", name, err)
	}
	return Record{}, fmt.Errorf("volume %q: %w", name, ErrNotFound)
}

// Lineage returns the records of a volume's ancestors, nearest first.
func Lineage(s Store, r *Record) (out []Record, err error) {
	for p := r.Parent; !p.IsZero(); {
		a, err := s.Get(p)
		if err != nil {
			return nil, fmt.Errorf("ancestor of volume %q: %w", r.Name, err)
		}
		out = append(out, a)
		p = a.Parent
	}
	return out, nil
}

// CheckCreate is the rule of Create, given what is there. Implementations share it.
func CheckCreate(r *Record, all []Record) error {
	if err := r.Validate(); err != nil {
		return err
	}
	var parent *Record
	for i := range all {
		o := &all[i]
		switch {
		case o.ID == r.ID:
			return fmt.Errorf("volume %s: %w", r.ID, ErrExists)
		case o.Live() && o.Name == r.Name:
			return fmt.Errorf("volume %q has id %s: %w", r.Name, o.ID, ErrExists)
		case o.ID == r.Parent:
			parent = o
		}
	}
	return CheckParent(r, parent)
}

// CheckParent is the part of CheckCreate that is about the parent; nil: there is none of that id.
func CheckParent(r, parent *Record) error {
	if r.Parent.IsZero() {
		return nil
	}
	if parent == nil {
		return fmt.Errorf("parent %s: %w", r.Parent, ErrNotFound)
	}
	if !parent.Live() {
		return fmt.Errorf("parent %q: %w", parent.Name, ErrDeleted)
	}
	if r.Snapshot == [16]byte{} {
		return nil
	}
	s, ok := parent.FindSnapshot(fmt.Sprintf("%x", r.Snapshot))
	if !ok {
		return fmt.Errorf("snapshot %x of volume %q: %w", r.Snapshot, parent.Name, ErrNotFound)
	}
	if s.Dying || s.Kept {
		return fmt.Errorf("snapshot %q of volume %q is being deleted: %w", s.Name, parent.Name, ErrDeleted)
	}
	return nil
}

// CheckUpdate is the rule of Update for what change has done to a record. clones lists the volume's live clones; it is asked
// only if they matter. Implementations share it.
func CheckUpdate(before, after *Record, clones func() ([]Record, error)) error {
	b, a := &before.Fact, &after.Fact
	if before.ID != after.ID || before.Name != after.Name || b.Epoch != a.Epoch || b.Revision != a.Revision || b.Anchor.Extent != a.Anchor.Extent {
		return fmt.Errorf("volume %q: an update of its id, name or fact: %w", before.Name, ErrInvalid)
	}
	if !before.Live() && after.Live() {
		return fmt.Errorf("volume %q cannot come back: %w", before.Name, ErrDeleted)
	}
	if err := checkClones(before, after, clones); err != nil {
		return err
	}
	return after.Validate()
}

// checkClones refuses to take away what live clones start from.
func checkClones(before, after *Record, clones func() ([]Record, error)) error {
	deleted := before.Live() && !after.Live()
	var dying [][16]byte
	for i := range after.Snapshots {
		s := &after.Snapshots[i]
		if was, ok := before.FindSnapshot(fmt.Sprintf("%x", s.ID)); s.Dying && (!ok || !was.Dying) {
			dying = append(dying, s.ID)
		}
	}
	if !deleted && len(dying) == 0 {
		return nil
	}
	list, err := clones()
	if err != nil {
		return fmt.Errorf("clones of volume %q: %w", before.Name, err)
	}
	if deleted && len(list) > 0 {
		return fmt.Errorf("volume %q: %w; delete them first: %s", before.Name, ErrClones, names(list))
	}
	for i := range list {
		c := &list[i]
		if slices.Contains(dying, c.Snapshot) || len(dying) > 0 && c.Snapshot == [16]byte{} { // zeros: it may be any
			return fmt.Errorf("snapshot of volume %q has the clone %q; delete that first: %w", before.Name, c.Name, ErrClones)
		}
	}
	return nil
}

// Clone is a copy that shares nothing that an update may alter.
func (r *Record) Clone() Record {
	c := *r
	c.Snapshots = slices.Clone(r.Snapshots)
	c.KeyCheck = slices.Clone(r.KeyCheck)
	c.Fact.Anchor.Members = slices.Clone(r.Fact.Anchor.Members)
	if r.Deletion != nil {
		d := *r.Deletion
		d.Confirmed = slices.Clone(d.Confirmed)
		c.Deletion = &d
	}
	return c
}

func names(rs []Record) string {
	var out []string
	for i := range rs {
		out = append(out, rs[i].Name)
	}
	return strings.Join(out, ", ")
}

// ClonesOf returns the live clones of a volume.
func ClonesOf(v block.VolumeID, all []Record) (out []Record) {
	for _, r := range all {
		if r.Live() && r.Parent == v {
			out = append(out, r)
		}
	}
	return out
}
