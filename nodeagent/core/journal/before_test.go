package journal

import (
	"errors"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// TestCheckpointBefore: the latest checkpoint before an extent is found wherever it lies, also where the extent's open record, which was written
// before that became durable, names an earlier one or none. Where the one that is named is not, that is an error; so is a log that cannot be read.
func TestCheckpointBefore(t *testing.T) {
	errLost := errors.New("lost")
	id := func(n uint32) block.ExtentID { return block.ExtentID{Epoch: 1, N: n} }
	for name, c := range map[string]struct {
		named uint32 // extent of the checkpoint that the open record of extent 4 names; 0: none
		has   map[uint32]uint64
		lost  uint32
		want  uint64 // 0: none
		at    uint32
		fails error
	}{
		"it is where the record says":     {named: 3, has: map[uint32]uint64{3: 30}, want: 30, at: 3},
		"further back, where it says":     {named: 1, has: map[uint32]uint64{1: 10}, want: 10, at: 1},
		"in between, behind another one":  {named: 1, has: map[uint32]uint64{1: 10, 2: 20}, want: 20, at: 2},
		"in between, the first of all":    {has: map[uint32]uint64{2: 20}, want: 20, at: 2},
		"there is none yet":               {},
		"not where the record says":       {named: 2, has: map[uint32]uint64{1: 10}, at: 2, fails: ErrNoCheckpoint},
		"a log on the way cannot be read": {named: 1, has: map[uint32]uint64{1: 10}, lost: 2, at: 2, fails: errLost},
	} {
		look := func(x block.ExtentID) (open Open, found *Checkpoint, err error) {
			if x.N == c.lost {
				return open, nil, errLost
			}
			if open.Extent = x; x.N > 1 {
				open.Previous = id(x.N - 1)
			}
			if seq := c.has[x.N]; seq != 0 {
				found = &Checkpoint{WSeq: seq}
			}
			return open, found, nil
		}
		open := Open{Extent: id(4), Previous: id(3)}
		if c.named != 0 {
			open.Checkpoint.Extent = id(c.named)
		}
		got, at, err := CheckpointBefore(open, look)
		var seq uint64
		if got != nil {
			seq = got.WSeq
		}
		if seq != c.want || at.N != c.at || !errors.Is(err, c.fails) {
			t.Errorf("%s: checkpoint %d at extent %d, %v; want %d at %d", name, seq, at.N, err, c.want, c.at)
		}
	}
}
