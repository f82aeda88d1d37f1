package layouts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

func body(t testing.TB, nodes, shards int) []byte {
	t.Helper()
	var in []placement.Node
	for i := range nodes {
		in = append(in, placement.Node{ID: fmt.Sprintf("node-%d", i), Weight: 1})
	}
	l, err := placement.Compute(in, placement.Params{Replicas: 1, Shards: shards}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if h := l.Hash(); h != block.Sum(b) {
		t.Fatalf("a layout's hash %x is not that of its encoding", h)
	}
	return b
}

func open(t testing.TB) *Files {
	t.Helper()
	f, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFiles(t *testing.T) {
	f := open(t)
	b := body(t, 3, 0)
	h, err := f.Put(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Get(h); err != nil || string(got) != string(b) {
		t.Fatal(err)
	}
	if _, err := f.Put(b[:len(b)-1]); !errors.Is(err, ErrInvalid) {
		t.Errorf("half a layout: %v", err)
	}
	if _, err := f.Get(block.Hash{1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("another hash: %v", err)
	}
	if err := os.WriteFile(f.path(h), b[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(h); !errors.Is(err, ErrNotFound) {
		t.Errorf("a damaged file: %v", err)
	}
	if _, err := f.Put(b); err != nil { // it is made good
		t.Fatal(err)
	}
	if _, err := f.Get(h); err != nil {
		t.Error(err)
	}
	var last block.Hash
	for i := range 2 * kept {
		if last, err = f.Put(body(t, 2+i, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if list, _ := os.ReadDir(f.dir); len(list) != kept {
		t.Errorf("%d files", len(list))
	}
	if _, err := f.Get(last); err != nil {
		t.Errorf("the newest: %v", err)
	}
}

func TestFetch(t *testing.T) {
	f := open(t)
	big := body(t, 300, 1<<20)
	if len(big) <= 2*piece {
		t.Fatalf("a body of %d bytes takes no three pieces", len(big))
	}
	h, err := f.Put(big)
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	change := func(status uint16, b []byte) (uint16, []byte, error) { return status, b, nil }
	call := func(_ context.Context, req []byte) (uint16, []byte, error) {
		calls++
		status, parts := f.answer(req)
		var b []byte
		for _, p := range parts {
			b = append(b, p...)
		}
		return change(status, b)
	}
	if got, err := Fetch(t.Context(), h, call); err != nil || string(got) != string(big) || calls < 3 {
		t.Fatalf("%d calls: %v", calls, err)
	}
	if _, err := Fetch(t.Context(), block.Hash{9}, call); !errors.Is(err, ErrNotFound) {
		t.Errorf("another hash: %v", err)
	}
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		change func(status uint16, b []byte) (uint16, []byte, error)
		want   error
	}{
		"a flipped bit": {func(s uint16, b []byte) (uint16, []byte, error) { b[100] ^= 1; return s, b, nil }, ErrInvalid},
		"no end":        {func(s uint16, b []byte) (uint16, []byte, error) { return s, b[:4], nil }, ErrInvalid},
		"short":         {func(s uint16, b []byte) (uint16, []byte, error) { return s, b[:3], nil }, ErrInvalid},
		"too much":      {func(s uint16, b []byte) (uint16, []byte, error) { return s, append(b, big...), nil }, ErrInvalid},
		"huge":          {func(s uint16, b []byte) (uint16, []byte, error) { b[3] = 255; return s, b, nil }, ErrInvalid},
		"refused":       {func(uint16, []byte) (uint16, []byte, error) { return replica.StatusNotHeld, nil, nil }, ErrNotFound},
		"broken":        {func(uint16, []byte) (uint16, []byte, error) { return 0, nil, gone }, gone},
	} {
		change = c.change
		if _, err := Fetch(t.Context(), h, call); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	files := open(f)
	h, err := files.Put(body(f, 3, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(h[:], 0, 0, 0, 0))
	f.Add(append(h[:], 255, 255, 255, 255))
	f.Fuzz(func(t *testing.T, b []byte) {
		if status, parts := files.answer(b); status == replica.StatusOK && len(parts) != 2 {
			t.Fatalf("%x: %d parts", b, len(parts))
		}
	})
}
