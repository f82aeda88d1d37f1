package driver

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/mount"
)

// Errors of the driver. Those of agents arrive as gRPC codes, which mean the same here as there.
var (
	errInvalid      = errors.New("invalid request")
	errNotFound     = errors.New("not found")
	errExists       = errors.New("exists already, and differs")
	errInFlight     = errors.New("another call for it is under way: try again")
	errToken        = errors.New("not a token of this driver")
	errRange        = errors.New("size is not possible")
	errPrecondition = errors.New("something stands in the way")
	errHeld         = errors.New("volume is held elsewhere")
	errUnsupported  = errors.New("not supported")

	// ErrNetwork is what Agents reports of a network that it does not know, or that has no agent there.
	ErrNetwork = errors.New("no agent of this network")
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errInvalid)
}

// toStatus turns an error into one of gRPC.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(code(err), err.Error())
}

// code is the code that the specification gives an error: the one switch. The first that fits counts.
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
	case is(errInFlight, errToken):
		return codes.Aborted
	case is(errHeld):
		return codes.DeadlineExceeded // not final: the kubelet unstages before it gives up
	case is(errInvalid, mount.ErrPath, mount.ErrOption):
		return codes.InvalidArgument
	case is(errNotFound, handle.ErrMalformed):
		return codes.NotFound
	case is(errExists):
		return codes.AlreadyExists
	case is(errRange):
		return codes.OutOfRange
	case is(errPrecondition, mount.ErrForeign, mount.ErrBusy, mount.ErrDenied):
		return codes.FailedPrecondition
	case is(errUnsupported):
		return codes.Unimplemented
	case is(mount.ErrDamaged):
		return codes.DataLoss
	case is(ErrNetwork):
		return codes.Unavailable
	case is(context.Canceled):
		return codes.Canceled
	case is(context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		return s.Code()
	}
	return codes.Internal
}

// isCode tells whether an agent answered with that code.
func isCode(err error, c codes.Code) bool {
	return err != nil && status.Code(err) == c
}
