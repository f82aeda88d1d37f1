package volume

import (
	"errors"
	"syscall"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/upkeep"
	"mynetwork.io/mynetwork/nodeagent/pace"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// Errors. Those that reach a device also carry an errno (errors.As with syscall.Errno).
var (
	ErrClosed    = errors.New("volume is closed")
	ErrHeld      = errors.New("volume is held by another writer whose lease is fresh")
	ErrConflict  = errors.New("registry record changed meanwhile")
	ErrNotFound  = errors.New("not found")
	ErrExists    = errors.New("already exists")
	ErrLost      = errors.New("a majority answers and none of it holds the journal")
	ErrCut       = errors.New("writes that were acknowledged, and that only replicas had, are not in the journal that is found; a device can not go on behind a gap: attach the volume again")
	ErrRange     = errors.New("outside of the volume or not a multiple of 4096")
	ErrUnaligned = errors.New("size is not a positive multiple of 4096 bytes")
	ErrInUse     = errors.New("in use")
)

// ioError is an error that a device reports with an errno.
type ioError struct {
	errno syscall.Errno
	err   error
}

func (e *ioError) Error() string   { return e.err.Error() }
func (e *ioError) Unwrap() []error { return []error{e.err, e.errno} }

func eio(err error) error    { return &ioError{syscall.EIO, err} }
func enospc(err error) error { return &ioError{syscall.ENOSPC, err} }
func einval(err error) error { return &ioError{syscall.EINVAL, err} }

// Spec is what is fixed about a volume, or changes only with the engine's knowledge.
type Spec struct {
	ID          block.VolumeID
	Pages       uint64 // size at creation; the journal knows the present one
	Replicas    int    // R
	Weak        bool   // a FLUSH is answered by one replica; promises 1 and 3 do not hold
	Extent      uint32 // capacity of an extent's data stream, bytes; 0 = DefaultExtent
	Compression block.Compression
	Key         []byte // group key of 32 bytes; nil: not encrypted
	Parent      block.VolumeID
	Snapshot    [16]byte // of Parent, that the volume starts from
}

// DefaultExtent is the capacity of an extent in bytes.
const DefaultExtent = 64 << 20

// Quorum is W: how many fsynced copies answer a FLUSH.
func (s *Spec) Quorum() int {
	if s.Weak {
		return 1
	}
	return s.Replicas/2 + 1
}

// Fact is the one fact per volume that needs compare-and-set.
type Fact struct {
	Epoch    block.Epoch      // Session is always 0
	Anchor   journal.Position // an extent from which following "next" leads to the tail; zero before the first open
	Revision string           // of the stored fact; Swap replaces exactly this one
}

// Registry keeps facts. It is a hint with one compare-and-set: a running volume does without it.
type Registry interface {
	// Load returns ErrNotFound for an unknown volume.
	Load(v block.VolumeID) (Fact, error)
	// Swap replaces the fact that has f.Revision, and returns the new revision, or ErrConflict.
	Swap(v block.VolumeID, f Fact) (revision string, err error)
}

// Placer proposes stores.
type Placer interface {
	// Candidates lists all stores of the network, on distinct nodes first, in the layout's order for key. Those that take no new
	// copies (see Site) are last: what lies there still has to be found.
	Candidates(key block.Hash) []block.StoreID
	// Places lists where n copies belong, as far as those stores are known, best first: none of a node twice, unless there
	// are fewer nodes than n.
	Places(key block.Hash, n int) []block.StoreID
	// Site says where a store is, and whether it takes new copies. Of an unknown store it knows nothing.
	Site(s block.StoreID) upkeep.Site
	// Alive tells whether the store is believed to answer.
	Alive(s block.StoreID) bool
	// Version is the layout's version.
	Version() uint64
}

// Local reads from a store of this very process, without a copy through messages.
type Local interface {
	ReadLog(x block.ExtentID, off uint32, p []byte) error
	ReadData(x block.ExtentID, off uint32, p []byte) error
	// ReadLogNow and ReadDataNow do not wait: where the disk would have to be asked the error is disk.ErrWouldWait.
	ReadLogNow(x block.ExtentID, off uint32, p []byte) error
	ReadDataNow(x block.ExtentID, off uint32, p []byte) error
}

// Deps is what an engine works with.
type Deps struct {
	Env      task.Env
	Client   *replica.Client
	Registry Registry
	Placer   Placer
	Cache    Cache
	Local    func(s block.StoreID) Local // nil result: not here
	Logf     func(format string, args ...any)
	Room     func(s block.StoreID) (r Room, known bool) // what a store has left, as far as is known here; it does not wait. nil: nobody knows

	ScrubPeriod time.Duration // one pass of the scrubber over every copy; 0: DefaultScrubPeriod, below 0: none
	Grace       time.Duration // how long a store may be gone before its copies are made anew elsewhere; 0: DefaultGrace
	Pace        *pace.Budget  // of copies that are not the last ones; nil: no limit
	Patience    time.Duration // how long a recovery of a weak volume waits for replicas that do not answer; 0: DefaultPatience
}

// Times of the engine. They decide when to try, never what is true.
const (
	Lease           = 10 * time.Second       // a writer heard of within it is protected from take-over
	slowReplica     = 1 * time.Second        // without an answer for so long while others answer, a replica is failed
	stuckReplica    = 5 * time.Second        // without an answer for so long, a replica is failed even if no other answers
	retryPause      = 200 * time.Millisecond // between rounds when no quorum answers
	healPause       = 1 * time.Second
	checkpointBytes = 256 << 20 // journal bytes after which a checkpoint is made
	checkpointAge   = 30 * time.Second
)

// Cache holds verified, decoded pages and tables. It may forget anything at any time.
type Cache interface {
	Get(k CacheKey) (any, bool)
	Put(k CacheKey, v any, bytes int)
}

// CacheKey names a cached thing. Owner is different for each opening of a volume, so that nothing of a lost tail stays.
type CacheKey struct {
	Owner uint64
	Kind  uint8
	A, B  uint64
}

// Kinds of cached things.
const (
	cachePage  uint8 = 1 + iota // A: address → *[4096]byte, plain
	cacheTable                  // A: generation<<40|block → *block.Table
	cachePlace                  // A: generation<<40|block → *located
	cacheRef                    // A: extent epoch<<32|n, B: offset → *[4096]byte
)
