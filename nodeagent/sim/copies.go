package sim

import (
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// copies follows a journal backwards from its open extent, and says which closed extent has fewer than r whole, equal
// copies, if any. It reads the stores' files as they are. It ends at the first extent before the anchor that fewer than r
// stores hold: cleaning is about to free it. (Were it missing, the directory would count it as degraded.)
func (w *World) copies(x, anchor block.ExtentID, r int) string {
	open, old := true, false
	var end block.Hash // of the extent's last record, as its successor says
	for !x.IsZero() {
		var log []byte
		good, held, bad := 0, 0, ""
		for _, n := range w.nodes {
			if n.st == nil {
				continue
			}
			st, ok := n.st.Stat(x)
			if !ok {
				continue
			}
			held++
			if !open && st.Chain.Hash != end {
				bad += fmt.Sprintf("; %s ends at seq %d, unknown %v", n.name, st.Chain.Seq, st.Unknown)
			} else {
				p := make([]byte, st.Chain.LogLen)
				var c journal.Chain
				err := n.st.ReadLog(x, 0, p)
				if err == nil {
					err = c.Walk(p, func(*journal.Record, block.Hash) error { return nil })
				}
				if err != nil || (!open && c.Hash != end) {
					bad += fmt.Sprintf("; %s: %v", n.name, err)
					continue
				}
				log = p
				good++
			}
		}
		if held < r && old {
			return ""
		}
		if log == nil {
			return fmt.Sprintf("extent %d.%d: no good copy of %d", x.Epoch, x.N, held)
		}
		if !open && good < r {
			return fmt.Sprintf("extent %d.%d: %d good copies of %d, want %d%s", x.Epoch, x.N, good, held, r, bad)
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
