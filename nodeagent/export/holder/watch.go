package holder

import (
	"context"
	"errors"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export/fuse"
)

// watch counts the ticks that entries are without an owner.
func (s *Server) watch(ctx context.Context) {
	ticks := s.opt.Ticks
	if ticks == nil {
		t := time.NewTicker(max(s.opt.Patience/ticksPerPatience, time.Millisecond))
		defer t.Stop()
		ticks = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			s.tick()
		}
	}
}

func (s *Server) tick() {
	ended, metas := map[string]error{}, map[string][]byte{}
	s.mu.Lock()
	for name, e := range s.entries {
		if e.owner != nil || e.State == Ended {
			continue
		}
		if e.idle++; e.idle >= ticksPerPatience {
			ended[name], metas[name] = e.end(), e.Meta
		}
	}
	s.mu.Unlock()
	for name, err := range ended {
		if s.opt.End != nil {
			err = errors.Join(err, s.opt.End(metas[name]))
		}
		if s.opt.Ended != nil {
			s.opt.Ended(name, err)
		}
	}
}

// end aborts the device. Closing the last descriptor of /dev/fuse aborts its connection, and nobody else should have
// one; the abort file ends it even if somebody has.
func (e *entry) end() error {
	e.State = Ended
	var err error
	if e.Conn != 0 {
		err = fuse.AbortConn(e.Conn)
	}
	closeAll(e.Device)
	e.Device = nil
	return err
}
