package placement

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// requireGolden compares text with a file in testdata.
func requireGolden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs: formats are for ever, and so is the choice of nodes; got\n%s", name, text)
	}
}

func dump(b []byte) string {
	var out strings.Builder
	for line := range slices.Chunk(b, 32) {
		fmt.Fprintln(&out, hex.EncodeToString(line))
	}
	return out.String()
}

func bytesOf(t rapid.TB, l *Layout) []byte {
	t.Helper()
	b, err := l.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// small is a pair of neighbouring layouts of few bytes.
func small(t testing.TB) (base, next *Layout) {
	t.Helper()
	members := []Node{
		{ID: "a", Zone: "x", Weight: 100}, {ID: "b", Zone: "y", Weight: 100},
		{ID: "c", Weight: 50, State: Draining}, {ID: "d", Zone: "y", Weight: 1 << 32, State: Down},
	}
	p := Params{Replicas: 2, Shards: 16}
	var err error
	if base, err = Compute(members, p, nil); err != nil {
		t.Fatal(err)
	}
	members[2].State, members[3] = Active, Node{ID: "e", Zone: "z", Weight: 7, State: Down}
	if next, err = Compute(members, p, base); err != nil {
		t.Fatal(err)
	}
	return base, next
}

func TestGolden(t *testing.T) {
	base, next := small(t)
	requireGolden(t, "full.hex", dump(bytesOf(t, base)))
	requireGolden(t, "delta.hex", dump(next.AppendDelta(nil, base)))
	wide, err := Compute(fleet(257, 3), Params{Replicas: 1, Shards: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The hashes also hold every choice of Compute still, on every architecture.
	text := fmt.Sprintf("%s 257 members, two bytes an entry\n", wide.Hash())
	for _, n := range []int{3, 30, 300} {
		l := must(t, city(n, 3), Params{Replicas: 3}, nil)
		more := must(t, city(n+1, 3), Params{Replicas: 3}, l)
		text += fmt.Sprintf("%s %d nodes\n%s %d nodes, then one more\n", l.Hash(), n, more.Hash(), n)
	}
	requireGolden(t, "hashes.txt", text)
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members, p := world(t, "first"), drawParams(t)
		l := must(t, members, p, nil)
		requireSame(t, l, bytesOf(t, l))
		members = unique(change(t, members, 3, 6))
		p.Replicas = rapid.IntRange(1, 5).Draw(t, "replicas after")
		next := must(t, members, p, l)
		requireSame(t, next, bytesOf(t, next))
		for _, pair := range [][2]*Layout{{l, next}, {next, l}, {l, l}} {
			got, err := ApplyDelta(pair[0], pair[1].AppendDelta(nil, pair[0]))
			if err != nil {
				t.Fatal(err)
			}
			requireSame(t, pair[1], bytesOf(t, got))
		}
	})
}

// requireSame: b decodes to l, and encodes to the same bytes again.
func requireSame(t *rapid.T, l *Layout, b []byte) {
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if !got.same(l) || got.Hash() != l.Hash() || got.Version() != l.Version() || !bytes.Equal(bytesOf(t, got), b) {
		t.Fatalf("%+v became %+v", l, got)
	}
}

func TestDeltaIsShort(t *testing.T) {
	l := must(t, fleet(300, 5), Params{Replicas: 3}, nil)
	next := must(t, fleet(301, 5), Params{Replicas: 3}, l)
	full, delta := len(bytesOf(t, next)), len(next.AppendDelta(nil, l))
	// 164 copies and about as many exchanges of first places, 8 bytes each, and one member.
	if delta > 8*4*164 {
		t.Errorf("a delta of %d bytes for a layout of %d", delta, full)
	}
}

// TestHostileBytes: any single byte changed, cut or added is refused or yields another layout, never the same; a
// delta is refused altogether.
func TestHostileBytes(t *testing.T) {
	base, next := small(t)
	full, delta := bytesOf(t, base), next.AppendDelta(nil, base)
	for i := range full {
		bad := bytes.Clone(full)
		bad[i] ^= 1
		if l, err := Decode(bad); err == nil && l.Hash() == base.Hash() {
			t.Errorf("byte %d of a layout does not count", i)
		} else if err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d: %v", i, err)
		}
		if _, err := Decode(full[:i]); !errors.Is(err, ErrFormat) {
			t.Errorf("a layout cut at %d: %v", i, err)
		}
	}
	for i := range delta {
		bad := bytes.Clone(delta)
		bad[i] ^= 1
		if _, err := ApplyDelta(base, bad); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrBase) {
			t.Errorf("byte %d of a delta: %v", i, err)
		}
		if _, err := ApplyDelta(base, delta[:i]); !errors.Is(err, ErrFormat) {
			t.Errorf("a delta cut at %d: %v", i, err)
		}
	}
	if _, err := Decode(append(full, 0)); !errors.Is(err, ErrFormat) {
		t.Errorf("a byte more: %v", err)
	}
	if _, err := ApplyDelta(base, append(delta, 0)); !errors.Is(err, ErrFormat) {
		t.Errorf("a byte more: %v", err)
	}
	if _, err := ApplyDelta(next, delta); !errors.Is(err, ErrBase) {
		t.Errorf("another base: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	base, next := small(f)
	for _, l := range []*Layout{base, next} {
		b, _ := l.AppendBinary(nil)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Decode(b)
		if err != nil {
			return
		}
		if again := l.encode(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes, and encodes as %x", b, again)
		}
		if err := l.checkTable(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzApplyDelta(f *testing.F) {
	base, next := small(f)
	f.Add(next.AppendDelta(nil, base)[deltaSize:], byte(2), byte(8), uint16(4))
	f.Fuzz(func(t *testing.T, body []byte, replicas, size byte, members uint16) {
		// A sound header, so that the body is reached; no body but the true one yields the promised hash.
		b := next.AppendDelta(nil, base)[:deltaSize]
		b[7], b[8], b[12], b[13] = replicas%4, size%12, byte(members), byte(members>>8)
		if l, err := ApplyDelta(base, append(b, body...)); err == nil && l.Hash() != next.Hash() {
			t.Fatalf("%x yields %s", body, l.Hash())
		}
	})
}
