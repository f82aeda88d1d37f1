package task

import (
	"context"
	"math/rand/v2"
	"time"
)

// Pause waits for d on the clock of the process; false: ctx has ended. Code that runs on an Env sleeps on that instead.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// PauseAbout waits for d within a half, so that those who begin together do not go on together; false: ctx has ended.
func PauseAbout(ctx context.Context, d time.Duration) bool {
	return Pause(ctx, d/2+rand.N(d))
}
