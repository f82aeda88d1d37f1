package disk_test

import (
	"errors"
	"io"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/disk"
)

// TestMetered: what went to the disk is counted, failures as such; the end of a file is none.
func TestMetered(t *testing.T) {
	var m disk.Meter
	bad := errors.New("medium error")
	var fail error
	d := disk.NewMetered(disk.NewFaults(disk.NewMem(1<<20), func(disk.Op) disk.Fault { return disk.Fault{Err: fail} }), &m)
	f, err := d.Create("f")
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 8192)
	if _, err := f.WriteAt(p[:4096], 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), d.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	if n, err := f.ReadAt(p, 0); n != 4096 || !errors.Is(err, io.EOF) {
		t.Fatal(n, err)
	}
	if m.Writes.Bytes.Load() != 4096 || m.Reads.Bytes.Load() != 4096 || m.Reads.Errors.Load() != 0 || m.Syncs.Took.Read().Count != 2 {
		t.Errorf("%d written, %d read, %d errors, %d syncs", m.Writes.Bytes.Load(), m.Reads.Bytes.Load(), m.Reads.Errors.Load(), m.Syncs.Took.Read().Count)
	}
	fail = bad
	_, err = f.ReadAt(p[:1], 0)
	_, err2 := f.WriteAt(p, 0)
	if !errors.Is(errors.Join(err, err2), bad) || !errors.Is(f.Sync(), bad) {
		t.Error("answers are changed")
	}
	if m.Writes.Errors.Load() != 1 || m.Reads.Errors.Load() != 1 || m.Syncs.Errors.Load() != 1 {
		t.Errorf("%d, %d, %d errors", m.Writes.Errors.Load(), m.Reads.Errors.Load(), m.Syncs.Errors.Load())
	}
}
