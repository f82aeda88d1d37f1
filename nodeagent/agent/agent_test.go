package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/agent/grants"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

const mib = 1 << 20

func wantCode(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %v, want %v with %q", err, code, text)
	}
}

// TestWriteAndMove: what was written on one node is read on the next, without waiting for a lease, as each detaches.
func TestWriteAndMove(t *testing.T) {
	c := newCluster(t, 3, false)
	c.create("a", "vol", 8*mib)
	m := newModel(t, 1, 8*mib)
	e := c.attach("a", "vol")
	m.write(e, 50)
	m.verify(e)
	c.detach("a", "vol")
	e = c.attach("b", "vol")
	m.verify(e)
	m.write(e, 50)
	c.detach("b", "vol")
	m.verify(c.attach("c", "vol"))
}

// TestNodeDies: the volume goes on without one node, heals when it is back, and then survives the loss of another.
func TestNodeDies(t *testing.T) {
	c := newCluster(t, 3, false)
	c.create("a", "vol", 8*mib)
	m := newModel(t, 2, 8*mib)
	e := c.attach("a", "vol")
	m.write(e, 50)
	c.stop("c")
	m.write(e, 50)
	m.verify(e)
	c.start("c")
	eventually(t, "heal", func() error {
		st := e.Status()
		if st.Degraded > 0 {
			return errNot
		}
		for _, r := range st.Members {
			if r.Failed || r.Durable != st.Committed {
				return errNot
			}
		}
		return nil
	})
	m.write(e, 20)
	c.stop("b")
	m.write(e, 20)
	m.verify(e)
	c.start("b")
}

// TestFenced: a second attach is refused while the first writer lives; by force it wins, and the first serves no more.
func TestFenced(t *testing.T) {
	c := newCluster(t, 3, false)
	c.create("a", "vol", 8*mib)
	m := newModel(t, 3, 8*mib)
	old := c.attach("a", "vol")
	m.write(old, 30)
	_, err := c.tryAttach("b", "vol", false)
	wantCode(t, err, codes.FailedPrecondition, "node a")
	m.write(old, 10)
	_, err = c.tryAttach("b", "vol", true)
	check(t, err)
	e := c.engine("b", "vol")
	m.verify(e)
	m.write(e, 30)
	page := make([]byte, 4096)
	eventually(t, "the old writer ends", func() error {
		_ = old.Write(ring.ID{}, page, 0)
		if err := old.Flush(); !errors.Is(err, syscall.EIO) {
			return errNot
		}
		return nil
	})
	v, err := c.node["a"].api.InspectVolume(t.Context(), &agentv1.InspectVolumeRequest{Volume: "vol"})
	check(t, err)
	if v.State != agentv1.VolumeState_VOLUME_STATE_FAILED || !strings.Contains(v.Failure, "promised") {
		t.Fatalf("state %v, failure %q", v.State, v.Failure)
	}
	c.detach("a", "vol")
	m.write(e, 10)
	m.verify(e)
	v, err = c.node["a"].api.InspectVolume(t.Context(), &agentv1.InspectVolumeRequest{Volume: "vol"})
	check(t, err)
	if v.State != agentv1.VolumeState_VOLUME_STATE_ELSEWHERE || v.HolderNode != "b" {
		t.Fatalf("state %v, holder %q", v.State, v.HolderNode)
	}
}

// TestSnapshots: snapshot, clone, rollback and resize, attached and detached, and the rules between them.
func TestSnapshots(t *testing.T) {
	c := newCluster(t, 3, false)
	api := c.node["a"].api
	ctx := t.Context()
	c.create("a", "vol", 4*mib)
	m := newModel(t, 4, 4*mib)
	e := c.attach("a", "vol")
	m.write(e, 30)
	s, err := api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s1"})
	check(t, err)
	again, err := api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s1"})
	check(t, err)
	if again.Id != s.Id {
		t.Fatal("repeating a snapshot made another")
	}
	_, err = c.node["b"].api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s2"})
	wantCode(t, err, codes.FailedPrecondition, "agent of node \"a\"")
	atSnap := m.clone()
	m.write(e, 30)
	_, err = api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "vol", Snapshot: "s1", Name: "twin", Size: 8 * mib})
	check(t, err)
	_, err = api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "vol", Snapshot: "none", Name: "twin2"})
	wantCode(t, err, codes.NotFound, "none")

	twin := c.attach("b", "twin")
	tm := atSnap.clone()
	tm.want = append(tm.want, make([]byte, 4*mib)...)
	tm.verify(twin)
	tm.write(twin, 30)
	m.write(e, 10)
	tm.verify(twin)
	m.verify(e)

	_, err = api.DeleteSnapshot(ctx, &agentv1.DeleteSnapshotRequest{Volume: "vol", Snapshot: "s1"})
	wantCode(t, err, codes.FailedPrecondition, "twin")
	_, err = api.RollbackVolume(ctx, &agentv1.RollbackVolumeRequest{Volume: "vol", Snapshot: "s1"})
	wantCode(t, err, codes.FailedPrecondition, "detach")
	_, err = api.ResizeVolume(ctx, &agentv1.ResizeVolumeRequest{Volume: "vol", Size: 6 * mib})
	check(t, err)
	if e.Size() != 6*mib {
		t.Fatal(e.Size())
	}
	_, err = api.ResizeVolume(ctx, &agentv1.ResizeVolumeRequest{Volume: "vol", Size: 2 * mib})
	wantCode(t, err, codes.InvalidArgument, "shrink")
	c.detach("a", "vol")
	// from another node, detached
	_, err = c.node["c"].api.RollbackVolume(ctx, &agentv1.RollbackVolumeRequest{Volume: "vol", Snapshot: "s1"})
	check(t, err)
	v, err := c.node["c"].api.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: "vol"})
	check(t, err)
	if v.Size != 4*mib || len(v.Snapshots) != 1 || v.State != agentv1.VolumeState_VOLUME_STATE_DETACHED {
		t.Fatalf("%+v", v)
	}
	atSnap.verify(c.attach("c", "vol"))
}

// TestDelete: refused while attached anywhere or cloned; then it is gone on every node, also on one that was away.
func TestDelete(t *testing.T) {
	c := newCluster(t, 3, false)
	ctx := t.Context()
	v := c.create("a", "vol", 4*mib)
	m := newModel(t, 5, 4*mib)
	m.write(c.attach("a", "vol"), 30)
	for on, text := range map[string]string{"a": "detach", "b": "node \"a\""} {
		_, err := c.node[on].api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: "vol"})
		wantCode(t, err, codes.FailedPrecondition, text)
	}
	_, err := c.node["a"].api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s"})
	check(t, err)
	c.detach("a", "vol")
	_, err = c.node["a"].api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "vol", Snapshot: "s", Name: "twin"})
	check(t, err)
	_, err = c.node["b"].api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: "vol"})
	wantCode(t, err, codes.FailedPrecondition, "twin")
	_, err = c.node["b"].api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: "twin"})
	check(t, err)
	c.stop("c")
	eventually(t, "c is lost", func() error {
		if c.node["b"].members.States()[2].Alive {
			return errNot
		}
		return nil
	})
	for range 2 {
		_, err = c.node["b"].api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: "vol"})
		check(t, err)
	}
	_, err = c.tryAttach("a", "vol", true)
	wantCode(t, err, codes.NotFound, "vol")
	c.start("c")
	id, _ := block.ParseVolumeID(v.Id)
	eventually(t, "the deletion reaches c", func() error {
		for _, n := range c.node {
			for _, s := range n.stores.All() {
				if s.Deleted(id) == nil || len(s.Extents(id)) > 0 {
					return errNot
				}
			}
		}
		return nil
	})
	c.create("a", "vol", 4*mib) // the name is free again
}

// TestGrants: without a grant no store of another node gives or takes anything; a drop needs the control key's word.
func TestGrants(t *testing.T) {
	c := newCluster(t, 3, false)
	v := c.create("a", "vol", 4*mib)
	m := newModel(t, 6, 4*mib)
	m.write(c.attach("a", "vol"), 10)
	id, _ := block.ParseVolumeID(v.Id)
	b := c.node["b"]
	target := c.node["c"].storeIDs()[0]
	eventually(t, "b knows c's store", func() error {
		if !b.members.Alive(target) {
			return errNot
		}
		return nil
	})
	env := task.NewReal()
	cl := &replica.Client{Env: env, Transport: b.transport}
	x := c.engine("a", "vol").Status().Extent
	e := block.Epoch{Number: 99, Token: 1}
	for what, err := range map[string]error{
		"stat":    second(cl.Stat(target, x)),
		"read":    cl.Read(target, replica.TypeReadLog, x, 0, make([]byte, 128)),
		"promise": second(cl.Promise(target, e, x)),
		"extents": second(cl.Extents(target, id)),
		"free":    cl.Free(target, e, x),
	} {
		if !errors.Is(err, replica.ErrDenied) {
			t.Errorf("%s without a grant: %v", what, err)
		}
	}
	check(t, b.grants.Ensure(t.Context(), id, grants.Writer))
	if _, err := cl.Stat(target, x); err != nil { // the control: with the grant it works
		t.Errorf("stat with a grant: %v", err)
	}
	if err := cl.Drop(target, e, id, []byte("no signature")); !errors.Is(err, replica.ErrDenied) {
		t.Errorf("drop without the control key's word: %v", err)
	}
	if st, err := cl.Stat(target, x); err != nil || !st.Held {
		t.Errorf("%+v %v", st, err)
	}
	m.write(c.engine("a", "vol"), 10)
}

func second[T any](_ T, err error) error { return err }

// TestRestart: an agent that ends leaves rings with its holder, and the next one goes on with every write that was acknowledged,
// flushed or not, under the same epoch.
func TestRestart(t *testing.T) {
	c := newCluster(t, 3, true)
	_, err := c.node["a"].api.CreateVolume(t.Context(), &agentv1.CreateVolumeRequest{Name: "secret", Size: 4 * mib, EncryptionKey: key32()})
	check(t, err)
	_, err = c.node["a"].api.AttachVolume(t.Context(), &agentv1.AttachVolumeRequest{Volume: "secret", Kind: agentv1.DeviceKind_DEVICE_KIND_NONE})
	wantCode(t, err, codes.InvalidArgument, "key")
	wrong := key32()
	wrong[0]++
	_, err = c.node["a"].api.AttachVolume(t.Context(), &agentv1.AttachVolumeRequest{Volume: "secret", Kind: agentv1.DeviceKind_DEVICE_KIND_NONE, EncryptionKey: wrong})
	wantCode(t, err, codes.InvalidArgument, "not its key")
	_, err = c.node["a"].api.AttachVolume(t.Context(), &agentv1.AttachVolumeRequest{Volume: "secret", Kind: agentv1.DeviceKind_DEVICE_KIND_NONE, EncryptionKey: key32()})
	check(t, err)
	c.create("a", "vol", 4*mib)
	models := map[string]*model{"vol": newModel(t, 7, 4*mib), "secret": newModel(t, 8, 4*mib)}
	c.attach("a", "vol")
	epochs := map[string]block.Epoch{}
	for name, m := range models {
		m.write(c.engine("a", name), 20)
		epochs[name] = c.engine("a", name).Status().Epoch
	}
	for round := range 3 {
		for name, m := range models { // acknowledged, not flushed
			e := c.engine("a", name)
			for i := range 10 {
				p := m.want[i*8192:][:4096]
				p[0] = byte(round + 1)
				check(t, e.Write(ring.ID{1, byte(round), byte(i)}, p, int64(i*8192)))
			}
		}
		c.stop("a")
		c.start("a")
		for name, m := range models {
			eventually(t, "resume of "+name, func() error {
				if c.node["a"].Volumes().Engine(name) == nil {
					return errNot
				}
				return nil
			})
			e := c.engine("a", name)
			m.verify(e)
			if got := e.Status().Epoch; got.Number != epochs[name].Number || got.Token != epochs[name].Token {
				t.Fatalf("%s: epoch %s after %s", name, got, epochs[name])
			}
			m.write(e, 10)
		}
	}
	c.detach("a", "vol")
	models["vol"].verify(c.attach("b", "vol"))
}

func key32() []byte { return []byte("0123456789abcdef0123456789abcdef") }

// TestBusy: a second operation on a volume is refused while one runs; repeating the same attach joins it.
func TestBusy(t *testing.T) {
	c := newCluster(t, 3, false)
	c.create("a", "vol", 4*mib)
	c.stop("b")
	c.stop("c")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := c.node["a"].api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "vol", Kind: agentv1.DeviceKind_DEVICE_KIND_NONE})
	if err == nil {
		t.Fatal("attached without a quorum")
	}
	_, err = c.node["a"].api.ResizeVolume(t.Context(), &agentv1.ResizeVolumeRequest{Volume: "vol", Size: 8 * mib})
	wantCode(t, err, codes.Aborted, "another operation")
	c.start("b")
	c.start("c")
	newModel(t, 9, 4*mib).write(c.attach("a", "vol"), 10)
}

// TestControl: the calls that only tell.
func TestControl(t *testing.T) {
	c := newCluster(t, 3, false)
	ctx := t.Context()
	api := c.node["a"].api
	info, err := api.Info(ctx, &agentv1.InfoRequest{})
	check(t, err)
	if info.Node != "a" || info.PeerAddress != c.list[0].Address {
		t.Fatal(info)
	}
	first := c.create("a", "vol", 4*mib)
	if again := c.create("b", "vol", 4*mib); again.Id != first.Id {
		t.Fatal("repeating a create made another volume")
	}
	_, err = api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "vol", Size: 8 * mib, Replicas: 3})
	wantCode(t, err, codes.AlreadyExists, "vol")
	_, err = api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "odd", Size: 5})
	wantCode(t, err, codes.InvalidArgument, "4096")
	_, err = api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "many", Size: 4 * mib, Replicas: 5})
	wantCode(t, err, codes.InvalidArgument, "3 nodes")
	_, err = api.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: "no"})
	wantCode(t, err, codes.NotFound, "no")
	newModel(t, 10, 4*mib).write(c.attach("a", "vol"), 10)
	_, err = api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "vol", Kind: agentv1.DeviceKind_DEVICE_KIND_NONE})
	check(t, err) // again
	eventually(t, "peers answer", func() error {
		st, err := api.Status(ctx, &agentv1.StatusRequest{})
		if err != nil {
			return err
		}
		if len(st.Stores) != 1 || st.Stores[0].Extents == 0 || st.Stores[0].Used == 0 || len(st.Volumes) != 1 || st.Volumes[0].Open.Committed == 0 {
			return errNot
		}
		for _, p := range st.Peers {
			if !p.Alive || p.RttMicros == 0 || len(p.Stores) != 1 {
				return errNot
			}
		}
		return nil
	})
	ev, err := api.Events(ctx, &agentv1.EventsRequest{Volume: "vol"})
	check(t, err)
	seen := map[string]bool{}
	for {
		e, err := ev.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		seen[e.Reason] = true
	}
	if !seen["Created"] || !seen["Attached"] {
		t.Fatal(seen)
	}
}

// TestDetachForce: without a quorum a detach waits, and a forced one ends it; what was flushed is there afterwards.
func TestDetachForce(t *testing.T) {
	c := newCluster(t, 3, false)
	c.create("a", "vol", 4*mib)
	m := newModel(t, 12, 4*mib)
	e := c.attach("a", "vol")
	m.write(e, 20)
	c.stop("b")
	c.stop("c")
	check(t, e.Write(ring.ID{}, make([]byte, 4096), 0)) // acknowledged; no flush can cover it
	brief, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := c.node["a"].Volumes().Detach(brief, "vol", false)
	if !errors.Is(err, volumes.ErrPending) {
		t.Fatal(err)
	}
	c.detachForce("a", "vol")
	// An attach that waits for a quorum ends in the same way.
	brief, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = c.node["a"].Volumes().Attach(brief, volumes.AttachRequest{Volume: "vol", Kind: volumes.None})
	if !errors.Is(err, volumes.ErrPending) {
		t.Fatal(err)
	}
	c.detachForce("a", "vol")
	c.start("b")
	c.start("c")
	eventually(t, "the lease of the attach that was given up to end", func() error { // its own store may have promised it by then
		_, err := c.tryAttach("b", "vol", false)
		return err
	})
	e = c.engine("b", "vol")
	got := make([]byte, len(m.want))
	check(t, e.Read(got, 0))
	if !bytes.Equal(got[4096:], m.want[4096:]) {
		t.Fatal("flushed writes are lost")
	}
}

func (c *cluster) detachForce(on, name string) {
	c.tb.Helper()
	_, err := c.node[on].api.DetachVolume(c.tb.Context(), &agentv1.DetachVolumeRequest{Volume: name, Force: true})
	check(c.tb, err)
}
