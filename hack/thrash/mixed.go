package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// mixed makes a network of an older version and upgrades it node by node, rolls it back, and upgrades it again, under load. Both
// directions must go on with every byte, and what either says of the volumes must be clean.
func (t *thrash) mixed() error {
	old, err := filepath.Abs(t.o.old)
	if err != nil {
		return err
	}
	current := t.program
	for name, program := range map[string]string{"old": old, "new": current} {
		o := t.exec(program, "version")
		if err := o.Err(); err != nil {
			return fmt.Errorf("the %s version: %w", name, err)
		}
		t.story.say("mixed", "the %s one is %s", name, strings.Join(strings.Fields(o.Stdout), " "))
	}
	t.program, t.o.nodes = old, 3
	if err := errors.Join(t.my("dev", "up", "--nodes", "3", "--device", "fuse").Err(), t.begin()); err != nil {
		return err
	}
	rounds := []struct {
		what, program string
		nodes         []string
		holders       bool
	}{
		{"upgraded", current, []string{"n2", "n1", "n3"}, false},
		{"rolled back", old, []string{"n1", "n3", "n2"}, false},
		{"upgraded, with its holder", current, []string{"n3", "n2", "n1"}, true},
	}
	for _, r := range rounds {
		for _, n := range r.nodes {
			if err := t.replace(n, r.what, r.program, r.holders); err != nil {
				return err
			}
		}
		if err := t.clean(r.what); err != nil {
			return err
		}
	}
	return t.converge()
}

// replace ends a node's agent in order and starts it as another program. With its holder, its volumes go elsewhere first.
func (t *thrash) replace(n, what, program string, holder bool) error {
	f := &fault{t: t, r: t.r, node: n, name: "mixed"}
	args := []string{"node", "kill", n, "--term"}
	if holder {
		args = append(args, "--holder")
		for _, l := range t.loads {
			l.mu.Lock()
			var err error
			if l.node == n {
				if err = l.detach(); err == nil {
					err = l.attach(f.elsewhere(n))
				}
			}
			l.mu.Unlock()
			if err != nil {
				return err
			}
		}
	}
	if err := t.my(args...).Err(); err != nil {
		return err
	}
	t.sleep(500 * time.Millisecond)
	t.program = program
	if err := t.my("node", "start", n).Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	f.say("is %s", what)
	for end := time.Now().Add(2 * time.Minute); ; t.sleep(500 * time.Millisecond) {
		err := errors.Join(t.failed(), t.healthy())
		if err == nil {
			t.sleep(3 * time.Second) // under load, with both versions
			return t.failed()
		}
		if time.Now().After(end) || t.failed() != nil {
			return fmt.Errorf("%s %s: %w", n, what, err)
		}
	}
}

// clean has the version that all nodes are of now snapshot, clone, compare, scrub and check.
func (t *thrash) clean(what string) error {
	for _, do := range []func(*fault) error{(*fault).clone, (*fault).move, (*fault).rollback, (*fault).clone} {
		if err := errors.Join(do(&fault{t: t, r: t.r, name: "mixed"}), t.failed()); err != nil {
			return fmt.Errorf("all %s: %w", what, err)
		}
	}
	for _, args := range [][]string{{"volume", "scrub", t.loads[0].name}, {"fsck", "--quick"}} {
		for _, l := range t.loads { // a walk of a slow machine does not keep up with writers, and tells what has moved under it
			l.mu.Lock()
		}
		c, err := t.check(args...)
		for _, l := range t.loads {
			l.mu.Unlock()
		}
		if err != nil || c.Errors > 0 {
			t.broken(fmt.Errorf("all %s: %v finds %d errors: %w", what, args, c.Errors, err))
			return t.failed()
		}
	}
	t.story.say("mixed", "all nodes are %s: snapshots, clones, moves, rollback, scrub and fsck are right", what)
	return nil
}
