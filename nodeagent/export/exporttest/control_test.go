package exporttest

import (
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// faultEnv names the rule that the direct front end breaks in a run of this test binary by itself.
const faultEnv = "EXPORT_TEST_FAULT"

// direct is a front end without a kernel: it calls the backend.
type direct struct {
	b     export.Backend
	fault string
	n     atomic.Uint64
	done  chan struct{}
}

var _ Disk = (*direct)(nil)

func (d *direct) Size() (int64, error) {
	if d.fault == "old size" {
		return suiteVol, nil
	}
	return d.b.Size(), nil
}

func (d *direct) ReadAt(p []byte, off int64) (int, error) {
	if err := export.CheckRange(off, int64(len(p)), d.b.Size()); err != nil {
		return 0, err
	}
	if d.fault == "wrong block" && len(p) > mib {
		off = 0
	}
	if ok, err := d.b.TryRead(p, off, nil); ok {
		return len(p), err
	}
	return len(p), d.b.Read(p, off)
}

func (d *direct) change(f func(id export.RequestID) error) error {
	var conn [16]byte
	binary.LittleEndian.PutUint64(conn[:], d.n.Add(1))
	id := export.NewRequestID(conn, 0)
	err := f(id)
	if err == nil && d.fault != "no answer" {
		d.b.Answered(id)
	}
	return err
}

func (d *direct) WriteAt(p []byte, off int64) (int, error) {
	if err := export.CheckRange(off, int64(len(p)), d.b.Size()); err != nil && d.fault != "no end" {
		return 0, err
	} else if err != nil {
		return len(p), nil
	}
	err := d.change(func(id export.RequestID) error { return d.b.Write(id, p, off) })
	if d.fault == "errors swallowed" {
		err = nil
	}
	return len(p), err
}

func (d *direct) Flush() error {
	if d.fault == "no flush" {
		return nil
	}
	return d.b.Flush()
}

func (d *direct) Discard(off, n int64) error {
	if d.fault == "discard too long" {
		n += export.BlockSize
	}
	return d.change(func(id export.RequestID) error { return d.b.Discard(id, off, n) })
}

func (d *direct) Zero(off, n int64) error {
	return d.change(func(id export.RequestID) error { return d.b.WriteZeroes(id, off, n) })
}

func (d *direct) Close() error { return nil }

// directDevice is the device side of direct.
type directDevice struct{ *direct }

func (d directDevice) Path() string                { return "" }
func (d directDevice) Done() <-chan struct{}       { return d.done }
func (d directDevice) Err() error                  { return nil }
func (d directDevice) Close(context.Context) error { return nil }

func (d directDevice) Resize(_ context.Context, n int64) error {
	switch have := d.b.Size(); {
	case n > 0 && n%export.BlockSize == 0 && n < have && d.fault != "shrinks":
		return export.ErrShrink
	case n != have && d.fault != "shrinks":
		return export.ErrSize
	}
	return nil
}

func TestDirect(t *testing.T) {
	Run(t, Front{
		Open: func(_ testing.TB, b export.Backend) (export.Device, Disk) {
			d := &direct{b: b, fault: os.Getenv(faultEnv), done: make(chan struct{})}
			if d.fault != "no resent" {
				b.Resent()
			}
			return directDevice{d}, d
		},
	})
}

// The suite fails a front end that breaks any one rule, in the case that is there for it.
func TestFaultsAreFound(t *testing.T) {
	for fault, in := range map[string]string{
		"old size":         "resize",
		"wrong block":      "read_what_was_written",
		"no answer":        "every_write_is_answered_once",
		"no resent":        "every_write_is_answered_once",
		"no end":           "ends_of_the_volume",
		"errors swallowed": "failures_are_told",
		"no flush":         "flush_reaches_the_backend",
		"discard too long": "discard_and_zero",
		"shrinks":          "sizes_that_are_refused",
	} {
		t.Run(fault, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestDirect$/"+in)
			cmd.Env = append(os.Environ(), faultEnv+"="+fault)
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("the suite passes it:\n%s", out)
			}
		})
	}
}
