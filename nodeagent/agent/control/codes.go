package control

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mynetwork.io/mynetwork/nodeagent/agent/fsck"
	"mynetwork.io/mynetwork/nodeagent/agent/gate"
	"mynetwork.io/mynetwork/nodeagent/agent/grants"
	"mynetwork.io/mynetwork/nodeagent/agent/layouts"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/agent/readers"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// toStatus turns an error into one of gRPC: the one switch.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(code(err), err.Error())
}

// code is the protocol's code for an error. The first that fits counts, so what explains comes before what is a consequence.
func code(err error) codes.Code {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case is(volumes.ErrBusy, volume.ErrConflict):
		return codes.Aborted
	case is(layouts.ErrInvalid, registry.ErrInvalid, volumes.ErrInvalid, volumes.ErrKind, volumes.ErrKey, volume.ErrUnaligned, volume.ErrRange, export.ErrShrink, export.ErrSize):
		return codes.InvalidArgument
	case is(readers.ErrNotSealed, volumes.ErrSealed, volumes.ErrAttached, volumes.ErrElsewhere, volumes.ErrDetached, fsck.ErrOrphan, gate.ErrHeld, gate.ErrOver, grants.ErrRefused, registry.ErrClones, registry.ErrNewer, volume.ErrHeld, volume.ErrInUse, export.ErrBusy, replication.ErrFenced):
		return codes.FailedPrecondition
	case is(registry.ErrCorrupt, volume.ErrLost, volume.ErrCut):
		return codes.DataLoss
	case is(registry.ErrDeleted, replica.ErrDeleted, registry.ErrNotFound, layouts.ErrNotFound):
		return codes.NotFound
	case is(registry.ErrExists):
		return codes.AlreadyExists
	case is(replica.ErrFull):
		return codes.ResourceExhausted
	case is(registry.ErrAway, grants.ErrNoAnswer, members.ErrNoLayout, volumes.ErrPending, volumes.ErrMinority, volumes.ErrClosed, replica.ErrUnreachable, volume.ErrClosed):
		return codes.Unavailable
	case is(context.Canceled):
		return codes.Canceled
	case is(context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	return codes.Internal
}
