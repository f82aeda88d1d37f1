package store

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"unsafe"

	"mynetwork.io/mynetwork/nodeagent/disk"
)

// strict is a file system whose files go past the page cache when they are told to, and then refuse, as a disk does, what is not aligned.
type strict struct {
	*disk.Mem
	past int // writes past the page cache
}

type strictFile struct {
	disk.File
	fs    *strict
	align int
}

var _ disk.Direct = (*strictFile)(nil)

func (s *strict) Create(name string) (disk.File, error) { return s.file(s.Mem.Create(name)) }
func (s *strict) Open(name string) (disk.File, error)   { return s.file(s.Mem.Open(name)) }

func (s *strict) file(f disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return &strictFile{File: f, fs: s}, nil
}

func (f *strictFile) Direct(align int) error {
	if align == page { // the log's segments, at 512, are not what is looked at here
		f.align = align
	}
	return nil
}

func (f *strictFile) WriteAt(p []byte, off int64) (int, error) {
	if a := f.align; a != 0 {
		if len(p)%a != 0 || off%int64(a) != 0 || uintptr(unsafe.Pointer(&p[0]))%uintptr(a) != 0 {
			return 0, syscall.EINVAL
		}
		f.fs.past++
	}
	return f.File.WriteAt(p, off)
}

// TestUnread: large payloads that are not to be read soon go past the page cache if they lie at whole pages; they are durable, and read back,
// like others.
func TestUnread(t *testing.T) {
	for _, c := range []struct {
		name  string
		use   Use
		pages int // of each record
		shift int // bytes from a page's begin to the payload, in memory
		past  int // writes past the page cache
	}{
		{"unread", Unread, 8, 0, 4},
		{"to be read", 0, 8, 0, 0},
		{"small", Unread, 1, 0, 0},
		{"between pages", Unread, 8, 512, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			fs := &strict{Mem: formatted(t, small)}
			s, w := opened(t, fs, small), newScribe(testID(1, 1))
			appendOK(t, s, w.id, w.open(1<<20), nil)
			for range 4 {
				rec, payload := w.pages(c.pages, rng)
				payload = append(aligned(c.shift + len(payload))[c.shift:c.shift], payload...)
				if _, err := s.AppendAs(w.id, rec, payload, c.use); err != nil {
					t.Fatal(err)
				}
			}
			if fs.past != c.past {
				t.Errorf("%d writes past the page cache, want %d", fs.past, c.past)
			}
			commitOK(t, s)
			requireHeld(t, s, w)
			requireHeld(t, opened(t, fs.Mem.Crash(rng.Uint64), small), w)
		})
	}
}
