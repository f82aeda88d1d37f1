package driver_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"mynetwork.io/mynetwork/csi/driver"
	"mynetwork.io/mynetwork/csi/request"
)

func (c *client) snapshot(id, name string) string {
	c.t.Helper()
	s, err := c.CreateSnapshot(c.ctx, &csi.CreateSnapshotRequest{SourceVolumeId: id, Name: name})
	c.must(err)
	return s.Snapshot.SnapshotId
}

func fromVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

// TestDeleteKeepsSnapshots: a volume does not take its snapshots with it.
func TestDeleteKeepsSnapshots(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	snap := c.snapshot(id, "s")
	remove := func() error {
		_, err := c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: id})
		return err
	}
	c.want(codes.FailedPrecondition, "snapshot", remove())
	if v := c.inspect(id); len(v.Snapshots) != 1 {
		t.Errorf("snapshots %v", v.Snapshots)
	}
	_, err := c.DeleteSnapshot(c.ctx, &csi.DeleteSnapshotRequest{SnapshotId: snap})
	c.must(err)
	c.must(remove())
	c.must(remove())
}

// TestClones: a copy of a volume starts from a snapshot that nobody else sees and that goes with it.
func TestClones(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	r := creation("copy", false)
	r.VolumeContentSource = fromVolume(id)
	one, err := c.CreateVolume(c.ctx, r)
	c.must(err)
	two, err := c.CreateVolume(c.ctx, r)
	c.must(err)
	if one.Volume.VolumeId != two.Volume.VolumeId {
		t.Error("a repeated request made another copy")
	}
	list, err := c.ListSnapshots(c.ctx, &csi.ListSnapshotsRequest{})
	c.must(err)
	if len(list.Entries) != 0 || len(c.inspect(id).Snapshots) != 1 {
		t.Errorf("%d snapshots are listed, %d there", len(list.Entries), len(c.inspect(id).Snapshots))
	}
	_, err = c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: id})
	c.want(codes.FailedPrecondition, "clones", err)
	_, err = c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: one.Volume.VolumeId})
	c.must(err)
	if n := len(c.inspect(id).Snapshots); n != 0 {
		t.Errorf("%d snapshots stay", n)
	}
	// A snapshot that Kubernetes made stays when its clone goes.
	snap := c.snapshot(id, "s")
	r = creation("restored", false)
	r.VolumeContentSource = fromSnapshot(snap)
	one, err = c.CreateVolume(c.ctx, r)
	c.must(err)
	_, err = c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: one.Volume.VolumeId})
	c.must(err)
	if n := len(c.inspect(id).Snapshots); n != 1 {
		t.Errorf("%d snapshots, want the one that was made", n)
	}
	for says, change := range map[string]func(r *csi.CreateVolumeRequest){
		"at most":     func(r *csi.CreateVolumeRequest) { r.CapacityRange = &csi.CapacityRange{LimitBytes: 32 << 20} },
		"compression": func(r *csi.CreateVolumeRequest) { r.Parameters[request.ParamCompression] = "zstd" },
	} {
		r := creation("bad", false)
		r.VolumeContentSource = fromSnapshot(snap)
		change(r)
		_, err := c.CreateVolume(c.ctx, r)
		c.want(map[bool]codes.Code{true: codes.OutOfRange, false: codes.InvalidArgument}[says == "at most"], says, err)
	}
}

// TestSnapshotOutlived: a snapshot is deleted although volumes were restored from it: nobody sees it any more, no volume is made of it, and the last
// that was takes it along.
func TestSnapshotOutlived(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	snap := c.snapshot(id, "s")
	r := creation("", false)
	r.VolumeContentSource = fromSnapshot(snap)
	var restored []string
	for _, r.Name = range []string{"one", "two"} {
		v, err := c.CreateVolume(c.ctx, r)
		c.must(err)
		restored = append(restored, v.Volume.VolumeId)
	}
	for range 2 {
		_, err := c.DeleteSnapshot(c.ctx, &csi.DeleteSnapshotRequest{SnapshotId: snap})
		c.must(err)
	}
	list, err := c.ListSnapshots(c.ctx, &csi.ListSnapshotsRequest{})
	c.must(err)
	if len(list.Entries) != 0 {
		t.Errorf("a deleted snapshot is listed: %v", list.Entries)
	}
	_, err = c.GetSnapshot(c.ctx, &csi.GetSnapshotRequest{SnapshotId: snap})
	c.want(codes.NotFound, "", err)
	r.Name = "three"
	_, err = c.CreateVolume(c.ctx, r)
	c.want(codes.NotFound, "", err)
	_, err = c.CreateSnapshot(c.ctx, &csi.CreateSnapshotRequest{SourceVolumeId: id, Name: "s"})
	c.want(codes.AlreadyExists, "kept", err) // not the old content for a new snapshot
	for i, v := range restored {
		if n := len(c.inspect(id).Snapshots); n != 1 {
			t.Errorf("%d snapshots under %d volumes that start from it", n, len(restored)-i)
		}
		_, err = c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: id})
		c.want(codes.FailedPrecondition, "clones", err)
		_, err = c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: v})
		c.must(err)
	}
	if left := c.inspect(id).Snapshots; len(left) != 0 {
		t.Errorf("left when its last clone was deleted: %v", left)
	}
	_, err = c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: id})
	c.must(err)
}

// TestSizes: a size is rounded up where that is allowed, kept on repetition, and never outside its limits.
func TestSizes(t *testing.T) {
	c := dial(t, nil)
	xfs := &csi.VolumeCapability{AccessMode: writer(false).AccessMode, AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "xfs"}}}
	for i, x := range []struct {
		required, limit, size int64
		cap                   *csi.VolumeCapability
		code                  codes.Code
	}{
		{0, 0, 1 << 30, writer(true), codes.OK},
		{0, 8 << 20, 8 << 20, writer(true), codes.OK},
		{1, 0, 1 << 20, writer(true), codes.OK},
		{5000, 9000, 8192, writer(true), codes.OK},
		{5000, 6000, 0, writer(true), codes.OutOfRange},
		{1, 0, 16 << 20, writer(false), codes.OK},
		{1, 0, 300 << 20, xfs, codes.OK},
		{1, 200 << 20, 0, xfs, codes.OutOfRange},
		{-1, 0, 0, writer(true), codes.InvalidArgument},
		{10, 5, 0, writer(true), codes.InvalidArgument},
		{1 << 62, 0, 0, writer(true), codes.OutOfRange},
	} {
		r := creation(fmt.Sprint("v", i), false)
		r.VolumeCapabilities, r.CapacityRange = []*csi.VolumeCapability{x.cap}, &csi.CapacityRange{RequiredBytes: x.required, LimitBytes: x.limit}
		for range 2 {
			v, err := c.CreateVolume(c.ctx, r)
			c.want(x.code, "", err)
			if v.GetVolume().GetCapacityBytes() != x.size {
				t.Errorf("%d to %d: %d bytes, want %d", x.required, x.limit, v.GetVolume().GetCapacityBytes(), x.size)
			}
		}
	}
	// Expanded meanwhile, a repeated request still finds it; one that cannot mean it does not.
	id := c.create("grown")
	_, err := c.ControllerExpandVolume(c.ctx, &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 128 << 20}})
	c.must(err)
	if again := c.create("grown"); again != id {
		t.Error("a repeated request made another volume")
	}
	r := creation("grown", false)
	r.Parameters[request.ParamCopies] = "2"
	_, err = c.CreateVolume(c.ctx, r)
	c.want(codes.AlreadyExists, "", err)
}

// TestModify: a change reaches the volume; a driver whose agents cannot change anything says so.
func TestModify(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	r := &csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: map[string]string{request.ParamCopies: "2", request.ParamWrite: "weak", request.ParamIOPS: "500"}}
	_, err := c.ControllerModifyVolume(c.ctx, r)
	c.must(err)
	if v := c.inspect(id); v.Replicas != 2 || !v.Weak {
		t.Errorf("volume %v", v)
	}
	without := dial(t, bare)
	r.VolumeId = without.create("v")
	_, err = without.ControllerModifyVolume(c.ctx, r)
	without.want(codes.Unimplemented, "", err)
	create := creation("w", false)
	create.MutableParameters = r.MutableParameters
	_, err = without.CreateVolume(c.ctx, create)
	without.want(codes.InvalidArgument, "VolumeAttributesClass", err)
	_, err = without.CreateVolumeGroupSnapshot(c.ctx, &csi.CreateVolumeGroupSnapshotRequest{Name: "g", SourceVolumeIds: []string{r.VolumeId}})
	without.want(codes.Unimplemented, "", err)
}

// TestTopology: a node tells of networks whose agent is ready, a volume of its network only if that is asked for.
func TestTopology(t *testing.T) {
	c := dial(t, nil)
	key := request.TopologyPrefix + named
	info, err := c.NodeGetInfo(c.ctx, &csi.NodeGetInfoRequest{})
	c.must(err)
	if info.NodeId != "n1" || info.AccessibleTopology.Segments[key] != "true" {
		t.Errorf("node %v", info)
	}
	r := creation("v", false)
	v, err := c.CreateVolume(c.ctx, r)
	c.must(err)
	if len(v.Volume.AccessibleTopology) != 0 {
		t.Errorf("nobody asked for %v", v.Volume.AccessibleTopology)
	}
	r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{{Segments: map[string]string{key: "true", "zone": "z"}}}}
	v, err = c.CreateVolume(c.ctx, r)
	c.must(err)
	if got := v.Volume.AccessibleTopology; len(got) != 1 || len(got[0].Segments) != 1 || got[0].Segments[key] != "true" {
		t.Errorf("accessible from %v", got)
	}
	r.AccessibilityRequirements.Requisite[0].Segments = map[string]string{request.TopologyPrefix + "other": "true"}
	_, err = c.CreateVolume(c.ctx, r)
	c.want(codes.InvalidArgument, key, err)
	c.net.Kill("n1")
	info, err = c.NodeGetInfo(c.ctx, &csi.NodeGetInfoRequest{})
	c.must(err)
	if len(info.AccessibleTopology.Segments) != 0 {
		t.Errorf("a dead agent is told as ready: %v", info)
	}
}

// TestPages: pages follow one another although volumes come and go.
func TestPages(t *testing.T) {
	c := dial(t, nil)
	for i := range 7 {
		c.create(fmt.Sprint("v", i))
	}
	seen := map[string]bool{}
	token := ""
	for page := 0; ; page++ {
		r, err := c.ListVolumes(c.ctx, &csi.ListVolumesRequest{MaxEntries: 3, StartingToken: token})
		c.must(err)
		for _, e := range r.Entries {
			if seen[e.Volume.VolumeId] {
				t.Error("a volume was listed twice")
			}
			seen[e.Volume.VolumeId] = true
		}
		if token = r.NextToken; token == "" {
			break
		}
		_, err = c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: token})
		c.must(err)
	}
	if len(seen) != 7 {
		t.Errorf("%d of 7 volumes were listed", len(seen))
	}
	_, err := c.ListVolumes(c.ctx, &csi.ListVolumesRequest{MaxEntries: -1})
	c.want(codes.InvalidArgument, "", err)
}

// TestSecrets: a key is taken in each form, and appears in no log and no error, whatever goes wrong.
func TestSecrets(t *testing.T) {
	c := dial(t, nil)
	raw := []byte("0123456789abcdefghijklmnopqrstuv")
	var spoken strings.Builder
	say := func(err error) {
		if err != nil {
			spoken.WriteString(err.Error() + "\n")
		}
	}
	for i, form := range []string{string(raw), hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw) + "\n"} {
		r := creation(fmt.Sprint("v", i), false)
		r.Parameters[request.ParamEncrypted] = "true"
		r.Secrets = map[string]string{request.SecretKey: form}
		v, err := c.CreateVolume(c.ctx, r)
		c.must(err)
		c.mkdir("stage")
		stage := &csi.NodeStageVolumeRequest{VolumeId: v.Volume.VolumeId, StagingTargetPath: c.path("stage"), VolumeCapability: writer(true)}
		for _, bad := range []string{"", form + "x", strings.ToUpper(form[:31]) + "!"} {
			if stage.Secrets = map[string]string{request.SecretKey: bad}; bad == "" {
				stage.Secrets = nil
			}
			_, err := c.NodeStageVolume(c.ctx, stage)
			c.want(codes.InvalidArgument, "", err)
			say(err)
		}
		stage.Secrets = r.Secrets
		_, err = c.NodeStageVolume(c.ctx, stage)
		c.must(err)
		r.Parameters[request.ParamEncrypted] = "false"
		_, err = c.CreateVolume(c.ctx, r)
		c.want(codes.InvalidArgument, request.ParamEncrypted, err)
		say(err)
	}
	said := strings.ToLower(c.logs.String() + spoken.String())
	if !strings.Contains(said, "call failed") {
		t.Error("control: nothing was logged")
	}
	for _, form := range []string{string(raw[:16]), hex.EncodeToString(raw[:8]), strings.ToLower(base64.StdEncoding.EncodeToString(raw[:15]))} {
		if strings.Contains(said, form) {
			t.Errorf("the key was told: %s", said)
		}
	}
}

// TestMalformed: what cannot be is refused, with the code that the specification gives it and a word on what is wrong.
func TestMalformed(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	c.mkdir("stage")
	c.must(os.Symlink("/etc", c.path("link")))
	stage := func(id, path string, change func(c *csi.VolumeCapability)) error {
		u := writer(false)
		if change != nil {
			change(u)
		}
		_, err := c.NodeStageVolume(c.ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: path, VolumeCapability: u})
		return err
	}
	fs := func(m *csi.VolumeCapability_MountVolume) func(c *csi.VolumeCapability) {
		return func(c *csi.VolumeCapability) { c.AccessType = &csi.VolumeCapability_Mount{Mount: m} }
	}
	mode := func(m csi.VolumeCapability_AccessMode_Mode) func(c *csi.VolumeCapability) {
		return func(c *csi.VolumeCapability) { c.AccessMode.Mode = m }
	}
	for _, bad := range []string{"/etc", c.root, c.root + "/../x", c.path("stage") + "/../../x", "stage", c.root + "/a//b", c.root + "x/y", c.path("stage\x00")} {
		c.want(codes.InvalidArgument, "path", stage(id, bad, nil))
		_, err := c.NodeUnpublishVolume(c.ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: bad})
		c.want(codes.InvalidArgument, "path", err)
		_, err = c.NodeUnstageVolume(c.ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: bad})
		c.want(codes.InvalidArgument, "path", err)
		_, err = c.NodePublishVolume(c.ctx, &csi.NodePublishVolumeRequest{VolumeId: id, StagingTargetPath: c.path("stage"), TargetPath: bad, VolumeCapability: writer(false)})
		c.want(codes.InvalidArgument, "path", err)
	}
	for _, bad := range []string{"x", "a.b", network, network + ".", network + "." + strings.Repeat("AB", 16), id + ".x", "../" + id, strings.Repeat("x", 4000)} {
		c.want(codes.NotFound, "", stage(bad, c.path("stage"), nil))
		_, err := c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: bad})
		c.must(err)
		_, err = c.CreateSnapshot(c.ctx, &csi.CreateSnapshotRequest{SourceVolumeId: bad, Name: "s"})
		c.want(codes.NotFound, "", err)
	}
	_, err := c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: "other-network." + own(id)})
	c.want(codes.Unavailable, "other-network", err) // it may live: it must not be reported as deleted
	for says, change := range map[string]func(c *csi.VolumeCapability){
		"btrfs":    fs(&csi.VolumeCapability_MountVolume{FsType: "btrfs"}),
		"bind":     fs(&csi.VolumeCapability_MountVolume{MountFlags: []string{"bind"}}),
		"group":    fs(&csi.VolumeCapability_MountVolume{VolumeMountGroup: "5"}),
		"at most":  fs(&csi.VolumeCapability_MountVolume{MountFlags: []string{strings.Repeat("x", 5000)}}),
		"neither":  func(c *csi.VolumeCapability) { c.AccessType = nil },
		"no acces": mode(csi.VolumeCapability_AccessMode_UNKNOWN),
		"one node": mode(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER),
	} {
		c.want(codes.InvalidArgument, says, stage(id, c.path("stage"), change))
	}
	c.want(codes.FailedPrecondition, "made to be written", stage(id, c.path("stage"), mode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)))
	for says, change := range map[string]func(r *csi.CreateVolumeRequest){
		"no network":  func(r *csi.CreateVolumeRequest) { delete(r.Parameters, request.ParamNetwork) },
		"other":       func(r *csi.CreateVolumeRequest) { r.Parameters[request.ParamNetwork] = "other" },
		"neither na":  func(r *csi.CreateVolumeRequest) { r.Parameters[request.ParamNetwork] = "../x" },
		"colour":      func(r *csi.CreateVolumeRequest) { r.Parameters["colour"] = "red" },
		"copies":      func(r *csi.CreateVolumeRequest) { r.Parameters[request.ParamCopies] = "0" },
		"9 nodes":     func(r *csi.CreateVolumeRequest) { r.Parameters[request.ParamCopies] = "9" },
		"write":       func(r *csi.CreateVolumeRequest) { r.Parameters[request.ParamWrite] = "never" },
		"extentSize":  func(r *csi.CreateVolumeRequest) { r.Parameters[request.ParamExtentSize] = "-1" },
		"no key":      func(r *csi.CreateVolumeRequest) { r.Secrets = map[string]string{request.SecretKey: "short"} },
		"control":     func(r *csi.CreateVolumeRequest) { r.Name = "a\x01b" },
		"at most 128": func(r *csi.CreateVolumeRequest) { r.Name = strings.Repeat("n", 129) },
		"neither a s": func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = &csi.VolumeContentSource{} },
	} {
		r := creation("bad", false)
		change(r)
		_, err := c.CreateVolume(c.ctx, r)
		if says == "9 nodes" {
			says = "nodes"
		}
		c.want(codes.InvalidArgument, says, err)
	}
	if n := len(c.net.Volumes()); n != 1 {
		t.Errorf("%d volumes, want the one of the control", n)
	}
	if list, _ := c.mounts.List(); len(list) > 0 {
		t.Errorf("mounted: %+v", list)
	}
	r := creation("ünï cödé 漢字", false) // control: what the specification allows
	_, err = c.CreateVolume(c.ctx, r)
	c.must(err)
}

// TestSocket: a second process waits for the socket, and gets it when the first has ended.
func TestSocket(t *testing.T) {
	c := dial(t, nil)
	c.must(driver.Probe(c.ctx, c.socket))
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	if _, err := driver.Listen(ctx, c.socket); !errors.Is(err, context.Canceled) {
		t.Errorf("a second process got the socket: %v", err)
	}
	if err := driver.Probe(ctx, c.path("none.sock")); err == nil {
		t.Error("a probe of nothing succeeded")
	}
	other := c.path("other.sock")
	ln, err := driver.Listen(c.ctx, other)
	c.must(err)
	served, stop := context.WithCancel(c.ctx)
	done := make(chan error, 1)
	go func() { done <- c.driver.Serve(served, ln) }()
	c.must(driver.Probe(c.ctx, other))
	stop()
	c.must(<-done)
	next, err := driver.Listen(c.ctx, other)
	c.must(err)
	c.must(next.Close())
	c.must(os.WriteFile(c.path("file.sock"), nil, 0o600))
	if _, err := driver.Listen(c.ctx, c.path("file.sock")); err == nil {
		t.Error("a file was taken for an old socket")
	}
}

// TestNetworks: a StorageClass names its network, and which one of that name it means; volumes know for whom they were made.
func TestNetworks(t *testing.T) {
	c := dial(t, nil)
	try := func(params map[string]string) (*csi.CreateVolumeResponse, error) {
		r := creation("v", false)
		r.Parameters = params
		return c.CreateVolume(c.ctx, r)
	}
	for says, params := range map[string]map[string]string{
		`["main"]`:      {request.ParamNetwork: "man"},
		"names no":      {},
		"was deleted":   {request.ParamNetwork: named, request.ParamNetworkUID: "1f0e0d0c-1111-2222-3333-444455556666"},
		"is no id":      {request.ParamNetworkUID: "../x"},
		`"1f0e0d0c-11`:  {request.ParamNetworkUID: "1f0e0d0c-1111-2222-3333-444455556666"},
		`network "othe`: {request.ParamNetwork: "other", request.ParamNetworkUID: network},
	} {
		_, err := try(params)
		c.want(codes.InvalidArgument, says, err)
	}
	claim := map[string]string{"csi.storage.k8s.io/pvc/namespace": "shop", "csi.storage.k8s.io/pvc/name": "data", "csi.storage.k8s.io/pv/name": "pvc-1"}
	var id string
	for _, params := range []map[string]string{{request.ParamNetwork: named}, {request.ParamNetworkUID: network}, {request.ParamNetwork: network},
		{request.ParamNetwork: named, request.ParamNetworkUID: network}} {
		maps.Copy(params, claim)
		r, err := try(params)
		c.must(err)
		if id != "" && r.Volume.VolumeId != id || !maps.Equal(r.Volume.VolumeContext, claim) {
			t.Errorf("%v gives %v", params, r.Volume)
		}
		id = r.Volume.VolumeId
	}
	if got := c.net.Claim(own(id)); got != "shop/data" {
		t.Errorf("the agent was told the claim %q", got)
	}
}
