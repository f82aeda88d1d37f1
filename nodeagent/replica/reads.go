package replica

import (
	"encoding/binary"
	"fmt"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/store"
)

// readPool holds buffers, so that a read does not allocate. It is a package variable because it is memory and no state:
// all stores of a process share it, and nothing can be learnt from it.
var readPool = sync.Pool{New: func() any { return new([MaxRead]byte) }}

func (s *Server) read(typ Type, h *Head, rest []byte, to Replier) error {
	if len(rest) != 8 {
		return fmt.Errorf("read: %w", ErrBad)
	}
	off, n := binary.LittleEndian.Uint32(rest), binary.LittleEndian.Uint32(rest[4:])
	if n == 0 || n > MaxRead {
		return fmt.Errorf("read of %d bytes, at most %d: %w", n, MaxRead, ErrBad)
	}
	buf := readPool.Get().(*[MaxRead]byte)
	defer readPool.Put(buf)
	p := buf[:n]
	var err error
	if typ == TypeReadLog {
		err = s.store.ReadLog(h.Extent, off, p)
	} else {
		err = s.store.ReadData(h.Extent, off, p)
	}
	if err != nil {
		return err
	}
	to.Reply(StatusOK, p)
	return nil
}

func (s *Server) lease(h *Head, to Replier) {
	v := h.Extent.Volume
	s.mu.Lock()
	at, heard := s.contact[v]
	s.mu.Unlock()
	age := MaxAge
	if heard {
		age = s.env.Now() - at
	}
	b := make([]byte, block.EpochSize+8)
	promised := s.store.Promised(v)
	promised.Put(b)
	binary.LittleEndian.PutUint64(b[block.EpochSize:], uint64(age))
	to.Reply(StatusOK, b)
}

func (s *Server) extents(h *Head, to Replier) {
	ids := s.store.Extents(h.Extent.Volume)
	b := make([]byte, len(ids)*block.ExtentIDSize)
	for i, x := range ids {
		x.Put(b[i*block.ExtentIDSize:])
	}
	to.Reply(StatusOK, b)
}

// holdings lists what is held for the journal, or what was set aside. Of a failed store it is an error: that it holds nothing is not known,
// and its copies count no more.
func (s *Server) holdings(h *Head, aside bool, to Replier) error {
	if err := s.store.Quarantined(); err != nil {
		return err
	}
	var b []byte
	for _, x := range s.store.Extents(h.Extent.Volume) {
		st, ok := s.store.Stat(x)
		if !ok || x.IsAside() != aside {
			continue
		}
		n := len(b)
		b = append(b, make([]byte, holdingSize)...)
		x.Put(b[n:])
		binary.LittleEndian.PutUint64(b[n+block.ExtentIDSize:], st.Durable.Seq)
		copy(b[n+block.ExtentIDSize+8:], st.Durable.Hash[:])
		b[n+holdingSize-1] = flag(st.Unknown)
	}
	to.Reply(StatusOK, b)
	return nil
}

func (s *Server) volumes(to Replier) {
	var b []byte
	for _, v := range s.store.Volumes() {
		b = append(b, v.Volume[:]...)
	}
	to.Reply(StatusOK, b)
}

func (s *Server) repair(h *Head, rest []byte, to Replier) error {
	if len(rest) < 5 {
		return fmt.Errorf("repair: %w", ErrBad)
	}
	off, data, good := binary.LittleEndian.Uint32(rest), rest[4] == 1, rest[5:]
	var err error
	if data {
		err = s.store.RepairData(h.Extent, off, good)
	} else {
		err = s.store.RepairLog(h.Extent, off, good)
	}
	if err != nil {
		return err
	}
	to.Reply(StatusOK)
	return nil
}

func (s *Server) scrub(h *Head, to Replier) {
	x := h.Extent
	s.env.Go("scrub", func() {
		var b []byte
		err := s.store.Scrub(x, func(f store.Finding) {
			b = binary.LittleEndian.AppendUint32(b, f.Off)
			b = binary.LittleEndian.AppendUint32(b, f.Len)
			b = append(b, flag(!f.Log))
		})
		if err != nil {
			s.refuse(to, err)
			return
		}
		to.Reply(StatusOK, b)
	})
}

// LocalError gives an error of a store of this process the form in which a remote one's arrives.
func LocalError(err error) error { return ErrorOf(statusOf(err), []byte(err.Error())) }
