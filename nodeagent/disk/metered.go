package disk

import (
	"errors"
	"io"
	"time"

	"mynetwork.io/mynetwork/metrics/meter"
)

// Meter is what was counted of a disk. The zero value is usable.
type Meter struct {
	Reads, Writes, Syncs meter.Operations
	Usages               meter.Operations // questions for the room of the file system
}

// Silent is since when the disk has ended nothing of one kind that it was asked for; zero if nothing waits.
func (m *Meter) Silent() (since time.Time) {
	for _, o := range [...]*meter.Operations{&m.Reads, &m.Writes, &m.Syncs, &m.Usages} {
		if at := o.Waiting(); !at.IsZero() && (since.IsZero() || at.Before(since)) {
			since = at
		}
	}
	return since
}

// Metered counts in a Meter what goes through to the FS behind it. It changes no answer. Of what a File may be able to do beside
// File, it passes on Direct, Gatherer and Prompt.
type Metered struct {
	FS
	m *Meter
}

var _ FS = (*Metered)(nil)

// NewMetered puts a Meter before fs.
func NewMetered(fs FS, m *Meter) *Metered { return &Metered{fs, m} }

// Create implements FS.
func (d *Metered) Create(name string) (File, error) { return d.file(d.FS.Create(name)) }

// Open implements FS.
func (d *Metered) Open(name string) (File, error) { return d.file(d.FS.Open(name)) }

func (d *Metered) file(f File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &meteredFile{f, d.m}, nil
}

// SyncDir implements FS.
func (d *Metered) SyncDir(dir string) error {
	start := d.m.Syncs.Begin()
	err := d.FS.SyncDir(dir)
	d.m.Syncs.Ended(start, 0, err)
	d.m.Syncs.End()
	return err
}

// Usage implements FS.
func (d *Metered) Usage() (total, used int64, err error) {
	start := d.m.Usages.Begin()
	total, used, err = d.FS.Usage()
	d.m.Usages.Ended(start, 0, err)
	d.m.Usages.End()
	return total, used, err
}

type meteredFile struct {
	File
	m *Meter
}

var (
	_ Direct   = (*meteredFile)(nil)
	_ Gatherer = (*meteredFile)(nil)
	_ Prompt   = (*meteredFile)(nil)
)

// ReadAt implements File.
func (f *meteredFile) ReadAt(p []byte, off int64) (int, error) {
	start := f.m.Reads.Begin()
	n, err := f.File.ReadAt(p, off)
	if errors.Is(err, io.EOF) { // nothing is wrong with the disk
		f.m.Reads.Ended(start, int64(n), nil)
	} else {
		f.m.Reads.Ended(start, int64(n), err)
	}
	f.m.Reads.End()
	return n, err
}

// ReadNow implements Prompt. What would have to wait is no read yet.
func (f *meteredFile) ReadNow(p []byte, off int64) (int, error) {
	q, ok := f.File.(Prompt)
	if !ok {
		return f.ReadAt(p, off)
	}
	start := time.Now()
	n, err := q.ReadNow(p, off)
	switch {
	case errors.Is(err, ErrWouldWait):
	case errors.Is(err, io.EOF):
		f.m.Reads.Ended(start, int64(n), nil)
	default:
		f.m.Reads.Ended(start, int64(n), err)
	}
	return n, err
}

// WriteAt implements File.
func (f *meteredFile) WriteAt(p []byte, off int64) (int, error) {
	start := f.m.Writes.Begin()
	n, err := f.File.WriteAt(p, off)
	f.m.Writes.Ended(start, int64(n), err)
	f.m.Writes.End()
	return n, err
}

// GatherAt implements Gatherer; where the file can not, by a write for each part.
func (f *meteredFile) GatherAt(parts [][]byte, off int64) error {
	g, ok := f.File.(Gatherer)
	if !ok {
		return writeEach(f, parts, off)
	}
	size := int64(0)
	for _, p := range parts {
		size += int64(len(p))
	}
	start := f.m.Writes.Begin()
	err := g.GatherAt(parts, off)
	f.m.Writes.Ended(start, size, err)
	f.m.Writes.End()
	return err
}

// Sync implements File.
func (f *meteredFile) Sync() error {
	start := f.m.Syncs.Begin()
	err := f.File.Sync()
	f.m.Syncs.Ended(start, 0, err)
	f.m.Syncs.End()
	return err
}

// Direct implements Direct.
func (f *meteredFile) Direct(align int) error {
	if d, ok := f.File.(Direct); ok {
		return d.Direct(align)
	}
	return errors.ErrUnsupported
}
