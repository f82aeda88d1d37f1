package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
	"mynetwork.io/mynetwork/nodeagent/export/ublk"
)

// ublk is taken where it is offered and nothing else is demanded; a demand that cannot be met is an error.
func TestWantsUblk(t *testing.T) {
	for _, c := range []struct {
		demanded fuse.Transport
		offered  error
		want     bool
		err      error
	}{
		{"", nil, true, nil},
		{"", ublk.ErrUnavailable, false, nil},
		{Ublk, nil, true, nil},
		{Ublk, ublk.ErrUnavailable, true, ublk.ErrUnavailable},
		{fuse.DevFuse, nil, false, nil},
		{fuse.Uring, nil, false, nil},
	} {
		got, why, err := wantsUblk(c.demanded, func() error { return c.offered })
		if got != c.want || !errors.Is(err, c.err) || got && why == "" {
			t.Errorf("%q, offered %v: %v, %q, %v", c.demanded, c.offered, got, why, err)
		}
	}
	if err := offersUblk(served(t, t.TempDir())); !errors.Is(err, ErrFar) {
		t.Errorf("a mounter of another process: %v", err)
	}
	if _, err := os.Stat("/dev/ublk-control"); errors.Is(err, os.ErrNotExist) {
		if err := offersUblk(mounter.New(t.TempDir())); !errors.Is(err, ublk.ErrUnavailable) {
			t.Errorf("a kernel without ublk: %v", err)
		}
	}
}

// oneEntry is a holder with one entry.
type oneEntry struct {
	Keeper
	e *holder.Entry
}

func (o oneEntry) Get(context.Context, string) (*holder.Entry, error) { return o.e, nil }

// memory is a descriptor.
func memory(t *testing.T) int {
	t.Helper()
	fd, err := unix.MemfdCreate("m", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// Entries of all versions are read as they were written; those of newer ones are left alone.
func TestTransportIsKept(t *testing.T) {
	const conn = `"Conn":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16],"Path":"/dev/x","User":"dQ=="`
	for _, c := range []struct {
		meta           string
		device, memory int // descriptors
		kept           int // of memory, the caller's
		ended          bool
		err            error
	}{
		{`{"Version":1,` + conn + `}`, 1, 1, 1, false, nil},
		{`{"Version":2,` + conn + `,"Transport":"io_uring"}`, 0, 1, 1, true, nil},
		{`{"Version":3,` + conn + `,"Transport":"ublk","Ublk":{"Device":3,"Cookie":18446744073709551615}}`, 0, 2, 1, false, nil},
		{`{"Version":3,` + conn + `,"Transport":"ublk","Ublk":{"Device":3,"Cookie":1}}`, 0, 0, 0, false, ErrMeta},
		{`{"Version":3,` + conn + `,"Transport":"ublk"}`, 0, 2, 0, false, ErrMeta},
		{`{"Version":4,` + conn + `}`, 1, 1, 0, false, ErrMeta},
		{`{}`, 1, 1, 0, false, ErrMeta},
	} {
		e := &holder.Entry{Name: "vol", Meta: []byte(c.meta)}
		for range c.device {
			e.Device = append(e.Device, memory(t))
		}
		for range c.memory {
			e.Memory = append(e.Memory, memory(t))
		}
		k, err := Recover(t.Context(), oneEntry{e: e}, mounter.New(t.TempDir()), "vol")
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.meta, err)
		}
		if err != nil {
			continue
		}
		if string(k.Meta) != "u" || len(k.Memory) != c.kept || k.Ended != c.ended {
			t.Errorf("%s: meta %q, %d memories, ended %v", c.meta, k.Meta, len(k.Memory), k.Ended)
		}
		k.Release()
	}
}

// What is written for a device of ublk names it, and gives the table after the caller's own memory.
func TestUblkIsKept(t *testing.T) {
	raw, err := json.Marshal(meta{Version: metaVersion, Transport: Ublk, Ublk: &ublk.Kept{Device: 3, Cookie: 1<<64 - 1}, User: []byte("u")})
	want := `{"Version":3,"Conn":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"Path":"","User":"dQ==","Transport":"ublk","Ublk":{"Device":3,"Cookie":18446744073709551615}}`
	if err != nil || string(raw) != want {
		t.Errorf("%s, %v", raw, err)
	}
}

// The holder's end of foreign entries, and of FUSE's, does nothing here.
func TestEndOfOthers(t *testing.T) {
	for _, raw := range []string{"", "no json", "{}", `{"Version":1}`, `{"Version":2,"Transport":"io_uring"}`} {
		if err := End([]byte(raw)); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	}
	if _, err := os.Stat("/dev/ublk-control"); errors.Is(err, os.ErrNotExist) { // the control: one of ublk is tried to be ended
		if err := End(fmt.Appendf(nil, `{"Version":3,"Ublk":{"Device":1}}`)); !errors.Is(err, ublk.ErrUnavailable) {
			t.Errorf("a device of ublk: %v", err)
		}
	}
}
