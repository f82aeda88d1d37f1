package sim

import (
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// copies follows a journal backwards from its open extent, and says which closed extent has fewer than r whole, equal
// copies, if any. It ends at the first extent that cleaning has freed everywhere; that must lie before the anchor. It
// reads the stores' files as they are.
func (w *World) copies(x, anchor block.ExtentID, r int) string {
	open, old := true, false
	var end block.Hash // of the extent's last record, as its successor says
	for !x.IsZero() {
		var log []byte
		good, held := 0, 0
		for _, n := range w.nodes {
			if n.st == nil {
				continue
			}
			st, ok := n.st.Stat(x)
			if !ok {
				continue
			}
			held++
			if open || (st.Chain.Hash == end && !st.Unknown) {
				p := make([]byte, st.Chain.LogLen)
				if err := n.st.ReadLog(x, 0, p); err != nil {
					continue
				}
				var c journal.Chain
				if c.Walk(p, func(*journal.Record, block.Hash) error { return nil }) != nil || (!open && c.Hash != end) {
					continue
				}
				log = p
				good++
			}
		}
		if held == 0 && old {
			return ""
		}
		if log == nil {
			return fmt.Sprintf("extent %d.%d: no good copy of %d", x.Epoch, x.N, held)
		}
		if !open && good < r {
			return fmt.Sprintf("extent %d.%d: %d good copies of %d, want %d", x.Epoch, x.N, good, held, r)
		}
		first, _, err := journal.Parse(log)
		if err != nil {
			return err.Error()
		}
		o, err := journal.DecodeOpen(first.Body)
		if err != nil {
			return err.Error()
		}
		old = old || x == anchor
		x, end, open = o.Previous, first.Prev, false
	}
	return ""
}
