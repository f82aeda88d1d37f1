package replica

import (
	"encoding/binary"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// A store that does not hold an extent may have been away when it was opened, or may have freed it since. To a recovery that
// differs: only in the first case can the others' copies be the end of the journal. So a store remembers, for each volume,
// the highest extent (by epoch and number, in which a writer mints them) that it freed; it is sure that it never held what
// lies above. Kept as epoch u64, number u32.

func freedKey(v block.VolumeID) string { return "freed/" + v.String() }

// noteFreed stages the mark of an extent that is held and is about to be freed. The caller holds mu.
func (s *Server) noteFreed(x block.ExtentID) error {
	if _, held := s.store.Stat(x); !held || s.mayHaveFreed(x) {
		return nil
	}
	b := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(nil, x.Epoch), x.N)
	_, err := s.store.SetMeta(freedKey(x.Volume), b)
	return err
}

// mayHaveFreed tells whether an extent that is not held may have been here.
func (s *Server) mayHaveFreed(x block.ExtentID) bool {
	b := s.store.Meta(freedKey(x.Volume))
	if len(b) != 12 {
		return false
	}
	epoch, n := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])
	return x.Epoch < epoch || (x.Epoch == epoch && x.N <= n)
}

// forgetFreed drops the mark with the volume. The caller holds mu.
func (s *Server) forgetFreed(v block.VolumeID) error {
	if s.store.Meta(freedKey(v)) == nil {
		return nil
	}
	_, err := s.store.SetMeta(freedKey(v), nil)
	return err
}
