package layouts

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/agent/atomicfile"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// Errors of bodies.
var (
	ErrNotFound = errors.New("the body of this layout is not here")
	ErrInvalid  = errors.New("not the body of a layout")
)

const (
	kept    = 8
	maxBody = 64 << 20
)

// Files are bodies on disk. The zero value is not usable: see Open.
type Files struct {
	dir string
	mu  sync.Mutex // held by writers
}

// Open uses a directory, which is made if it is missing.
func Open(dir string) (*Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("layouts: %w", err)
	}
	return &Files{dir: dir}, nil
}

func (f *Files) path(h block.Hash) string { return filepath.Join(f.dir, hex.EncodeToString(h[:])) }

// Put keeps a body, durably, and gives its hash. It is ErrInvalid for what is no layout.
func (f *Files) Put(body []byte) (block.Hash, error) {
	h := block.Sum(body)
	if len(body) > maxBody {
		return h, fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, len(body), maxBody)
	}
	if _, err := placement.Decode(body); err != nil {
		return h, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.Get(h); err == nil {
		return h, nil
	}
	if err := atomicfile.Write(f.path(h), body); err != nil {
		return h, fmt.Errorf("layout %x: %w", h[:6], err)
	}
	return h, f.trim(h)
}

// trim removes the oldest bodies, never the one of hash.
func (f *Files) trim(hash block.Hash) error {
	list, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("layouts: %w", err)
	}
	type file struct {
		name string
		at   int64
	}
	var files []file
	for _, e := range list {
		if i, err := e.Info(); err == nil && len(e.Name()) == 2*len(hash) && e.Name() != hex.EncodeToString(hash[:]) {
			files = append(files, file{e.Name(), i.ModTime().UnixNano()})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return int(min(max(b.at-a.at, -1), 1)) })
	for _, old := range files[min(len(files), kept-1):] {
		if err := os.Remove(filepath.Join(f.dir, old.name)); err != nil {
			return fmt.Errorf("layouts: %w", err)
		}
	}
	return nil
}

// Get gives the body of a hash: ErrNotFound, also if the file was damaged.
func (f *Files) Get(h block.Hash) ([]byte, error) {
	b, err := os.ReadFile(f.path(h))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("layout %x: %w", h[:6], ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("layout %x: %w: %w", h[:6], ErrNotFound, err)
	case block.Sum(b) != h:
		return nil, fmt.Errorf("layout %x: its file is damaged: %w", h[:6], ErrNotFound)
	}
	return b, nil
}
