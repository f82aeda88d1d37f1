package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Chores are what people do with volumes while nodes are hurt. Each takes a volume from its writer for as long as it has to.

// move takes a volume to another node.
func (f *fault) move() error {
	l := f.t.loads[f.r.IntN(len(f.t.loads))]
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away() {
		return nil
	}
	from := l.node
	to := f.elsewhere(from)
	f.say("volume %s goes from %s to %s", l.name, from, to)
	if err := l.detach(); err != nil {
		return err
	}
	if err := l.attach(to); err != nil {
		return err
	}
	if err := l.all(l.present); err != nil {
		f.t.broken(fmt.Errorf("volume %s after it went from %s to %s: %w", l.name, from, to, err))
	}
	f.say("volume %s is on %s and compared", l.name, to)
	return nil
}

// snapshot keeps a volume's content, and gives what that is.
func (l *load) snapshot(name string) (content []uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away() {
		return nil, nil
	}
	if err := l.t.eventually(3*time.Minute, "volume", "snapshot", l.name, name).Err(); err != nil {
		return nil, err
	}
	content = slices.Clone(l.synced)
	for p, list := range l.later {
		content[p] = list[len(list)-1]
	}
	return content, nil
}

// clone makes a snapshot, reads it through a clone on some node, and deletes both.
func (f *fault) clone() error {
	l := f.t.loads[f.r.IntN(len(f.t.loads))]
	id := fmt.Sprintf("s%d", f.r.Uint32())
	content, err := l.snapshot(id)
	if content == nil {
		return err
	}
	f.between(time.Second, 5*time.Second)
	c := f.t.newLoad("c"+id, l.salt)
	on := f.elsewhere("")
	f.say("snapshot %s of %s is read on %s", id, l.name, on)
	if err := f.t.eventually(3*time.Minute, "volume", "clone", l.name, id, c.name).Err(); err != nil {
		return err
	}
	copy(c.synced, content)
	cuts := f.t.powerCuts(on)
	err = c.attach(on)
	if err == nil {
		if err = c.all(c.present); err != nil && f.t.powerCuts(on) == cuts {
			f.t.broken(fmt.Errorf("clone %s of %s on %s: %w", c.name, l.name, on, err))
		}
		_ = c.f.Close()
	}
	if err == nil {
		err = f.t.eventually(3*time.Minute, "volume", "detach", c.name, "--node", on).Err()
	}
	if f.t.powerCuts(on) != cuts { // both stay, and are checked at the end
		f.say("%s lost its power over clone %s", on, c.name)
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.t.gone("volume", "delete", c.name, "--yes").Err(), f.t.gone("volume", "snapshot", l.name, id, "--delete", "--yes").Err())
}

// rollback takes a volume back to what it was some time ago.
func (f *fault) rollback() error {
	l := f.t.loads[f.r.IntN(len(f.t.loads))]
	id := fmt.Sprintf("r%d", f.r.Uint32())
	content, err := l.snapshot(id)
	if content == nil {
		return err
	}
	f.between(2*time.Second, 6*time.Second)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away() {
		return nil
	}
	f.say("volume %s goes back to snapshot %s", l.name, id)
	if err := l.detach(); err != nil {
		return err
	}
	if err := f.t.eventually(3*time.Minute, "volume", "rollback", l.name, id, "--yes").Err(); err != nil {
		return err
	}
	copy(l.synced, content)
	if err := l.attach(f.elsewhere("")); err != nil {
		return err
	}
	if err := l.all(l.present); err != nil {
		f.t.broken(fmt.Errorf("volume %s after a rollback: %w", l.name, err))
	}
	return f.t.gone("volume", "snapshot", l.name, id, "--delete", "--yes").Err()
}

// drain has all data of a node go elsewhere, and takes the node out of the network.
func (f *fault) drain() error {
	f.say("is drained")
	if err := f.t.eventually(time.Minute, "node", "drain", f.node).Err(); err != nil {
		return err
	}
	for _, l := range f.t.loads {
		l.mu.Lock()
		var err error
		if l.node == f.node && !l.away() {
			if err = l.detach(); err == nil {
				err = l.attach(f.elsewhere(f.node))
			}
		}
		l.mu.Unlock()
		if err != nil {
			return err
		}
	}
	begin := time.Now()
	o := f.t.eventually(5*time.Minute, "node", "remove", f.node)
	if o.Code != 0 {
		f.t.broken(fmt.Errorf("node %s is not emptied within five minutes: %w", f.node, o.Err()))
		return nil
	}
	f.say("left the network after %.0f s", time.Since(begin).Seconds())
	return nil
}

// add makes a further node.
func (f *fault) add() error {
	o := f.t.my("node", "add")
	f.say("%s", o.Stdout)
	return o.Err()
}
