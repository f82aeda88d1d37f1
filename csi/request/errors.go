package request

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
	ErrInvalid      = errors.New("invalid request")
	ErrNotFound     = errors.New("not found")
	ErrExists       = errors.New("exists already, and differs")
	ErrInFlight     = errors.New("another call for it is under way: try again")
	ErrToken        = errors.New("not a token of this driver")
	ErrRange        = errors.New("size is not possible")
	ErrPrecondition = errors.New("something stands in the way")
	ErrHeld         = errors.New("volume is held elsewhere")
	ErrUnsupported  = errors.New("not supported")

	// ErrAway tells that too few nodes answer.
	ErrAway = errors.New("too few nodes answer: try again")
	// ErrNetwork is what Agents reports of a network that it does not know, or that has no agent there.
	ErrNetwork = errors.New("no agent of this network")
)

func Invalid(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrInvalid)
}

// ToStatus turns an error into one of gRPC.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(Code(err), err.Error())
}

// Code is the code that the specification gives an error: the one switch. The first that fits counts.
func Code(err error) codes.Code {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case is(ErrInFlight, ErrToken):
		return codes.Aborted
	case is(ErrHeld):
		return codes.DeadlineExceeded // not final: the kubelet unstages before it gives up
	case is(ErrInvalid, mount.ErrPath, mount.ErrOption):
		return codes.InvalidArgument
	case is(ErrNotFound, handle.ErrMalformed):
		return codes.NotFound
	case is(ErrExists):
		return codes.AlreadyExists
	case is(ErrRange):
		return codes.OutOfRange
	case is(ErrPrecondition, mount.ErrForeign, mount.ErrBusy, mount.ErrDenied):
		return codes.FailedPrecondition
	case is(ErrUnsupported):
		return codes.Unimplemented
	case is(mount.ErrDamaged):
		return codes.DataLoss
	case is(ErrNetwork, ErrAway):
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

// IsCode tells whether an agent answered with that code.
func IsCode(err error, c codes.Code) bool {
	return err != nil && status.Code(err) == c
}
