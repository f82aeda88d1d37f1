package replica

import (
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// readAhead is how many reads of payloads a pull has under way: while records are checked and appended, the next ones come.
const readAhead = 4

// batch is records whose payloads lie behind each other, and are read together.
type batch struct {
	recs []parsed
	off  uint32 // of the first payload in the data stream
	size int    // of all payloads, at most MaxRead, or one record's

	done task.Event
	data []byte
	err  error
}

type parsed struct {
	journal.Record
	raw []byte
}

// batches groups the records of a log. They borrow from it.
func batches(log []byte) (out []*batch, err error) {
	for len(log) > 0 {
		r, n, err := journal.Parse(log)
		if err != nil {
			return nil, err
		}
		var b *batch
		if len(out) > 0 {
			b = out[len(out)-1]
		}
		if b == nil || b.size+int(r.Payload) > MaxRead || uint64(b.off)+uint64(b.size) != uint64(r.DataOff) {
			b = &batch{off: r.DataOff}
			out = append(out, b)
		}
		b.recs, b.size = append(b.recs, parsed{r, log[:n]}), b.size+int(r.Payload)
		log = log[n:]
	}
	return out, nil
}

// fetch begins to read a batch's payloads.
func (s *Server) fetch(x block.ExtentID, source block.StoreID, b *batch) {
	b.done = s.env.NewEvent()
	if b.size == 0 {
		b.done.Set()
		return
	}
	b.data = make([]byte, b.size)
	s.env.Go("pull ahead", func() {
		b.err = s.client.Read(source, TypeReadData, x, b.off, b.data)
		b.done.Set()
	})
}

// pullRecords appends the records of log, with their payloads, in order. Payloads are read ahead.
func (s *Server) pullRecords(h *Head, source block.StoreID, log []byte, use store.Use) error {
	list, err := batches(log)
	if err != nil {
		return err
	}
	next := 0
	defer func() { // nothing of it goes on when this returns
		for _, b := range list[:next] {
			b.done.Wait()
		}
	}()
	for i, b := range list {
		for ; next < min(i+readAhead, len(list)); next++ {
			s.fetch(h.Extent, source, list[next])
		}
		b.done.Wait()
		if b.err != nil {
			return b.err
		}
		if err := s.take(h, b, use); err != nil {
			return err
		}
		b.recs, b.data = nil, nil
	}
	return nil
}

// take appends the records of a batch whose payloads are here, and are placed together before.
func (s *Server) take(h *Head, b *batch, use store.Use) error {
	data, off := b.data, b.off
	for k := range b.recs {
		r := &b.recs[k]
		payload := data[:r.Payload:r.Payload]
		if data = data[r.Payload:]; len(payload) > 0 {
			if err := r.CheckPayload(payload); err != nil {
				return err
			}
		}
	}
	var at *store.Placed
	for k := range b.recs {
		r := &b.recs[k]
		if r.Payload > 0 && at == nil { // not before: a record may open the extent
			placed, err := s.pullPlace(h, off, b.data)
			if err != nil {
				return err
			}
			at = &placed
		}
		if err := s.pullAppend(h, r.raw, nil, at, use); err != nil {
			return err
		}
	}
	return nil
}
