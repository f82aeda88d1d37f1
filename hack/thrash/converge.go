package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// state is what "node list" says of a node.
type state struct {
	Name, State, Problem string
	Agent                int `json:"agentPid"`
	Holder               int `json:"holderPid"`
	Answers              bool
	Copies, ToMove       int64
}

func (t *thrash) states() (list []state) {
	o := t.my("node", "list", "-o", "json", "--timeout", "10s")
	if err := json.Unmarshal([]byte(o.Stdout), &list); err != nil {
		t.story.say("thrash", "node list: %v %v", err, o.Err())
	}
	return list
}

// checked is what scrub and fsck say.
type checked struct{ Bytes, Errors, Repaired int64 }

// check runs a command that finds errors; those are no error of the command.
func (t *thrash) check(args ...string) (c checked, err error) {
	o := t.eventually(3*time.Minute, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(o.Stdout), &c); err != nil {
		return c, errors.Join(o.Err(), err)
	}
	return c, nil
}

// whole tells why a volume has not all its copies yet.
func (t *thrash) whole(name string) error {
	o := t.my("volume", "inspect", name, "-o", "json")
	if err := o.Err(); err != nil {
		return err
	}
	var v struct {
		State string
		Open  *struct {
			Degraded int
			Replicas []struct {
				Node   string
				Failed bool
			}
		}
	}
	if err := json.Unmarshal([]byte(o.Stdout), &v); err != nil {
		return err
	}
	if v.Open == nil {
		return fmt.Errorf("volume %s is %s", name, v.State)
	}
	bad := v.Open.Degraded
	for _, r := range v.Open.Replicas {
		if r.Failed {
			bad++
		}
	}
	if bad > 0 || len(v.Open.Replicas) != 3 {
		return fmt.Errorf("volume %s: %d extents are degraded, replicas %v", name, v.Open.Degraded, v.Open.Replicas)
	}
	return nil
}

// healthy tells what of the network is not as it should be.
func (t *thrash) healthy() error {
	for _, s := range t.states() {
		switch {
		case s.Agent == 0 || s.Holder == 0 || !s.Answers || s.Problem != "":
			return fmt.Errorf("node %s: %s", s.Name, s.Problem)
		case s.ToMove > 0:
			return fmt.Errorf("node %s has %d bytes to copy", s.Name, s.ToMove)
		}
	}
	for _, l := range t.loads {
		if err := t.whole(l.name); err != nil {
			return err
		}
	}
	return nil
}

// deadline is how long after the last fault all copies must be there again.
const deadline = 4 * time.Minute

// converge waits for all copies, moves every volume and compares all of it, and asks fsck.
func (t *thrash) converge() error {
	begin := time.Now()
	for {
		err := errors.Join(t.failed(), t.healthy())
		if err == nil {
			break
		}
		if time.Since(begin) > deadline || t.failed() != nil || t.ctx.Err() != nil {
			err = fmt.Errorf("%.0f s after the last fault: %w", time.Since(begin).Seconds(), err)
			t.broken(err)
			return t.failed()
		}
		t.sleep(time.Second)
	}
	t.story.say("thrash", "all copies are there %.1f s after the last fault", time.Since(begin).Seconds())
	for _, l := range t.loads {
		l.end()
		if err := t.lastRead(l); err != nil {
			t.broken(err)
			return t.failed()
		}
	}
	c, err := t.check("fsck")
	if err != nil || c.Errors > 0 || c.Bytes == 0 {
		t.broken(fmt.Errorf("fsck read %d MB and found %d errors: %w; %s", c.Bytes/1e6, c.Errors, err, t.my("fsck").Stdout))
		return t.failed()
	}
	t.story.say("thrash", "fsck: %d MB of all replicas, no errors", c.Bytes/1e6)
	return t.failed()
}

// lastRead compares all of a volume on a node that has nothing of it in memory.
func (t *thrash) lastRead(l *load) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.detach(); err != nil {
		return err
	}
	f := &fault{t: t, r: t.r}
	if err := l.attach(f.elsewhere(l.node)); err != nil {
		return err
	}
	if err := l.all(l.present); err != nil {
		return fmt.Errorf("volume %s at the end: %w", l.name, err)
	}
	t.story.say("thrash", "volume %s: all %d MiB are what was written", l.name, loadPages*page>>20)
	return nil
}

// forgetful is a lie: all disks forget what they had answered to be synced in the last seconds, as those do that answer from a cache.
func (t *thrash) forgetful() error {
	stop := func() (err error) {
		for _, n := range t.nodes() {
			err = errors.Join(err, t.my("node", "kill", n, "--holder").Err())
		}
		return err
	}
	each := func(f func(n string) error) (err error) {
		for _, n := range t.nodes() {
			err = errors.Join(err, f(n))
		}
		return err
	}
	for _, l := range t.loads {
		l.powerless.Store(true)
	}
	copies := func(n string) string { return t.dir + "/copy-" + n }
	err := errors.Join(stop(), each(func(n string) error { return t.exec("cp", "-a", t.path(n, "store"), copies(n)).Err() }))
	back := func() (err error) {
		err = each(func(n string) error { return t.my("node", "start", n).Err() })
		f := &fault{t: t, r: t.r, name: "lie"}
		for _, l := range t.loads {
			err = errors.Join(err, f.takeOver(l))
		}
		return err
	}
	if err = errors.Join(err, back(), t.failed()); err != nil {
		return err
	}
	t.sleep(5 * time.Second) // writes and fsyncs that are answered
	for _, l := range t.loads {
		l.powerless.Store(true)
	}
	err = errors.Join(stop(), each(func(n string) error {
		return t.exec("sh", "-c", "rm -rf \"$1\"/* && cp -a \"$2\"/. \"$1\"", "sh", t.path(n, "store"), copies(n)).Err()
	}))
	t.story.say("lie", "all disks are what they were 5 seconds ago")
	if err != nil {
		return err
	}
	if err := back(); err != nil { // that it does not open is as good: nobody was told that all is well
		t.broken(err)
	}
	return nil
}

// spoiled is a lie: the data of all copies of closed extents are not what was written.
func (t *thrash) spoiled() error {
	t.sleep(8 * time.Second) // so that there are closed extents
	for _, n := range t.nodes() {
		list, _ := filepath.Glob(t.path(n, "store", "ext", "*", "*.ftr"))
		for _, name := range list {
			f, err := os.OpenFile(name[:len(name)-3]+"dat", os.O_RDWR, 0)
			if err != nil {
				continue
			}
			size, err := f.Seek(0, 2)
			for off := int64(0); off < size && err == nil; off += page {
				_, err = f.WriteAt([]byte{0xa5}, off+100)
			}
			_ = f.Close()
		}
	}
	t.story.say("lie", "every page of every copy of closed extents is spoiled")
	for _, l := range t.loads {
		l.mu.Lock()
		err := l.all(l.present)
		l.mu.Unlock()
		if err != nil {
			t.broken(err)
		}
	}
	return nil
}
