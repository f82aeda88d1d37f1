package volume

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// TestForgedJournal has a replica append a record of its own to its log, well-formed and in the chain: a discard of the whole
// volume, and a longer log than that of any other. Without the volume's key it can not vouch for it. The control is a volume
// that is not encrypted: there the chain stands on the identity of the peers, and the record is taken.
func TestForgedJournal(t *testing.T) {
	for _, key := range [][]byte{bytes.Repeat([]byte{5}, 32), nil} {
		w := newWorld(t, 3)
		s := w.create(1)
		s.Key = key
		e := w.open(s, Options{})
		want := fill(make([]byte, 4*block.PageSize), 1)
		must(t, e.Write(ring.ID{}, want, 0))
		must(t, e.Flush())
		epoch, x, end := e.Status().Epoch, e.Status().Extent, e.Status().Appended
		c := &replica.Client{Env: w.env, Transport: w}
		st, err := c.Stat(w.ids[1], x)
		for err == nil && st.Chain.Seq < end {
			st, err = c.Stat(w.ids[1], x)
		}
		must(t, errors.Join(err, e.Close(false)))
		d := journal.Discard{Page: 0, Count: s.Pages}
		r := journal.Record{Type: journal.TypeDiscard, Body: d.Encode(), Seq: st.Chain.Seq + 1, Epoch: epoch, Prev: st.Chain.Hash,
			LogOff: st.Chain.LogLen, DataOff: st.Chain.DataLen, WSeq: 100}
		rec, _ := r.Append(nil)
		must(t, c.Append(w.ids[1], epoch, x, rec, nil))
		w.setDown(w.ids[2], true) // the forger is needed for the majority
		opened := make(chan error)
		go func() {
			var err error
			e, err = Open(w.deps(), s, Options{Ring: make([]byte, 4<<20), Force: true})
			opened <- err
		}()
		if key != nil { // its log counts for nothing: the third is waited for
			st, err := c.Stat(w.ids[1], x)
			for err == nil && st.Promised.Number < 2 {
				st, err = c.Stat(w.ids[1], x)
			}
			must(t, err)
			w.setDown(w.ids[2], false)
		}
		must(t, <-opened)
		got := make([]byte, len(want))
		must(t, e.Read(got, 0))
		if forged := !bytes.Equal(got, want); forged != (key == nil) {
			t.Errorf("encrypted %v: the forged record was taken: %v", key != nil, forged)
		}
		must(t, e.Close(false))
	}
}

// TestRottenKeyedHash: the chain does not cover the keyed hash, so a copy is asked for it before it counts; one without a key has none. What
// nobody with the key has opened is not looked at when a journal is searched.
func TestRottenKeyedHash(t *testing.T) {
	for _, key := range [][]byte{bytes.Repeat([]byte{5}, 32), nil} {
		w := newWorld(t, 3)
		s := w.create(1)
		s.Key = key
		e := w.open(s, Options{})
		must(t, e.Write(ring.ID{}, make([]byte, block.PageSize), 0))
		must(t, e.Flush())
		x, id := e.Status().Extent, w.ids[0]
		c := &replica.Client{Env: w.env, Transport: w}
		st, err := c.Stat(id, x)
		for err == nil && st.Chain.Seq < e.Status().Appended {
			st, err = c.Stat(id, x)
		}
		must(t, err)
		if !e.vouched(id, x, &st) {
			t.Fatal("a good copy is not")
		}
		log := make([]byte, st.Chain.LogLen)
		must(t, c.Read(id, replica.TypeReadLog, x, 0, log))
		forged := x
		forged.N += 100
		r, _, err := journal.Parse(log)
		must(t, err)
		open, err := journal.DecodeOpen(r.Body)
		must(t, err)
		open.Extent = forged
		r.Body, r.MAC = open.Encode(), [16]byte{1}
		rec, _ := r.Append(nil)
		must(t, c.Append(id, r.Epoch, forged, rec, nil))
		found := e.surveyStores(s.ID, nil)
		if _, _, err := found.first(forged); (err != nil) != (key != nil) {
			t.Errorf("encrypted %v: a forged extent is looked at: %v", key != nil, err == nil)
		}
		if _, _, err := found.first(x); err != nil {
			t.Error(err)
		}
		last := 0
		for at, n := 0, 0; at < len(log); at += n {
			_, n, err = journal.Parse(log[at:])
			must(t, err)
			last = at
		}
		w.inFiles(id, x)
		must(t, w.node[id].fs.FlipBit("ext/"+shardOf(x)+"/"+x.String()+".log", int64(last+journal.HeaderSize-1), 3))
		if e.vouched(id, x, &st) != (key == nil) {
			t.Errorf("encrypted %v: a rotten keyed hash counts", key != nil)
		}
		must(t, e.Close(false))
	}
}

// shardOf is the directory of an extent's files.
func shardOf(x block.ExtentID) string {
	k := x.Key()
	return hex.EncodeToString(k[:1])
}
