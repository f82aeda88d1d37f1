package cli

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/cmd/internal/devnet"
	"mynetwork.io/mynetwork/cmd/internal/inspect"
	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/cmd/internal/show"
	"mynetwork.io/mynetwork/cmd/internal/size"
	"mynetwork.io/mynetwork/controllers"
)

// Exit codes. They are stable.
const (
	ExitOK          = 0
	ExitFailure     = 1
	ExitUsage       = 2
	ExitUnhealthy   = 3
	ExitNotFound    = 4
	ExitRefused     = 5
	ExitUnavailable = 6
	ExitNoSpace     = 7
	ExitInterrupted = 130
)

// exitHelp is the text of "help exit-codes".
const exitHelp = `How a command ended:

    0    it did what was asked
    1    it failed for a reason that has no code of its own
    2    the arguments or settings cannot be used; nothing was done
    3    it did its work, and what it looked at is not healthy (status, fsck, scrub)
    4    there is no such volume, snapshot, node or network
    5    refused by the present state: the name is taken, the volume is in use or held elsewhere, ...
    6    no agent or too few replicas answer; the same command may succeed later
    7    no space
    130  interrupted`

// ErrUnhealthy tells that what was looked at is not as it should be; the findings were printed.
var ErrUnhealthy = errors.New("not healthy")

// usageError is a mistake in the arguments.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Exit is the exit code that an error asks for.
func Exit(err error) int {
	var use usageError
	var refused *control.Error
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrUnhealthy):
		return ExitUnhealthy
	case errors.As(err, &use), errors.Is(err, settings.ErrFile), errors.Is(err, settings.ErrValue), errors.Is(err, settings.ErrKey),
		errors.Is(err, size.ErrFormat), errors.Is(err, size.ErrBlocks), errors.Is(err, show.ErrFormat):
		return ExitUsage
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.Is(err, devnet.ErrNone), errors.Is(err, devnet.ErrNode), errors.Is(err, inspect.ErrNotFound):
		return ExitNotFound
	case errors.Is(err, control.ErrNoAgent), errors.Is(err, devnet.ErrLocked), errors.Is(err, ErrCluster), errors.Is(err, errNoAgents):
		return ExitUnavailable
	case errors.Is(err, devnet.ErrLeft), errors.Is(err, controllers.ErrInUse):
		return ExitRefused
	case errors.As(err, &refused):
		return exitOf(refused.Code)
	}
	return ExitFailure
}

func exitOf(c codes.Code) int {
	switch c {
	case codes.InvalidArgument, codes.OutOfRange:
		return ExitUsage
	case codes.NotFound:
		return ExitNotFound
	case codes.AlreadyExists, codes.FailedPrecondition, codes.PermissionDenied:
		return ExitRefused
	case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded:
		return ExitUnavailable
	case codes.ResourceExhausted:
		return ExitNoSpace
	case codes.DataLoss:
		return ExitUnhealthy
	case codes.Canceled:
		return ExitInterrupted
	}
	return ExitFailure
}
