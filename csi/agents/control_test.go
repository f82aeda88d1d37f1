package agents

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

// holding is an agent that notes what it is asked.
type holding struct {
	agentv1.UnimplementedAgentServer
	volume *agentv1.Volume
	asked  []string
}

func (a *holding) note(m proto.Message) {
	a.asked = append(a.asked, fmt.Sprintf("%s %s", m.ProtoReflect().Descriptor().Name(), strings.Join(strings.Fields(fmt.Sprint(m)), " ")))
}

func (a *holding) InspectVolume(context.Context, *agentv1.InspectVolumeRequest) (*agentv1.Volume, error) {
	return a.volume, nil
}

func (a *holding) HoldVolume(_ context.Context, r *agentv1.HoldVolumeRequest) (*agentv1.HoldVolumeResponse, error) {
	a.note(r)
	return &agentv1.HoldVolumeResponse{Token: "t"}, nil
}

func (a *holding) ReleaseVolume(_ context.Context, r *agentv1.ReleaseVolumeRequest) (*agentv1.ReleaseVolumeResponse, error) {
	a.note(r)
	return &agentv1.ReleaseVolumeResponse{}, nil
}

func (a *holding) CreateSnapshot(_ context.Context, r *agentv1.CreateSnapshotRequest) (*agentv1.Snapshot, error) {
	a.note(r)
	if r.Hold != "" && r.Hold != "t" {
		return nil, status.Error(codes.FailedPrecondition, "no such hold")
	}
	return &agentv1.Snapshot{Id: "s", Name: r.Name}, nil
}

func (a *holding) ModifyVolume(_ context.Context, r *agentv1.ModifyVolumeRequest) (*agentv1.Volume, error) {
	a.note(r)
	return a.volume, nil
}

func control(t *testing.T) (*holding, Control) {
	t.Helper()
	dir := t.TempDir()
	a := &holding{volume: &agentv1.Volume{Id: "v", State: agentv1.VolumeState_VOLUME_STATE_ATTACHED, Epoch: "4.x"}}
	startServer(t, dir, "net-a", func(s *grpc.Server) { agentv1.RegisterAgentServer(s, a) })
	k := New(dir, "n1", nil)
	t.Cleanup(func() { _ = k.Close() })
	return a, Control{Agents: k}
}

var held = handle.Volume{Network: "net-a", ID: "v"}

// A volume that is open is held by its agent.
func TestHold(t *testing.T) {
	a, c := control(t)
	ctx := t.Context()
	token, err := c.Hold(ctx, held, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Snapshot(ctx, held, token, "name", nil); err != nil || s.Name != "name" {
		t.Errorf("snapshot %v, %v", s, err)
	}
	if err := c.Release(ctx, held, token); err != nil {
		t.Error(err)
	}
	want := `HoldVolumeRequest volume:"v" timeout_ms:10000|CreateSnapshotRequest volume:"v" name:"name" hold:"t"|ReleaseVolumeRequest volume:"v" token:"t"`
	if got := strings.Join(a.asked, "|"); got != want {
		t.Errorf("asked\n%s\nwant\n%s", got, want)
	}
}

// A volume that nobody has open stands still by itself, unless somebody takes it meanwhile.
func TestHoldDetached(t *testing.T) {
	a, c := control(t)
	ctx := t.Context()
	a.volume.State = agentv1.VolumeState_VOLUME_STATE_DETACHED
	token, err := c.Hold(ctx, held, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Snapshot(ctx, held, token, "one", nil); err != nil {
		t.Error(err)
	}
	a.volume.State = agentv1.VolumeState_VOLUME_STATE_ATTACHED
	if _, err := c.Snapshot(ctx, held, token, "two", nil); request.Code(err) != codes.FailedPrecondition {
		t.Errorf("while somebody writes: %v", err)
	}
	a.volume.State, a.volume.Epoch = agentv1.VolumeState_VOLUME_STATE_DETACHED, "5.x"
	if _, err := c.Snapshot(ctx, held, token, "three", nil); request.Code(err) != codes.FailedPrecondition {
		t.Errorf("after somebody wrote: %v", err)
	}
	if err := c.Release(ctx, held, token); err != nil {
		t.Error(err)
	}
	if len(a.asked) != 1 || !strings.Contains(a.asked[0], `"one"`) {
		t.Errorf("asked %q", a.asked)
	}
}

// Only what is to change is asked for.
func TestModify(t *testing.T) {
	a, c := control(t)
	if err := c.Modify(t.Context(), held, request.Change{Copies: new(int32(2)), IOPS: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	if want := `ModifyVolumeRequest volume:"v" replicas:2 max_iops:0`; len(a.asked) != 1 || a.asked[0] != want {
		t.Errorf("asked %q, want %q", a.asked, want)
	}
	bounds, err := request.ReadMutable(map[string]string{"minCopies": "3", "maxCopies": "5"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Modify(t.Context(), held, bounds); err != nil {
		t.Fatal(err)
	}
	if want := `ModifyVolumeRequest volume:"v" min_replicas:3 max_replicas:5`; len(a.asked) != 2 || a.asked[1] != want {
		t.Errorf("asked %q, want %q", a.asked, want)
	}
	for _, bad := range []string{"-1", "three", ""} {
		if _, err := request.ReadMutable(map[string]string{"maxCopies": bad}); err == nil {
			t.Errorf("maxCopies=%q is taken", bad)
		}
	}
}
