// Package tasktest is the suite that every task.Env passes: what code written on it may rely on.
//
// Concurrency: Check blocks only through the Env that it is given, so a simulator can run it as one of its tasks.
package tasktest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/task"
)

// short is long enough to let a clock move and short enough for a test; nothing is asserted about its upper bound.
const short = 5 * time.Millisecond

// Check runs the suite from a task of env, or from the goroutine that owns it. It returns what is broken.
func Check(env task.Env) error {
	return errors.Join(events(env), signals(env), clock(env), random(env), tasks(env))
}

func events(env task.Env) error {
	e := env.NewEvent()
	if e.WaitFor(0) || e.WaitFor(short) {
		return errors.New("event: set before Set")
	}
	woken := env.NewSignal()
	var mu sync.Mutex
	n := 0
	for range 3 {
		env.Go("waiter", func() {
			e.Wait()
			mu.Lock()
			n++
			mu.Unlock()
			woken.Notify()
		})
	}
	env.Go("setter", func() {
		env.Sleep(short)
		e.Set()
		e.Set()
	})
	e.Wait()
	for {
		mu.Lock()
		all := n == 3
		mu.Unlock()
		if all {
			break
		}
		woken.Wait() // does not return if one of them never wakes
	}
	e.Wait()
	if !e.WaitFor(0) || !e.WaitFor(time.Hour) {
		return errors.New("event: not set after Set")
	}
	return nil
}

func signals(env task.Env) error {
	s := env.NewSignal()
	if s.WaitFor(0) || s.WaitFor(short) {
		return errors.New("signal: a notice before Notify")
	}
	s.Notify()
	s.Notify()
	s.Wait()
	if s.WaitFor(0) || s.WaitFor(short) {
		return errors.New("signal: two notices are two")
	}
	s.Notify()
	if !s.WaitFor(0) {
		return errors.New("signal: a notice is lost")
	}
	env.Go("notifier", func() {
		env.Sleep(short)
		s.Notify()
	})
	s.Wait()
	if s.WaitFor(0) {
		return errors.New("signal: one notice woke twice")
	}
	woken, got := env.NewSignal(), 0
	var mu sync.Mutex
	for range 2 {
		env.Go("waiter", func() {
			s.Wait()
			mu.Lock()
			got++
			mu.Unlock()
			woken.Notify()
		})
	}
	for want := 1; want <= 2; want++ {
		s.Notify()
		woken.Wait()
		mu.Lock()
		n := got
		mu.Unlock()
		if n != want {
			return fmt.Errorf("signal: %d notices woke %d", want, n)
		}
	}
	return nil
}

func clock(env task.Env) error {
	a := env.Now()
	env.Sleep(short)
	b := env.Now()
	if b-a < short {
		return fmt.Errorf("clock: slept %v in %v", b-a, short)
	}
	env.Sleep(0)
	env.Sleep(-short)
	if c := env.Now(); c < b {
		return fmt.Errorf("clock: %v after %v", c, b)
	}
	e := env.NewEvent()
	b = env.Now()
	if e.WaitFor(short) || env.Now()-b < short {
		return errors.New("clock: a wait ended before its time")
	}
	return nil
}

func random(env task.Env) error {
	seen := map[uint64]bool{}
	for range 64 {
		seen[env.Rand()] = true
	}
	if len(seen) < 64 {
		return fmt.Errorf("rand: %d different values of 64", len(seen))
	}
	return nil
}

// tasks has tasks start tasks, all waiting for each other in a ring.
func tasks(env task.Env) error {
	const n = 20
	ev := make([]task.Event, n+1)
	for i := range ev {
		ev[i] = env.NewEvent()
	}
	env.Go("starter", func() {
		for i := range n {
			env.Go("link", func() {
				ev[i].Wait()
				ev[i+1].Set()
			})
		}
		ev[0].Set()
	})
	ev[n].Wait()
	return nil
}
