package replica

import (
	"cmp"
	"encoding/binary"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// A store that does not hold an extent may have been away when it was opened, or may have freed it since. To a recovery that
// differs: only in the first case can the others' copies be the end of the journal. So a store remembers which extents it freed that
// were closed here: these the journal has left behind, as nothing is freed before a later place is durable. A copy that was not
// closed says nothing when it is gone: its extent was opened in vain (and its number may be minted again), or a quorum of others
// had it closed, each of which remembers.
//
// Kept under past/ as ranges, each epoch u64, first u32, last u32, in order. There may be too many, and damage may have cost a copy
// its closed record: under freed/ is kept, as epoch u64, number u32, up to which extent (by epoch and number, in which a writer mints
// them) it is not sure that it never had one closed.

func freedKey(v block.VolumeID) string { return "freed/" + v.String() }
func pastKey(v block.VolumeID) string  { return "past/" + v.String() }

// maxPast is how many ranges are kept: 1 KiB, which is rewritten with each extent that is freed.
const maxPast = 64

const pastSize = 16

// pastRange is the extents first to last of an epoch.
type pastRange struct {
	epoch       uint64
	first, last uint32
}

// noteFreed stages what is remembered of an extent that is held and is about to be freed. The caller holds mu.
func (s *Server) noteFreed(x block.ExtentID) error {
	st, held := s.store.Stat(x)
	switch {
	case !held:
		return nil
	case st.Unknown:
		return s.unsureUpTo(x)
	case !st.Chain.Closed || s.isPast(x):
		return nil
	}
	list := addPast(getPast(s.store.Meta(pastKey(x.Volume))), x)
	if len(list) > maxPast {
		if err := s.unsureUpTo(block.ExtentID{Volume: x.Volume, Epoch: list[0].epoch, N: list[0].last}); err != nil {
			return err
		}
		list = list[1:]
	}
	_, err := s.store.SetMeta(pastKey(x.Volume), putPast(list))
	return err
}

// unsureUpTo raises the mark of what may have been here.
func (s *Server) unsureUpTo(x block.ExtentID) error {
	if s.mayHaveFreed(x) {
		return nil
	}
	b := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(nil, x.Epoch), x.N)
	_, err := s.store.SetMeta(freedKey(x.Volume), b)
	return err
}

// mayHaveFreed tells whether an extent that is not held may have been here, closed.
func (s *Server) mayHaveFreed(x block.ExtentID) bool {
	b := s.store.Meta(freedKey(x.Volume))
	if len(b) != 12 {
		return false
	}
	epoch, n := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])
	return x.Epoch < epoch || (x.Epoch == epoch && x.N <= n)
}

// isPast tells whether an extent was here, closed, and was freed.
func (s *Server) isPast(x block.ExtentID) bool {
	for _, r := range getPast(s.store.Meta(pastKey(x.Volume))) {
		if r.epoch == x.Epoch && r.first <= x.N && x.N <= r.last {
			return true
		}
	}
	return false
}

func getPast(b []byte) (out []pastRange) {
	for ; len(b) >= pastSize; b = b[pastSize:] {
		out = append(out, pastRange{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])})
	}
	return out
}

func putPast(list []pastRange) (b []byte) {
	for _, r := range list {
		b = binary.LittleEndian.AppendUint64(b, r.epoch)
		b = binary.LittleEndian.AppendUint32(b, r.first)
		b = binary.LittleEndian.AppendUint32(b, r.last)
	}
	return b
}

// addPast enters an extent that list does not have.
func addPast(list []pastRange, x block.ExtentID) (out []pastRange) {
	list = append(list, pastRange{x.Epoch, x.N, x.N})
	slices.SortFunc(list, func(a, b pastRange) int { return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.first, b.first)) })
	for _, r := range list {
		if n := len(out); n > 0 && out[n-1].epoch == r.epoch && out[n-1].last+1 == r.first {
			out[n-1].last = r.last
		} else {
			out = append(out, r)
		}
	}
	return out
}

// forgetFreed drops what is remembered with the volume. The caller holds mu.
func (s *Server) forgetFreed(v block.VolumeID) error {
	for _, key := range []string{freedKey(v), pastKey(v)} {
		if s.store.Meta(key) == nil {
			continue
		}
		if _, err := s.store.SetMeta(key, nil); err != nil {
			return err
		}
	}
	return nil
}
