package control

import (
	"bytes"
	"cmp"
	"context"
	"time"

	"github.com/prometheus/common/expfmt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
)

// stores describes this node's stores.
func (s *Server) stores() (out []*agentv1.Store) {
	for _, st := range s.parts.Stores.All() {
		m := &agentv1.Store{Id: st.ID.String(), Path: st.Path, Capacity: st.Capacity}
		if u, err := st.Usage(); err == nil {
			m.Capacity, m.Used = u.Total, u.Used
		} else {
			m.Quarantined = err.Error()
		}
		if err := cmp.Or(st.Quarantined(), st.Suspected()); err != nil {
			m.Quarantined = err.Error()
		}
		if sc, ok := s.parts.Scrubbed(st.ID); ok {
			m.ErrorsFound, m.ErrorsRepaired, m.ScrubBytes = sc.Found, sc.Repaired, sc.Done
			m.LastScrubbedUnix, m.ScrubStartedUnix = unix(sc.Finished), unix(sc.Started)
		}
		m.Silent = st.Silence(time.Now())
		if stage := st.Clearing(); stage != clearing.Idle {
			m.Clearing = stage.Words()
		}
		for _, v := range st.Store.Volumes() {
			m.Extents += int64(v.Extents)
			if v.Extents > 0 {
				m.Volumes++
			}
		}
		out = append(out, m)
	}
	return out
}

// peers describes the other nodes as this one sees them.
func (s *Server) peers() (out []*agentv1.Peer) {
	for _, n := range s.parts.Members.States() {
		if n.Name == s.parts.Node {
			continue
		}
		r := s.parts.Health(n.Name)
		m := &agentv1.Peer{Node: n.Name, Address: n.Address, Alive: n.Alive, Score: r.Score(), RttMicros: r.RTT.Microseconds(), Bandwidth: r.Bandwidth, Failures: r.Failures}
		for _, st := range n.Stores {
			m.Stores = append(m.Stores, st.ID.String())
		}
		out = append(out, m)
	}
	return out
}

// Metrics implements agentv1.AgentServer.
func (s *Server) Metrics(context.Context, *agentv1.MetricsRequest) (*agentv1.MetricsResponse, error) {
	families, err := s.parts.Figures()
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return nil, err
		}
	}
	if b.Len() == 0 && err != nil {
		return nil, err
	}
	return &agentv1.MetricsResponse{Text: b.Bytes()}, nil
}

// maxHours is how long the history is.
const maxHours = 24

// Report implements agentv1.AgentServer.
func (s *Server) Report(_ context.Context, r *agentv1.ReportRequest) (*agentv1.ReportResponse, error) {
	hours := r.Hours
	if hours == 0 {
		hours = maxHours
	}
	if hours < 1 || hours > maxHours {
		return nil, status.Errorf(codes.InvalidArgument, "a report of %d hours: 1 to %d are kept", hours, maxHours)
	}
	now := time.Now()
	from := now.Add(-time.Duration(hours) * time.Hour)
	out := &agentv1.ReportResponse{Node: s.parts.Node, FromUnix: from.Unix(), ToUnix: now.Unix(), Warnings: map[string]uint64{}, Stores: s.stores(), Peers: s.peers()}
	var nanos uint64
	for _, slot := range s.parts.History.Since(from) {
		out.Copies += slot.Copies
		out.CopiesFailed += slot.Failed
		out.CopiedBytes += slot.Bytes
		nanos += slot.Nanos
		for reason, n := range slot.Events {
			out.Warnings[reason] += n
		}
	}
	out.CopyingMillis = time.Duration(nanos).Milliseconds()
	return out, nil
}

// Placement implements agentv1.AgentServer.
func (s *Server) Placement(_ context.Context, r *agentv1.PlacementRequest) (*agentv1.PlacementResponse, error) {
	i, err := s.parts.Volumes.Inspect(r.Volume)
	if err != nil {
		return nil, err
	}
	out := &agentv1.PlacementResponse{Node: s.parts.Node}
	for _, st := range s.parts.Stores.All() {
		for _, v := range st.Store.Volumes() {
			if v.Volume == i.ID && (v.Extents > 0 || v.Deleted) {
				out.Held = append(out.Held, &agentv1.Held{Store: st.ID.String(), Extents: int64(v.Extents), Data: v.Data, Log: v.Log, Promised: v.Promised.String()})
			}
		}
	}
	return out, nil
}
