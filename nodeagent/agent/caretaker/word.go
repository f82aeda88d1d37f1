package caretaker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// TypeWord is the type of the message by which a warden tells a node what it found of its stores; the answer is empty.
const TypeWord = 0x83

// ErrWord is returned for a message that is none.
var ErrWord = errors.New("malformed word of a warden")

const (
	wordVersion = 1
	wordHead    = 1 + 8 + 4
	wordEntry   = 16 + 4 + 4
)

// said is what a warden says of a node's copies of one volume.
type said struct{ last, missing uint32 }

// Word is all that a warden says to a node.
type Word struct {
	Layout  uint64
	Volumes map[block.VolumeID]said
}

// Encode gives the body of a message.
func (w *Word) Encode() []byte {
	b := make([]byte, wordHead, wordHead+len(w.Volumes)*wordEntry)
	b[0] = wordVersion
	binary.LittleEndian.PutUint64(b[1:], w.Layout)
	binary.LittleEndian.PutUint32(b[9:], uint32(len(w.Volumes)))
	for v, s := range w.Volumes {
		b = append(b, v[:]...)
		b = binary.LittleEndian.AppendUint32(b, s.last)
		b = binary.LittleEndian.AppendUint32(b, s.missing)
	}
	return b
}

// DecodeWord reads what Encode wrote: ErrWord.
func DecodeWord(b []byte) (w Word, err error) {
	if len(b) < wordHead || b[0] != wordVersion {
		return w, fmt.Errorf("%d bytes: %w", len(b), ErrWord)
	}
	w = Word{Layout: binary.LittleEndian.Uint64(b[1:]), Volumes: map[block.VolumeID]said{}}
	n := uint64(binary.LittleEndian.Uint32(b[9:]))
	if b = b[wordHead:]; uint64(len(b)) != n*wordEntry {
		return Word{}, fmt.Errorf("%d volumes in %d bytes: %w", n, len(b), ErrWord)
	}
	for ; len(b) > 0; b = b[wordEntry:] {
		w.Volumes[block.VolumeID(b[:16])] = said{binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:])}
	}
	return w, nil
}

// Figures are what a node reports of its copies.
type Figures struct {
	Copies  int64  // extents here
	Last    int64  // copies here that are the last
	Missing int64  // that belong here, and are not
	Synced  uint64 // the newest layout of which this node holds its share
	// Volumes are those of which a last copy is here, in no order.
	Volumes []block.VolumeID
}

// last counts last copies of a volume.
func (f *Figures) last(v block.VolumeID, copies int64) {
	if copies > 0 {
		f.Last += copies
		f.Volumes = append(f.Volumes, v)
	}
}

// unspoken is how long a volume that no warden has spoken of does not count.
const unspoken = time.Minute

// words is what the wardens have said to this node.
type words struct {
	mu     sync.Mutex
	from   map[string]Word
	since  map[block.VolumeID]time.Time // volumes here that no warden has spoken of
	synced uint64
}

func newWords() *words { return &words{from: map[string]Word{}, since: map[block.VolumeID]time.Time{}} }

func (w *words) put(from string, word Word) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.from[from] = word
}

// figures adds up what is said of this node's stores, which hold so many extents of volumes.
func (w *words) figures(now time.Time, n *Network, here map[block.VolumeID]int) (f Figures) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wardens := map[string]bool{}
	for _, p := range n.Stores {
		if p.Alive && p.Takes {
			wardens[p.Node] = true
		}
	}
	heard := n.Version
	for node := range wardens {
		heard = min(heard, w.from[node].Layout)
	}
	for node, word := range w.from {
		if !wardens[node] {
			delete(w.from, node)
			continue
		}
		for v, s := range word.Volumes {
			if n.warden(v) == node {
				f.Missing += int64(s.missing)
			}
		}
	}
	for v, extents := range here {
		s, ok := w.from[n.warden(v)].Volumes[v]
		if ok {
			f.last(v, int64(s.last))
			delete(w.since, v)
			continue
		}
		if w.since[v].IsZero() {
			w.since[v] = now
		}
		if now.Sub(w.since[v]) >= unspoken {
			f.last(v, int64(extents))
		}
	}
	for v := range w.since {
		if _, ok := here[v]; !ok {
			delete(w.since, v)
		}
	}
	if f.Missing == 0 && len(wardens) > 0 {
		w.synced = max(w.synced, heard)
	}
	f.Synced = min(w.synced, n.Version)
	return f
}
