package control

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mynetwork.io/mynetwork/nodeagent/agent/fsck"
	"mynetwork.io/mynetwork/nodeagent/agent/gate"
	"mynetwork.io/mynetwork/nodeagent/agent/grants"
	"mynetwork.io/mynetwork/nodeagent/agent/layouts"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

func TestCodes(t *testing.T) {
	for err, want := range map[error]codes.Code{
		volumes.ErrBusy:          codes.Aborted,
		volume.ErrConflict:       codes.Aborted,
		registry.ErrInvalid:      codes.InvalidArgument,
		volumes.ErrKey:           codes.InvalidArgument,
		volumes.ErrKind:          codes.InvalidArgument,
		export.ErrShrink:         codes.InvalidArgument,
		volumes.ErrAttached:      codes.FailedPrecondition,
		volumes.ErrElsewhere:     codes.FailedPrecondition,
		registry.ErrClones:       codes.FailedPrecondition,
		registry.ErrNewer:        codes.FailedPrecondition,
		volume.ErrHeld:           codes.FailedPrecondition,
		replication.ErrFenced:    codes.FailedPrecondition,
		export.ErrBusy:           codes.FailedPrecondition,
		registry.ErrCorrupt:      codes.DataLoss,
		volume.ErrLost:           codes.DataLoss,
		registry.ErrNotFound:     codes.NotFound,
		registry.ErrDeleted:      codes.NotFound,
		registry.ErrExists:       codes.AlreadyExists,
		fsck.ErrOrphan:           codes.FailedPrecondition,
		gate.ErrOver:             codes.FailedPrecondition,
		gate.ErrHeld:             codes.FailedPrecondition,
		volumes.ErrDetached:      codes.FailedPrecondition,
		grants.ErrRefused:        codes.FailedPrecondition,
		grants.ErrNoAnswer:       codes.Unavailable,
		registry.ErrAway:         codes.Unavailable,
		replica.ErrFull:          codes.ResourceExhausted,
		volumes.ErrPending:       codes.Unavailable,
		volumes.ErrMinority:      codes.Unavailable,
		replica.ErrUnreachable:   codes.Unavailable,
		members.ErrNoLayout:      codes.Unavailable,
		layouts.ErrInvalid:       codes.InvalidArgument,
		layouts.ErrNotFound:      codes.NotFound,
		context.DeadlineExceeded: codes.DeadlineExceeded,
		errors.New("surprise"):   codes.Internal,
	} {
		got := toStatus(fmt.Errorf("volume %q: %w", "v", err))
		if status.Code(got) != want || status.Convert(got).Message() != fmt.Sprintf("volume %q: %v", "v", err) {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
	own := status.Error(codes.Unimplemented, "x")
	if !errors.Is(toStatus(own), own) || toStatus(nil) != nil {
		t.Error("a status is not passed on as it is")
	}
	if code(errors.Join(replica.ErrUnreachable, volumes.ErrBusy)) != codes.Aborted {
		t.Error("the order of the table does not hold")
	}
}
