package agent

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
)

// collect reads a check to its end.
func collect(t *testing.T, s grpc.ServerStreamingClient[agentv1.Progress], err error) (all []*agentv1.Finding, last *agentv1.Progress) {
	t.Helper()
	check(t, err)
	for {
		p, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		all = append(all, p.Findings...)
		last = p
	}
	if last == nil || !last.Done || int(last.Errors) != len(all) {
		t.Fatalf("last message %v after %d findings", last, len(all))
	}
	return all, last
}

func (c *cluster) fsck(t *testing.T, quick bool) []*agentv1.Finding {
	t.Helper()
	from := "b"
	if c.node[from].Agent == nil {
		from = "a"
	}
	s, err := c.node[from].api.Fsck(t.Context(), &agentv1.FsckRequest{Quick: quick})
	all, last := collect(t, s, err)
	if last.Bytes == 0 {
		t.Fatal("fsck checked nothing")
	}
	return all
}

func (c *cluster) clean(t *testing.T) {
	t.Helper()
	for _, f := range c.fsck(t, false) {
		t.Errorf("finding: %v", f)
	}
}

// inFiles brings what the stores have into their files, where a test may damage it.
func (c *cluster) inFiles(t *testing.T) {
	t.Helper()
	for _, name := range []string{"a", "b", "c"} {
		s, err := c.node[name].api.ScrubStore(t.Context(), &agentv1.ScrubStoreRequest{})
		if found, _ := collect(t, s, err); len(found) != 0 {
			t.Fatalf("damaged already: %v", found)
		}
	}
}

// family makes a volume with two snapshots, a clone of the first, and an encrypted compressed volume, all detached.
func (c *cluster) family(t *testing.T) (vol, twin, secret *model) {
	t.Helper()
	ctx, api := t.Context(), c.node["a"].api
	c.create("a", "vol", 8*mib)
	vol = newModel(t, 21, 8*mib)
	e := c.attach("a", "vol")
	vol.write(e, 80)
	_, err := api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s1"})
	check(t, err)
	twin = vol.clone()
	_, err = api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "vol", Snapshot: "s1", Name: "twin"})
	check(t, err)
	vol.write(e, 80)
	check(t, e.Discard([24]byte{}, 0, 1*mib))
	clear(vol.want[:mib])
	check(t, e.Flush())
	_, err = api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s2"})
	check(t, err)
	vol.write(e, 50)
	twin.write(c.attach("b", "twin"), 40)
	_, err = api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "secret", Size: 4 * mib, Compression: agentv1.Compression_COMPRESSION_ZSTD, EncryptionKey: key32()})
	check(t, err)
	_, err = api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "secret", Kind: agentv1.DeviceKind_DEVICE_KIND_NONE, EncryptionKey: key32()})
	check(t, err)
	secret = newModel(t, 22, 4*mib)
	secret.write(c.engine("a", "secret"), 50)
	c.detach("a", "vol")
	c.detach("b", "twin")
	c.detach("a", "secret")
	return vol, twin, secret
}

// flip inverts a byte in the middle of a file of a store, as bit rot does.
func flip(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	check(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], at)
	check(t, err)
}

// files lists a store's files of a volume with a suffix.
func (c *cluster) files(t *testing.T, node, volume, suffix string) []string {
	t.Helper()
	v, err := c.node[node].api.InspectVolume(t.Context(), &agentv1.InspectVolumeRequest{Volume: volume})
	check(t, err)
	names, err := filepath.Glob(filepath.Join(c.node[node].cfg.Stores[0].Path, "ext", "*", v.Id+"*"+suffix))
	check(t, err)
	if len(names) == 0 {
		t.Fatalf("no files %s of volume %s on %s", suffix, volume, node)
	}
	return names
}

// TestFsck: nothing is wrong with what was written; damage of each kind is found where it is, scrub repairs it.
func TestFsck(t *testing.T) {
	c := newCluster(t, 3, false)
	vol, twin, _ := c.family(t)
	c.clean(t)
	c.inFiles(t)
	flip(t, c.files(t, "c", "vol", ".dat")[0], 100)
	flip(t, c.files(t, "a", "twin", ".log")[0], 3000)
	kinds := map[string]string{}
	for _, f := range c.fsck(t, false) {
		kinds[f.Kind] = f.Node
		if f.Repaired {
			t.Errorf("fsck repaired: %v", f)
		}
	}
	if kinds["leaf"] != "c" || kinds["log"] != "a" {
		t.Fatalf("found %v", kinds)
	}
	for _, name := range []string{"vol", "twin"} {
		s, err := c.node["a"].api.ScrubVolume(t.Context(), &agentv1.ScrubVolumeRequest{Volume: name})
		found, last := collect(t, s, err)
		if len(found) != 1 || last.Repaired != 1 {
			t.Fatalf("scrub of %s: %v", name, found)
		}
	}
	c.clean(t)
	vol.verify(c.attach("c", "vol"))
	twin.verify(c.attach("a", "twin"))
	s, err := c.node["c"].api.ScrubStore(t.Context(), &agentv1.ScrubStoreRequest{})
	if found, _ := collect(t, s, err); len(found) != 0 {
		t.Fatal(found)
	}
}

// TestFsckMap: damage of map pages on all replicas makes the map wrong; damage on one is that replica's.
func TestFsckMap(t *testing.T) {
	c := newCluster(t, 3, false)
	c.family(t)
	c.inFiles(t)
	// Index pages are written by the checkpoint at detach: the last data of the extents.
	for i, node := range []string{"a", "b", "c"} {
		for _, name := range c.files(t, node, "vol", ".dat") {
			fi, err := os.Stat(name)
			check(t, err)
			for off := int64(0); off+4096 <= fi.Size(); off += 4096 {
				flip(t, name, off+7)
			}
		}
		all := c.fsck(t, true)
		if len(all) == 0 {
			t.Fatal("nothing found")
		}
		broken := false
		for _, f := range all {
			broken = broken || strings.Contains(f.Problem, "no replica has it right")
		}
		if broken != (i == 2) {
			t.Fatalf("with %d replicas damaged: %v", i+1, all)
		}
	}
}

// TestRebuild: a registry that was lost is made anew from the stores; what was deleted stays deleted.
func TestRebuild(t *testing.T) {
	c := newCluster(t, 3, false)
	ctx, api := t.Context(), c.node["a"].api
	vol, twin, secret := c.family(t)
	gone := c.create("a", "gone", 4*mib)
	newModel(t, 23, 4*mib).write(c.attach("a", "gone"), 10)
	c.detach("a", "gone")
	_, err := api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: "gone"})
	check(t, err)
	// a volume that is open, and has no checkpoint yet
	c.create("b", "live", 4*mib)
	live := newModel(t, 24, 4*mib)
	live.want[len(live.want)-1] = 1
	check(t, c.attach("b", "live").Write([24]byte{}, live.want[4*mib-4096:], 4*mib-4096))
	live.write(c.engine("b", "live"), 20)

	list, err := api.ListVolumes(ctx, &agentv1.ListVolumesRequest{})
	check(t, err)
	ids := map[string]string{}
	for _, v := range list.Volumes {
		ids[v.Name] = v.Id
	}
	entries, err := filepath.Glob(filepath.Join(c.dir, "registry", "*.json"))
	check(t, err)
	for _, e := range entries {
		check(t, os.Remove(e))
	}
	dry, err := api.RebuildRegistry(ctx, &agentv1.RebuildRegistryRequest{DryRun: true})
	check(t, err)
	got, err := api.RebuildRegistry(ctx, &agentv1.RebuildRegistryRequest{})
	check(t, err)
	if len(dry.Volumes) != 4 || len(got.Volumes) != 4 {
		t.Fatalf("%v\n%v", dry, got)
	}
	for i, r := range got.Volumes {
		if !r.Written || r.Problem != "" || dry.Volumes[i].Written || r.Volume == gone.Id {
			t.Errorf("%v (dry run: %v)", r, dry.Volumes[i])
		}
	}
	c.clean(t)
	for name, m := range map[string]*model{"vol": vol, "twin": twin} {
		_, err := c.tryAttach("c", ids[name], true) // the release of its epoch is lost: force, or wait for the lease
		check(t, err)
		m.verify(c.engine("c", ids[name]))
	}
	v, err := api.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: ids["twin"]})
	check(t, err)
	if v.Parent != ids["vol"] {
		t.Errorf("the clone's parent is %q", v.Parent)
	}
	_, err = api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: ids["vol"]})
	wantCode(t, err, codes.FailedPrecondition, "")
	_, err = api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: ids["secret"], Kind: agentv1.DeviceKind_DEVICE_KIND_NONE, EncryptionKey: key32(), Force: true})
	check(t, err)
	secret.verify(c.engine("a", ids["secret"]))
	// the open one goes on, and can be taken over
	live.write(c.engine("b", ids["live"]), 5)
	_, err = c.tryAttach("a", ids["live"], true)
	check(t, err)
	live.verify(c.engine("a", ids["live"]))
}

// TestFsckLive: a volume that is written to meanwhile has nothing wrong with it.
func TestFsckLive(t *testing.T) {
	c := newCluster(t, 3, false)
	c.create("a", "vol", 16*mib)
	m := newModel(t, 25, 16*mib)
	e := c.attach("a", "vol")
	m.write(e, 80)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			m.write(e, 50)
			if i%3 == 2 {
				if err := e.Checkpoint(); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	for range 2 {
		for _, f := range c.fsck(t, false) {
			t.Errorf("finding: %v", f)
		}
	}
	close(stop)
	<-done
	m.verify(e)
}
