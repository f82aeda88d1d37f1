package store

import (
	"encoding/hex"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files in testdata")

// golden compares bytes with testdata/name.hex: a change of a format must be meant.
func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".hex")
	text := hex.Dump(b)
	if *rewrite {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != strings.ReplaceAll(string(want), "\r", "") {
		t.Errorf("%s changed:\n%s", name, text)
	}
}

func goldenState() *state {
	st := newState()
	st.generation, st.start, st.lsn, st.unsure = 3, place{3<<32 + 7, 2, 40, 90}, 99, true
	st.promises[block.VolumeID{1}] = promise{block.Epoch{Number: 5, Token: 6, Session: 7}, true}
	st.promises[block.VolumeID{2}] = promise{block.Epoch{Number: 8}, false}
	st.tombs[block.VolumeID{3}] = []byte("signed")
	st.meta["key"] = []byte("value")
	st.open[testID(1, 2)] = openExtent{1000, block.Hash{9}, 88, true}
	return st
}

func goldenFooter() footer {
	id := testID(1, 2)
	return footer{extent: id, lsn: 77, logCRC: 0x01020304, open: journal.Open{Extent: id, Replicas: 1, Quorum: 1, Capacity: 4096, Members: []block.StoreID{{2}}},
		closed: journal.Closed{Next: testID(1, 3)}, chain: journal.Chain{Seq: 9, Hash: block.Hash{8}, Epoch: block.Epoch{Number: 1}, LogLen: 700, DataLen: 800, Closed: true}}
}

// goldenStream stages one entry of each kind and gives the sectors of their batch.
func goldenSectors(t testing.TB) []byte {
	s := opened(t, formatted(t, small), small)
	w := newScribe(testID(1, 1))
	appendOK(t, s, w.id, w.open(1<<20), nil)
	for _, n := range []int{1, 3} {
		rec, payload := w.pages(n, rand.New(rand.NewPCG(1, 1)))
		appendOK(t, s, w.id, rec, payload)
	}
	for _, err := range []error{
		func() error { _, err := s.Promise(block.VolumeID{1}, block.Epoch{Number: 5, Token: 6}); return err }(),
		func() error { _, err := s.Cut(w.id, 1); return err }(),
		func() error { _, err := s.Free(w.id); return err }(),
		func() error { _, err := s.DropVolume(block.VolumeID{4}, []byte("signed")); return err }(),
		func() error { _, err := s.SetMeta("key", []byte("value")); return err }(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b := s.cur
	b.finish(sectorSize)
	stamp(b.buf, 3<<32+7, slotSeed(testSuper.Store, 1), 40)
	return b.buf
}

func TestGolden(t *testing.T) {
	o, _ := small.withDefaults()
	golden(t, "superblock", testSuper.encode(&o))
	golden(t, "state", goldenState().encode())
	ft := goldenFooter()
	golden(t, "footer", ft.encode())
	sectors := goldenSectors(t)
	golden(t, "batch", sectors)

	var back Options
	if sb, err := decodeSuper(twice(testSuper.encode(&o)), &back); err != nil || sb != testSuper || back.SegmentSize != o.SegmentSize {
		t.Error(sb, back, err)
	}
	if st, err := decodeState(twice(goldenState().encode())); err != nil || !reflect.DeepEqual(st, goldenState()) {
		t.Errorf("%+v %v", st, err)
	}
	if got, err := decodeFooter(ft.encode()); err != nil || !reflect.DeepEqual(got, ft) {
		t.Errorf("%+v %v", got, err)
	}
	var kinds []uint8
	for i := 0; i < len(sectors); i += sectorSize {
		if kind, in := readSector(sectors[i:i+sectorSize], slotSeed(testSuper.Store, 1), 40+i/sectorSize); kind != sectorGood || in.index != i/sectorSize {
			t.Fatal(i, kind, in)
		}
	}
	err := decodeStream(unwrap(sectors), func(e *entry) error { kinds = append(kinds, e.kind); return nil })
	if want := []uint8{1, 1, 2, 3, 4, 5, 6, 7}; err != nil || !reflect.DeepEqual(kinds, want) {
		t.Error(kinds, err)
	}
}

// A sector is good only at its own place of its own store.
func TestSectorKnowsItsPlace(t *testing.T) {
	p := goldenSectors(t)[:sectorSize]
	for what, at := range map[string]struct {
		store  block.StoreID
		slot   int
		sector int
		want   sectorKind
	}{
		"here":          {testSuper.Store, 1, 40, sectorGood},
		"other sector":  {testSuper.Store, 1, 41, sectorBad},
		"other segment": {testSuper.Store, 2, 40, sectorBad},
		"other store":   {block.StoreID{9}, 1, 40, sectorBad},
	} {
		if kind, _ := readSector(p, slotSeed(at.store, at.slot), at.sector); kind != at.want {
			t.Errorf("%s: %d", what, kind)
		}
	}
	if kind, _ := readSector(make([]byte, sectorSize), 1, 1); kind != sectorEmpty {
		t.Error("zeros")
	}
}

func FuzzSuperblock(f *testing.F) {
	o, _ := small.withDefaults()
	f.Add(testSuper.encode(&o))
	f.Fuzz(func(t *testing.T, b []byte) {
		var o Options
		if _, err := decodeSuper(b, &o); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		refit(b)
		_, _ = decodeSuper(b, &o)
	})
}

func FuzzState(f *testing.F) {
	f.Add(goldenState().encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		refit(b)
		st, err := decodeState(b)
		if err != nil {
			return
		}
		if again, err := decodeState(twice(st.encode())); err != nil || !reflect.DeepEqual(again, st) {
			t.Fatalf("%+v %+v %v", again, st, err)
		}
	})
}

func FuzzFooter(f *testing.F) {
	ft := goldenFooter()
	f.Add(ft.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		refit(b)
		ft, err := decodeFooter(b)
		if err != nil {
			return
		}
		if again, err := decodeFooter(ft.encode()); err != nil || !reflect.DeepEqual(again, ft) {
			t.Fatalf("%+v %+v %v", again, ft, err)
		}
	})
}

// FuzzLog decodes batches whose sectors are good but whose content is anything.
func FuzzLog(f *testing.F) {
	var e enc
	e.u64(7)
	e.u32(8 + 37)
	e.u32(1)
	e.raw([]byte{kindPromise, 0, 0, 0, 37, 0, 0, 0})
	e.raw(make([]byte, 37))
	f.Add(e.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		err := decodeStream(b, func(e *entry) error { n += len(e.rec) + len(e.payload) + 1; return nil })
		if err != nil && !errors.Is(err, ErrCorrupt) || n > 2*len(b) {
			t.Fatal(n, err)
		}
		if len(b) >= sectorSize {
			readSector(b[:sectorSize], 1, 2)
		}
	})
}

// refit gives an envelope the checksum and length it needs to get past the door.
func refit(b []byte) {
	if len(b) < envelopeSize {
		return
	}
	le.PutUint32(b[8:], min(le.Uint32(b[8:]), uint32(len(b)-envelopeSize)))
	env := b[:envelopeSize+int(le.Uint32(b[8:]))]
	le.PutUint32(b[12:], envelopeCRC(env))
}
