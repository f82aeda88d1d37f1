package caretaker

import (
	"reflect"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

func sid(n int) block.StoreID { return block.StoreID{byte(n + 1)} }

var testVolume = block.VolumeID{9}

func xid(n int) block.ExtentID { return block.ExtentID{Volume: testVolume, Epoch: 1, N: uint32(n)} }

// net makes a network of a store each on nodes a, b, ...; the layout's order is that of the names. Each letter says how a node is:
// u up, d down, g given up, l leaving, s down and not in the layout.
func net(states string) *Network {
	n := &Network{Version: 3, Stores: map[block.StoreID]Place{}}
	var order []block.StoreID
	for i, c := range states {
		p := Place{Node: string(rune('a' + i)), Alive: c == 'u' || c == 'l', Takes: c != 'l' && c != 's', Gone: c == 'g'}
		n.Stores[sid(i)] = p
		if p.Takes {
			order = append(order, sid(i))
		}
	}
	n.Candidates = func(block.Hash) []block.StoreID { return order }
	return n
}

// hold says which stores hold extents 1 and 2 (the newest): letters of nodes; a capital has only a part.
func hold(extents ...string) map[block.StoreID][]replica.Holding {
	out := map[block.StoreID][]replica.Holding{}
	for i, who := range extents {
		for _, c := range who {
			h := replica.Holding{Extent: xid(i + 1), Seq: 10, Hash: block.Hash{1}}
			if c >= 'A' && c <= 'Z' {
				c, h.Seq, h.Hash = c-'A'+'a', 5, block.Hash{2}
			}
			out[sid(int(c-'a'))] = append(out[sid(int(c-'a'))], h)
		}
	}
	return out
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name          string
		net           string
		held          []string
		want          int
		todo, copies  int
		missing, last map[int]int
	}{
		{"all is there", "uuu", []string{"abc", "abc"}, 3, 0, 3, nil, nil},
		{"a copy is missing", "uuu", []string{"ab", "abc"}, 3, 1, 2, map[int]int{2: 1}, nil},
		{"a copy is short", "uuu", []string{"abC", "abc"}, 3, 1, 2, map[int]int{2: 1}, nil},
		{"the newest may be written to", "uuu", []string{"abc", "abC"}, 3, 0, 3, nil, nil},
		{"the newest lacks a copy", "uuu", []string{"abc", "ab"}, 3, 1, 2, map[int]int{2: 1}, nil},
		{"who is away is waited for", "uud", []string{"ab", "ab"}, 3, 0, 3, nil, nil},
		{"who is given up is not", "uugu", []string{"ab", "abd"}, 3, 1, 2, map[int]int{3: 1}, nil},
		{"nor who is out of the layout", "uusu", []string{"ab", "abd"}, 3, 1, 2, map[int]int{3: 1}, nil},
		{"fewer nodes than copies", "uus", []string{"ab", "ab"}, 3, 0, 2, nil, nil},
		{"the last copy", "udd", []string{"a", "a"}, 3, 0, 3, nil, map[int]int{0: 2}},
		{"the last whole copy", "uud", []string{"aB", "ab"}, 3, 1, 2, map[int]int{1: 1}, map[int]int{0: 1}},
		{"one copy is wanted", "uuu", []string{"a", "a"}, 1, 0, 1, nil, nil},
		{"one copy, and its node leaves", "luu", []string{"a", "b"}, 1, 2, 1, map[int]int{1: 1}, map[int]int{0: 1}},
		{"a node leaves", "luuu", []string{"abc", "bcd"}, 3, 2, 3, map[int]int{3: 1}, nil},
		{"a leaver has one too many", "luuu", []string{"abcd", "bcd"}, 3, 1, 3, nil, nil},
		{"a node has joined, and the newest lies elsewhere", "uuuu", []string{"abc", "bcd"}, 3, 0, 3, nil, nil},
		{"a node has joined, and a closed one lies elsewhere", "uuuu", []string{"bcd", "abc"}, 3, 1, 3, map[int]int{0: 1}, nil},
		{"the newest lies elsewhere, on one that leaves", "uuul", []string{"abc", "bcd"}, 3, 2, 3, map[int]int{0: 1}, nil},
		{"nobody knows how many", "uuu", []string{"a", "ab"}, 0, 0, 1, nil, map[int]int{0: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := judge(net(c.net), c.want, hold(c.held...))
			if v.Todo != c.todo || v.Copies != c.copies || v.Layout != 3 {
				t.Errorf("todo %d, copies %d; want %d, %d", v.Todo, v.Copies, c.todo, c.copies)
			}
			for s, sh := range v.Stores {
				if i := int(s[0]) - 1; sh.Missing != c.missing[i] || sh.Last != c.last[i] {
					t.Errorf("%s: missing %d, last %d; want %d, %d", string(rune('a'+i)), sh.Missing, sh.Last, c.missing[i], c.last[i])
				}
			}
		})
	}
}

func TestWord(t *testing.T) {
	w := Word{Layout: 7, Volumes: map[block.VolumeID]said{{1}: {1, 2}, {2}: {0, 0}}}
	b := w.Encode()
	got, err := DecodeWord(b)
	if err != nil || got.Layout != 7 || len(got.Volumes) != 2 || got.Volumes[block.VolumeID{1}] != (said{1, 2}) || !sortedEqual(b, got.Encode()) {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range [][]byte{nil, b[:5], b[:len(b)-1], append([]byte{9}, b[1:]...)} {
		if _, err := DecodeWord(bad); err == nil {
			t.Errorf("%x was taken", bad)
		}
	}
}

func FuzzWord(f *testing.F) {
	w := Word{Layout: 7, Volumes: map[block.VolumeID]said{{1}: {1, 2}}}
	f.Add(w.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if w, err := DecodeWord(b); err == nil && len(w.Encode()) > len(b) {
			t.Fatalf("%x grew", b)
		}
	})
}

// TestFigures: a node believes of its copies what the warden of each volume says; of what nobody has spoken it takes them for the last, after
// a while; it has synced a layout once all wardens have spoken under it, and nothing is missing.
func TestFigures(t *testing.T) {
	now := time.Unix(1000, 0)
	n, w := net("uud"), newWords()
	here := map[block.VolumeID]int{testVolume: 4}
	want := func(what string, f Figures) {
		t.Helper()
		if got := w.figures(now, n, here); !reflect.DeepEqual(got, f) {
			t.Errorf("%s: %+v, want %+v", what, got, f)
		}
	}
	want("nobody has spoken yet", Figures{})
	now = now.Add(unspoken)
	want("for a minute", Figures{Last: 4, Volumes: []block.VolumeID{testVolume}})
	w.put("b", Word{Layout: 3, Volumes: map[block.VolumeID]said{testVolume: {0, 9}}})
	want("who is not the warden does not count", Figures{Last: 4, Volumes: []block.VolumeID{testVolume}})
	w.put("a", Word{Layout: 2, Volumes: map[block.VolumeID]said{testVolume: {1, 0}}})
	want("under an older layout", Figures{Last: 1, Synced: 2, Volumes: []block.VolumeID{testVolume}})
	w.put("a", Word{Layout: 3, Volumes: map[block.VolumeID]said{testVolume: {0, 2}}})
	want("copies are missing", Figures{Missing: 2, Synced: 2})
	w.put("a", Word{Layout: 3, Volumes: map[block.VolumeID]said{testVolume: {0, 0}}})
	want("all is here", Figures{Synced: 3})
	w.put("c", Word{Layout: 1})
	want("who is down is no warden", Figures{Synced: 3})
}
