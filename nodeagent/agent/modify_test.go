package agent

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/volume"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

func ptr[T any](v T) *T { return &v }

func (c *cluster) modify(on string, req *agentv1.ModifyVolumeRequest) *agentv1.Volume {
	c.tb.Helper()
	v, err := c.node[on].api.ModifyVolume(c.tb.Context(), req)
	check(c.tb, err)
	return v
}

// TestModify: limits and claims are kept in the registry over attaches; what cannot be is refused, and changes nothing.
func TestModify(t *testing.T) {
	c := newCluster(t, 3, false)
	ctx := t.Context()
	_, err := c.node["a"].api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "vol", Size: 4 * mib, ClaimNamespace: "shop", ClaimName: "db"})
	check(t, err)
	c.attach("a", "vol")
	want := func(on string, iops, rate int64, replicas int32) {
		t.Helper()
		v, err := c.node[on].api.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: "vol"})
		check(t, err)
		if v.MaxIops != iops || v.MaxBytesPerSecond != rate || v.Replicas != replicas || v.ClaimNamespace != "shop" || v.ClaimName != "db" || v.Weak {
			t.Fatalf("%v", v)
		}
	}
	for text, req := range map[string]*agentv1.ModifyVolumeRequest{
		"8 replicas":      {Replicas: ptr(int32(8))},
		"4 replicas on 3": {Replicas: ptr(int32(4))},
		"fixed":           {Weak: ptr(true)},
		"compression":     {Compression: ptr(agentv1.Compression(9))},
		"I/Os":            {MaxIops: ptr(int64(-1))},
		"1000 bytes":      {MaxBytesPerSecond: ptr(int64(1000))},
	} {
		req.Volume = "vol"
		_, err := c.node["a"].api.ModifyVolume(ctx, req)
		wantCode(t, err, codes.InvalidArgument, text)
	}
	_, err = c.node["b"].api.ModifyVolume(ctx, &agentv1.ModifyVolumeRequest{Volume: "vol", MaxIops: ptr(int64(5))})
	wantCode(t, err, codes.FailedPrecondition, "node a")
	want("b", 0, 0, 3)
	c.modify("a", &agentv1.ModifyVolumeRequest{Volume: "vol", MaxIops: ptr(int64(5000)), MaxBytesPerSecond: ptr(int64(8 * mib)), Weak: ptr(false)})
	want("b", 5000, 8*mib, 3)
	c.detach("a", "vol")
	c.attach("b", "vol")
	want("a", 5000, 8*mib, 3)
	c.modify("b", &agentv1.ModifyVolumeRequest{Volume: "vol", MaxIops: ptr(int64(0))})
	want("a", 0, 8*mib, 3)
}

// TestClaimSize: what a claim asks for is kept, follows the volume's growth, is a clone's own, and is of no use without a claim.
func TestClaimSize(t *testing.T) {
	c := newCluster(t, 3, false)
	api, ctx := c.node["a"].api, t.Context()
	_, err := api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "vol", Size: 4 * mib, ClaimNamespace: "shop", ClaimName: "db", ClaimSize: 4_000_000})
	check(t, err)
	want := func(name string, size, claim int64) {
		t.Helper()
		v, err := c.node["b"].api.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: name})
		check(t, err)
		if v.Size != size || v.ClaimSize != claim {
			t.Fatalf("%s has %d bytes for a claim of %d, want %d and %d", name, v.Size, v.ClaimSize, size, claim)
		}
	}
	want("vol", 4*mib, 4_000_000)
	_, err = api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s"})
	check(t, err)
	_, err = api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "vol", Snapshot: "s", Name: "twin", ClaimNamespace: "shop", ClaimName: "twin", ClaimSize: 3_000_000})
	check(t, err)
	want("twin", 4*mib, 3_000_000)
	for _, claim := range []int64{6_000_000, 0} {
		_, err = api.ResizeVolume(ctx, &agentv1.ResizeVolumeRequest{Volume: "vol", Size: 6 * mib, ClaimSize: claim})
		check(t, err)
		want("vol", 6*mib, claim)
	}
	_, err = api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "bad", Size: 4 * mib, ClaimNamespace: "shop", ClaimName: "db", ClaimSize: -1})
	wantCode(t, err, codes.InvalidArgument, "-1 bytes")
	_, err = api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "unclaimed", Size: 4 * mib})
	check(t, err)
	_, err = api.ResizeVolume(ctx, &agentv1.ResizeVolumeRequest{Volume: "unclaimed", Size: 6 * mib, ClaimSize: 6_000_000})
	check(t, err)
	want("unclaimed", 6*mib, 0)
}

// TestModifyReplicas: a volume of one copy gets two more of all that is in it, while it is in use, and then survives the loss of the first; with
// fewer it goes on too.
func TestModifyReplicas(t *testing.T) {
	c := newCluster(t, 3, false)
	_, err := c.node["a"].api.CreateVolume(t.Context(), &agentv1.CreateVolumeRequest{Name: "vol", Size: 8 * mib, Replicas: 1, ExtentSize: 2 * mib})
	check(t, err)
	m := newModel(t, 41, 8*mib)
	e := c.attach("a", "vol")
	m.write(e, 200) // several extents
	if n := len(e.Status().Members); n != 1 {
		t.Fatalf("%d replicas", n)
	}
	c.modify("a", &agentv1.ModifyVolumeRequest{Volume: "vol", Replicas: ptr(int32(3))})
	m.write(e, 50)
	whole := func() error {
		st := e.Status()
		if len(st.Members) != 3 || st.Degraded > 0 {
			return fmt.Errorf("%d members, %d extents degraded", len(st.Members), st.Degraded)
		}
		for _, r := range st.Members {
			if r.Failed || r.Durable != st.Committed {
				return errNot
			}
		}
		return nil
	}
	eventually(t, "three copies", whole)
	m.write(e, 10)
	c.detach("a", "vol")
	for _, away := range []string{"a", "b", "c"} {
		c.stop(away)
		on := "a"
		if away == "a" {
			on = "b"
		}
		if _, err := c.tryAttach(on, "vol", true); err != nil {
			t.Fatalf("without %s: %v", away, err)
		}
		m.verify(c.engine(on, "vol"))
		c.detach(on, "vol")
		c.start(away)
	}
	e = c.attach("a", "vol")
	c.modify("a", &agentv1.ModifyVolumeRequest{Volume: "vol", Replicas: ptr(int32(1))})
	m.write(e, 200)
	m.verify(e)
	eventually(t, "one copy", func() error {
		if n := len(e.Status().Members); n != 1 {
			return fmt.Errorf("%d members", n)
		}
		return nil
	})
	c.detach("a", "vol")
	m.verify(c.attach("b", "vol"))
}

// TestRestartWhileAway: an agent that is started while another node is down attaches a volume of that node too, though it has never
// heard of its stores.
func TestRestartWhileAway(t *testing.T) {
	c := newCluster(t, 3, false)
	c.create("a", "vol", 4*mib)
	m := newModel(t, 43, 4*mib)
	m.write(c.attach("a", "vol"), 20)
	c.detach("a", "vol")
	c.stop("b")
	c.stop("a")
	c.start("a")
	e := c.attach("a", "vol")
	m.verify(e)
	m.write(e, 20)
	c.start("b")
}

// text fills the model with what compresses well, and writes it.
func (m *model) text(e *volume.Engine, n int) {
	m.tb.Helper()
	for range n {
		off := m.rand.IntN(len(m.want)/4096) * 4096
		copy(m.want[off:off+4096], bytes.Repeat([]byte(fmt.Sprintf("line %d\n", m.rand.IntN(1000))), 1024))
		check(m.tb, e.Write(ring.ID{}, m.want[off:off+4096], int64(off)))
	}
	check(m.tb, e.Flush())
}

// TestModifyCompression: compression turned on and off leaves all readable, also what the former writer had not sealed when another node took
// over under the other setting.
func TestModifyCompression(t *testing.T) {
	c := newCluster(t, 3, false)
	c.create("a", "vol", 4*mib)
	m := newModel(t, 42, 4*mib)
	e := c.attach("a", "vol")
	m.text(e, 300)
	before := e.Status().Stats.JournalBytes
	c.modify("a", &agentv1.ModifyVolumeRequest{Volume: "vol", Compression: ptr(agentv1.Compression_COMPRESSION_ZSTD)})
	m.text(e, 600)
	if grown := e.Status().Stats.JournalBytes - before; grown > before {
		t.Errorf("%d bytes for 300 pages as they are, %d for 600 compressed", before, grown)
	}
	m.verify(e)
	nodes := []string{"b", "c", "a", "b"}
	for i, on := range nodes {
		// the record changes behind the back of the writer, as it may while it is cut off: the next one opens with the other setting
		from := c.node[append([]string{"a"}, nodes...)[i]]
		m.text(from.Volumes().Engine("vol"), 5)
		if i%2 == 0 {
			c.modify(from.cfg.Node, &agentv1.ModifyVolumeRequest{Volume: "vol", Compression: ptr(agentv1.Compression_COMPRESSION_NONE)})
		} else {
			c.modify(from.cfg.Node, &agentv1.ModifyVolumeRequest{Volume: "vol", Compression: ptr(agentv1.Compression_COMPRESSION_ZSTD)})
		}
		_, err := c.tryAttach(on, "vol", true)
		check(t, err)
		e = c.engine(on, "vol")
		m.verify(e)
		_, _ = from.api.DetachVolume(t.Context(), &agentv1.DetachVolumeRequest{Volume: "vol", Force: true}) // it is fenced
	}
	c.detach("b", "vol")
	m.verify(c.attach("c", "vol"))
}

// TestHoldVolume: snapshots of two volumes on two nodes, taken under holds, show one moment; a hold that has ended, or another one's
// snapshot, is refused.
func TestHoldVolume(t *testing.T) {
	c := newCluster(t, 3, false)
	ctx := t.Context()
	on := map[string]string{"first": "a", "second": "b"}
	order := []string{"first", "second"}
	var backends []export.Backend
	for _, name := range order {
		c.create("a", name, 4*mib)
		c.attach(on[name], name)
		b, err := c.node[on[name]].Volumes().Backend(name)
		check(t, err)
		backends = append(backends, b)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		page := make([]byte, 4096)
		for n := uint64(1); ; n++ {
			binary.LittleEndian.PutUint64(page, n)
			for _, b := range backends {
				select {
				case <-stop:
					return
				default:
				}
				if err := b.Write(export.RequestID{}, page, 0); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	defer wg.Wait()
	defer close(stop)
	for round := range 5 {
		snap := fmt.Sprintf("g%d", round)
		tokens := map[string]string{}
		for _, name := range order {
			r, err := c.node[on[name]].api.HoldVolume(ctx, &agentv1.HoldVolumeRequest{Volume: name, TimeoutMs: 10_000})
			check(t, err)
			tokens[name] = r.Token
		}
		for i := range order {
			name := order[(i+round)%2]
			req := &agentv1.CreateSnapshotRequest{Volume: name, Name: snap, Hold: tokens[name]}
			first, err := c.node[on[name]].api.CreateSnapshot(ctx, req)
			check(t, err)
			again, err := c.node[on[name]].api.CreateSnapshot(ctx, req)
			check(t, err)
			if first.Id != again.Id {
				t.Error("repeating a snapshot made another")
			}
		}
		for _, name := range order {
			_, err := c.node[on[name]].api.ReleaseVolume(ctx, &agentv1.ReleaseVolumeRequest{Volume: name, Token: tokens[name]})
			check(t, err)
		}
		var got []uint64
		for _, name := range order {
			copyName := name + snap
			_, err := c.node[on[name]].api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: name, Snapshot: snap, Name: copyName})
			check(t, err)
			page := make([]byte, 4096)
			check(t, c.attach("c", copyName).Read(page, 0))
			c.detach("c", copyName)
			got = append(got, binary.LittleEndian.Uint64(page))
		}
		t.Logf("round %d: %v", round, got)
		if got[1] > got[0] || got[0] > got[1]+1 {
			t.Errorf("the second volume shows write %d, the first %d", got[1], got[0])
		}
	}
	c.brokenHold(on["first"], "first")
}

// brokenHold checks that a hold which ended serves nothing.
func (c *cluster) brokenHold(on, name string) {
	c.tb.Helper()
	ctx, api := c.tb.Context(), c.node[on].api
	r, err := api.HoldVolume(ctx, &agentv1.HoldVolumeRequest{Volume: name, TimeoutMs: 9_000})
	check(c.tb, err)
	_, err = api.HoldVolume(ctx, &agentv1.HoldVolumeRequest{Volume: name})
	wantCode(c.tb.(*testing.T), err, codes.FailedPrecondition, "held back already")
	_, err = api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: name, Name: "g0", Hold: r.Token})
	wantCode(c.tb.(*testing.T), err, codes.AlreadyExists, "another moment")
	_, err = api.ReleaseVolume(ctx, &agentv1.ReleaseVolumeRequest{Volume: name, Token: r.Token})
	check(c.tb, err)
	_, err = api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: name, Name: "late", Hold: r.Token})
	wantCode(c.tb.(*testing.T), err, codes.FailedPrecondition, "hold is over")
	_, err = api.ReleaseVolume(ctx, &agentv1.ReleaseVolumeRequest{Volume: name, Token: r.Token})
	wantCode(c.tb.(*testing.T), err, codes.FailedPrecondition, "hold is over")
	short, err := api.HoldVolume(ctx, &agentv1.HoldVolumeRequest{Volume: name, TimeoutMs: 200})
	check(c.tb, err)
	eventually(c.tb, "the end of the hold", func() error {
		again, err := api.HoldVolume(ctx, &agentv1.HoldVolumeRequest{Volume: name, TimeoutMs: int64(time.Second / time.Millisecond)})
		if err == nil {
			_, err = api.ReleaseVolume(ctx, &agentv1.ReleaseVolumeRequest{Volume: name, Token: again.Token})
		}
		return err
	})
	_, err = api.ReleaseVolume(ctx, &agentv1.ReleaseVolumeRequest{Volume: name, Token: short.Token})
	wantCode(c.tb.(*testing.T), err, codes.FailedPrecondition, "hold is over")
	_, err = c.node["c"].api.HoldVolume(ctx, &agentv1.HoldVolumeRequest{Volume: name})
	wantCode(c.tb.(*testing.T), err, codes.FailedPrecondition, "node "+on)
}
