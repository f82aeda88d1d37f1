package volume

import (
	"math/rand/v2"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// TestHashAhead: whatever follows in the ring, each page has its own sum: also where the slot that was hashed ahead is stored otherwise than it is in
// the ring, is not the next one to come, or has other pages.
func TestHashAhead(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var l logState
	ahead := 0
	page := func() []byte {
		p := make([]byte, block.PageSize)
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		return p
	}
	slots := make([]ring.Slot, 400)
	for i := range slots {
		n := 1 + max(0, rng.IntN(8)-5)
		slots[i] = ring.Slot{WSeq: uint64(i + 1), Pages: uint64(n)}
		for range n {
			slots[i].Payload = append(slots[i].Payload, page()...)
		}
	}
	for i := range slots {
		s := &slots[i]
		if rng.IntN(10) == 0 {
			continue // a recovery went on from another place
		}
		for j := range int(s.Pages) {
			l.stored[j] = s.Payload[j*block.PageSize:][:block.PageSize]
			switch rng.IntN(8) {
			case 0:
				l.stored[j] = l.stored[j][:0]
			case 1:
				l.stored[j] = page()
			}
		}
		var then []byte
		if i+1 < len(slots) && rng.IntN(4) != 0 {
			then = slots[i+1].Payload
		}
		if l.ahead.wseq == s.WSeq {
			ahead++
		}
		l.hash(s, then)
		for j := range int(s.Pages) {
			if l.sums[j] != block.Sum(l.stored[j]) {
				t.Fatalf("slot %d page %d has another sum", i, j)
			}
		}
	}
	if ahead < 20 {
		t.Errorf("%d were hashed ahead", ahead)
	}
}
