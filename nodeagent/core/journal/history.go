package journal

import "mynetwork.io/mynetwork/nodeagent/core/block"

// History is one of a weak volume's lines of events. A recovery that can not ask every replica begins a new one: what a replica
// that did not answer may alone hold of the history before is given up, and never becomes part of this one.
//
// Encoding, 56 bytes: epoch 20, extent 28, sequence u64.
type History struct {
	Epoch  block.Epoch    // of the writer that began it: its name, and histories are in the order of their epochs
	Extent block.ExtentID // the last extent of the history before
	Seq    uint64         // and the last record there that this one goes on from
}

// historyVersion is of what an open record says of its history.
const historyVersion = 1

// IsZero reports whether h is a volume's first history: nothing was ever given up.
func (h History) IsZero() bool { return h == History{} }

func (w *writer) history(h *History) {
	w.b = append(w.b, make([]byte, block.EpochSize)...)
	h.Epoch.Put(w.b[len(w.b)-block.EpochSize:])
	w.extent(h.Extent)
	w.u64(h.Seq)
}

func (r *reader) openHistory() (h History) {
	if v := r.u8(); v != historyVersion {
		r.fail("history of version %d", v)
		return h
	}
	h = History{Epoch: block.GetEpoch(r.take(block.EpochSize)), Extent: r.extent(), Seq: r.u64()}
	if h.Epoch.Number == 0 || h.Extent.IsZero() || h.Seq == 0 {
		r.fail("history that epoch %s began after seq %d of %s", h.Epoch, h.Seq, h.Extent)
	}
	return h
}
