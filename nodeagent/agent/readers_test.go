package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

func (c *cluster) seal(on, name string, key []byte) *agentv1.Volume {
	c.tb.Helper()
	v, err := c.node[on].api.SealVolume(c.tb.Context(), &agentv1.SealVolumeRequest{Volume: name, EncryptionKey: key})
	check(c.tb, err)
	return v
}

func (c *cluster) read(on, name string, key []byte) export.Backend {
	c.tb.Helper()
	_, err := c.node[on].api.AttachVolume(c.tb.Context(), &agentv1.AttachVolumeRequest{Volume: name, Kind: agentv1.DeviceKind_DEVICE_KIND_NONE, ReadOnly: true, EncryptionKey: key})
	check(c.tb, err)
	b, err := c.node[on].Readers().Backend(name)
	check(c.tb, err)
	return b
}

func (m *model) shown(b export.Backend) {
	m.tb.Helper()
	got := make([]byte, len(m.want))
	check(m.tb, b.Read(got, 0))
	if !bytes.Equal(got, m.want) {
		m.tb.Fatal("a reader shows something else")
	}
}

// TestReaders: a clone of a volume that is being written is sealed and read on three nodes at once; what would change it is refused; readers go on
// when one of them dies, and while the volume that it was made from goes on being written.
func TestReaders(t *testing.T) {
	for _, key := range [][]byte{nil, key32()} {
		t.Run(fmt.Sprintf("key of %d bytes", len(key)), func(t *testing.T) {
			c := newCluster(t, 3, false)
			ctx := t.Context()
			api := c.node["a"].api
			_, err := api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "vol", Size: 8 * mib, ExtentSize: 1 * mib, EncryptionKey: key})
			check(t, err)
			_, err = api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "vol", Kind: agentv1.DeviceKind_DEVICE_KIND_NONE, EncryptionKey: key})
			check(t, err)
			e := c.engine("a", "vol")
			m := newModel(t, 71, 8*mib)
			m.write(e, 40)
			s, err := api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s"})
			check(t, err)
			_, err = api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "vol", Snapshot: s.Id, Name: "twin", EncryptionKey: key})
			check(t, err)
			want := m.clone()
			m.write(e, 40)
			_, err = c.node["c"].api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "twin", ReadOnly: true, EncryptionKey: key})
			wantCode(t, err, codes.FailedPrecondition, "not sealed")
			_, err = c.node["b"].api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "twin", Kind: agentv1.DeviceKind_DEVICE_KIND_NONE, EncryptionKey: key})
			check(t, err)
			want.write(c.engine("b", "twin"), 10) // what a file system does when it replays its journal
			_, err = c.node["c"].api.SealVolume(ctx, &agentv1.SealVolumeRequest{Volume: "twin", EncryptionKey: key})
			wantCode(t, err, codes.FailedPrecondition, "b")
			sealed := c.seal("b", "twin", nil)
			c.seal("c", "twin", key) // again, elsewhere
			if !sealed.Sealed || len(sealed.Snapshots) != 0 || sealed.State != agentv1.VolumeState_VOLUME_STATE_DETACHED {
				t.Errorf("sealed: %v", sealed)
			}
			var b []export.Backend
			for _, n := range []string{"a", "b", "c"} {
				b = append(b, c.read(n, "twin", key))
				want.shown(b[len(b)-1])
			}
			c.refused(t, b[0], key)
			m.write(e, 60)
			c.stop("c")
			want.shown(b[0])
			want.shown(b[1])
			m.write(e, 10)
			m.verify(e)
			c.start("c")
			want.shown(c.read("c", "twin", key))
			for _, n := range []string{"a", "b", "c"} {
				c.detach(n, "twin")
				c.detach(n, "twin") // again
			}
			if err := b[0].Read(make([]byte, 4096), 0); !errors.Is(err, syscall.EIO) {
				t.Errorf("a reader that was detached reads: %v", err)
			}
			_, err = api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: "twin"})
			check(t, err)
			m.verify(e)
		})
	}
}

// refused: what would change a sealed volume, or take it from its readers, is refused. It is read on a.
func (c *cluster) refused(t *testing.T, b export.Backend, key []byte) {
	t.Helper()
	ctx := t.Context()
	api := c.node["a"].api
	if err := b.Write(export.RequestID{}, make([]byte, 4096), 0); !errors.Is(err, unix.EROFS) {
		t.Errorf("a write: %v", err)
	}
	if err := b.Discard(export.RequestID{}, 0, 4096); !errors.Is(err, unix.EROFS) {
		t.Errorf("a discard: %v", err)
	}
	_, err := c.node["b"].api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "twin", EncryptionKey: key, Force: true})
	wantCode(t, err, codes.FailedPrecondition, "sealed")
	_, err = api.ResizeVolume(ctx, &agentv1.ResizeVolumeRequest{Volume: "twin", Size: 16 * mib, EncryptionKey: key})
	wantCode(t, err, codes.FailedPrecondition, "sealed")
	_, err = api.DeleteSnapshot(ctx, &agentv1.DeleteSnapshotRequest{Volume: "twin", Snapshot: "mynetwork-sealed", EncryptionKey: key})
	wantCode(t, err, codes.FailedPrecondition, "readers")
	_, err = api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "mynetwork-sealed"})
	wantCode(t, err, codes.InvalidArgument, "mynetwork-sealed")
	_, err = api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: "twin"})
	wantCode(t, err, codes.FailedPrecondition, "detach it")
	_, err = api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "twin", ReadOnly: true, Kind: agentv1.DeviceKind_DEVICE_KIND_NBD, EncryptionKey: key})
	wantCode(t, err, codes.InvalidArgument, "nbd")
	if key != nil {
		_, err = c.node["c"].api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "twin", ReadOnly: true})
		wantCode(t, err, codes.InvalidArgument, "key")
	}
	// A snapshot is no change: it opens the volume for a moment, and its readers do not notice.
	_, err = api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "twin", Name: "later", EncryptionKey: key})
	check(t, err)
	v, err := api.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: "twin"})
	check(t, err)
	if v.State != agentv1.VolumeState_VOLUME_STATE_ATTACHED || !v.Sealed || len(v.Snapshots) > 1 {
		t.Errorf("as its reader sees it: %v", v)
	}
}

// TestReaderDevice: the device of a sealed volume is one that the kernel knows as read-only, and outlives its agent, whose death stops no other
// reader. Programs of their own read it: a thread of this process that waits for the device could not be ended.
func TestReaderDevice(t *testing.T) {
	c := newCluster(t, 3, true)
	c.create("a", "vol", 8*mib)
	m := newModel(t, 72, 8*mib)
	m.write(c.attach("a", "vol"), 40)
	c.detach("a", "vol")
	c.seal("a", "vol", nil)
	c.stop("a")
	cmd := c.spawn("a")
	defer func() { c.end("a", cmd, syscall.SIGKILL) }()
	attach := func(on string) string {
		t.Helper()
		at, err := c.node[on].api.AttachVolume(t.Context(), &agentv1.AttachVolumeRequest{Volume: "vol", ReadOnly: true})
		check(t, err)
		return at.Device
	}
	dev := map[string]string{"a": attach("a"), "b": attach("b")}
	shows := func(on string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		got, err := exec.CommandContext(ctx, "dd", "if="+dev[on], "bs=1M", "iflag=direct", "status=none").Output()
		if err == nil && !bytes.Equal(got, m.want) {
			err = errors.New("the device shows something else")
		}
		return err
	}
	check(t, errors.Join(shows("a"), shows("b")))
	if out, err := exec.Command("blockdev", "--getro", dev["a"]).Output(); err != nil || string(out) != "1\n" {
		t.Errorf("the kernel says read-only %s, %v", out, err)
	}
	if out, err := exec.Command("dd", "if=/dev/zero", "of="+dev["a"], "bs=4096", "count=1", "oflag=direct").CombinedOutput(); err == nil {
		t.Errorf("dd writes: %s", out)
	}
	if again := attach("a"); again != dev["a"] {
		t.Errorf("attached again it is %s", again)
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		c.end("a", cmd, sig)
		waits := make(chan error, 1)
		go func() { waits <- shows("a") }()
		check(t, shows("b"))
		cmd = c.spawn("a")
		check(t, <-waits)
	}
	eventually(t, "the device is served again", func() error {
		v, err := c.node["a"].api.InspectVolume(t.Context(), &agentv1.InspectVolumeRequest{Volume: "vol"})
		if err != nil || v.Device != dev["a"] {
			return errNot
		}
		return nil
	})
	for _, n := range []string{"a", "b"} {
		c.detach(n, "vol")
	}
}

// TestBlocks: what the control protocol tells of snapshots is what was written, in pages, from any agent if the volume is detached, and
// right after a snapshot from that of its holder.
func TestBlocks(t *testing.T) {
	c := newCluster(t, 3, false)
	ctx := t.Context()
	c.create("a", "vol", 8*mib)
	e := c.attach("a", "vol")
	put := func(pages ...int64) {
		t.Helper()
		p := bytes.Repeat([]byte{1}, 4096)
		for _, n := range pages {
			check(t, e.Write(ring.ID{}, p, n*4096))
		}
	}
	blocks := func(on string, q *agentv1.SnapshotBlocksRequest) (out []string, err error) {
		q.Volume = "vol"
		s, err := c.node[on].api.SnapshotBlocks(ctx, q)
		check(t, err)
		for {
			r, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return out, nil
			}
			if err != nil {
				return out, err
			}
			if q.Most > 0 && len(r.Ranges) > int(q.Most) {
				t.Errorf("%d ranges in a message", len(r.Ranges))
			}
			if r.Size != 8*mib {
				t.Errorf("size %d", r.Size)
			}
			for _, b := range r.Ranges {
				out = append(out, fmt.Sprint(b.Offset/4096, "+", b.Length/4096))
			}
		}
	}
	is := func(on string, q *agentv1.SnapshotBlocksRequest, want ...string) {
		t.Helper()
		got, err := blocks(on, q)
		check(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("%v: %v, want %v", q, got, want)
		}
	}
	snapshot := func(name string) {
		t.Helper()
		_, err := c.node["a"].api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: name})
		check(t, err)
	}
	put(3, 4, 5, 100)
	snapshot("one")
	put(5, 6, 200)
	check(t, e.Discard(ring.ID{}, 100*4096, 4096))
	snapshot("two")
	is("a", &agentv1.SnapshotBlocksRequest{Snapshot: "one"}, "3+3", "100+1")
	is("a", &agentv1.SnapshotBlocksRequest{Snapshot: "two", Most: 1}, "3+4", "200+1")
	is("a", &agentv1.SnapshotBlocksRequest{Snapshot: "two", Base: "one"}, "5+2", "100+1", "200+1")
	is("a", &agentv1.SnapshotBlocksRequest{Snapshot: "two", Base: "one", From: 6*4096 + 1}, "6+1", "100+1", "200+1")
	is("a", &agentv1.SnapshotBlocksRequest{Snapshot: "two", Base: "two"})
	for _, bad := range []struct {
		code codes.Code
		text string
		on   string
		q    *agentv1.SnapshotBlocksRequest
	}{
		{codes.NotFound, "none", "a", &agentv1.SnapshotBlocksRequest{Snapshot: "none"}},
		{codes.NotFound, "none", "a", &agentv1.SnapshotBlocksRequest{Snapshot: "two", Base: "none"}},
		{codes.InvalidArgument, "younger", "a", &agentv1.SnapshotBlocksRequest{Snapshot: "one", Base: "two"}},
		{codes.InvalidArgument, "-1", "a", &agentv1.SnapshotBlocksRequest{Snapshot: "one", From: -1}},
		{codes.InvalidArgument, "at most -1", "a", &agentv1.SnapshotBlocksRequest{Snapshot: "one", Most: -1}},
		{codes.InvalidArgument, "snapshot", "a", &agentv1.SnapshotBlocksRequest{}},
		{codes.FailedPrecondition, "node a", "b", &agentv1.SnapshotBlocksRequest{Snapshot: "one"}},
	} {
		_, err := blocks(bad.on, bad.q)
		wantCode(t, err, bad.code, bad.text)
	}
	put(7)
	c.detach("a", "vol")
	is("b", &agentv1.SnapshotBlocksRequest{Snapshot: "two", Base: "one"}, "5+2", "100+1", "200+1")
}
