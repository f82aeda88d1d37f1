package volume

import (
	"testing"

	"mynetwork.io/mynetwork/nodeagent/task"
)

// caught is an Env whose tasks hand over what they panic with.
type caught struct {
	task.Env
	with chan any
}

func (c caught) Go(_ string, f func()) {
	go func() {
		defer func() { c.with <- recover() }()
		f()
	}()
}

// TestPanicUnderTheLock: a panic must end the process, not hang in what is deferred around it. (If it does, so does this.)
func TestPanicUnderTheLock(t *testing.T) {
	env := caught{task.NewReal(), make(chan any)}
	for name, f := range map[string]func(e *Engine){
		"task":      func(*Engine) {},
		"exclusive": (*Engine).release,
		"recovery":  (*Engine).regained,
		"pins":      (*Engine).unpin,
	} {
		e := &Engine{Deps: Deps{Env: env}}
		e.start(name, func() {
			defer f(e)
			e.mu.Lock()
			panic("broken")
		})
		if got := <-env.with; got != "broken" {
			t.Errorf("%s: %v", name, got)
		}
	}
}
