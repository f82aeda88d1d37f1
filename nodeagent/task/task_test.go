package task_test

import (
	"context"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/task/tasktest"
)

func TestRealConforms(t *testing.T) {
	env := task.NewReal()
	if err := tasktest.Check(env); err != nil {
		t.Fatal(err)
	}
	env.Wait()
}

// The environments below break one rule each; the suite must say so.

type setEvent struct{ task.Event }

func (setEvent) WaitFor(time.Duration) bool { return true }

type alwaysSet struct{ *task.Real }

func (e alwaysSet) NewEvent() task.Event { return setEvent{e.Real.NewEvent()} }

// sticky is a signal whose notice is never used up.
type sticky struct{ task.Event }

func (s sticky) Notify() { s.Set() }

type staysNotified struct{ *task.Real }

func (e staysNotified) NewSignal() task.Signal { return sticky{e.NewEvent()} }

type sleepless struct{ *task.Real }

func (sleepless) Now() time.Duration { return 0 }

type constant struct{ *task.Real }

func (constant) Rand() uint64 { return 4 }

func TestSuiteCatches(t *testing.T) {
	for name, wrap := range map[string]func(*task.Real) task.Env{
		"events are always set":   func(r *task.Real) task.Env { return alwaysSet{r} },
		"signals stay":            func(r *task.Real) task.Env { return staysNotified{r} },
		"the clock stands":        func(r *task.Real) task.Env { return sleepless{r} },
		"random numbers are four": func(r *task.Real) task.Env { return constant{r} },
	} {
		if tasktest.Check(wrap(task.NewReal())) == nil {
			t.Errorf("%s: was not noticed", name)
		}
	}
}

func TestPause(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	for name, pause := range map[string]func(context.Context, time.Duration) bool{"Pause": task.Pause, "PauseAbout": task.PauseAbout} {
		if !pause(t.Context(), time.Millisecond) {
			t.Errorf("%s ended early", name)
		}
		if pause(ended, time.Hour) {
			t.Errorf("%s says that an hour has passed", name)
		}
	}
}
