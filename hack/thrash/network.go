package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"mynetwork.io/mynetwork/hack/command"
)

// thrash is one run.
type thrash struct {
	ctx     context.Context
	o       options
	program string
	dir     string // all that is made lies below it
	net     string // the network
	r       *rand.Rand
	start   time.Time
	story   *timeline
	proxies *proxies
	disks   []string // mounted
	loads   []*load

	mu    sync.Mutex
	count map[string]int  // faults by name
	dead  map[string]bool // nodes without power, or about to lose it
	cuts  map[string]int  // how often a node lost its power
	bad   error           // the first thing that does not hold
}

// Exit codes of mynetwork.
const (
	exitOK       = 0
	exitUsage    = 2
	exitNotFound = 4
)

// errPromise is what does not hold of what is promised.
var errPromise = errors.New("a promise is broken")

// able tells what this machine lacks.
func able() error {
	if os.Geteuid() != 0 {
		return errors.New("devices and mounts are root's")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("no FUSE on this machine: %w", err)
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount", "fsfreeze", "fallocate", "truncate"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w; apt-get install e2fsprogs mount util-linux", err)
		}
	}
	return nil
}

func newThrash(ctx context.Context, o options) (*thrash, error) {
	program, err := filepath.Abs(o.program)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%w; \"make build\" makes it", err)
	}
	t := &thrash{ctx: ctx, o: o, program: program, start: time.Now(), r: rand.New(rand.NewPCG(o.seed, 0)), count: map[string]int{}, dead: map[string]bool{}, cuts: map[string]int{}}
	if t.dir, err = os.MkdirTemp("/var/tmp", "thrash-"); err != nil {
		return nil, err
	}
	t.net = filepath.Join(t.dir, "net")
	t.story, err = newTimeline(filepath.Join(t.dir, "timeline"), t.start)
	return t, err
}

// exec runs a command to its end, also when the run is interrupted.
func (t *thrash) exec(name string, args ...string) command.Output {
	return command.Run(t.ctx, "", 5*time.Minute, name, args...)
}

// my runs mynetwork on the network.
func (t *thrash) my(args ...string) command.Output {
	return t.exec(t.program, append(args, "--dir", t.net)...)
}

// eventually repeats a command that another state of the network may let through: one that was refused, or that nobody answered.
func (t *thrash) eventually(within time.Duration, args ...string) command.Output {
	return repeat(within, func() command.Output { return t.my(args...) }, func(o command.Output) bool { return o.Code == exitOK })
}

// gone repeats a deletion. One that was asked for again finds nothing if the time before had done it and could not be sure: a volume is deleted
// before most nodes know of it.
func (t *thrash) gone(args ...string) command.Output {
	return deletion(3*time.Minute, func() command.Output { return t.my(args...) })
}

func deletion(within time.Duration, ask func() command.Output) command.Output {
	asked := false
	return repeat(within, ask, func(o command.Output) bool {
		done := o.Code == exitOK || asked && o.Code == exitNotFound
		asked = true
		return done
	})
}

// repeat asks until it is done, is asked in vain, or for too long. What is done has code 0.
func repeat(within time.Duration, ask func() command.Output, done func(command.Output) bool) command.Output {
	for end := time.Now().Add(within); ; time.Sleep(500 * time.Millisecond) {
		o := ask()
		if done(o) {
			o.Code = exitOK
			return o
		}
		if o.Code == exitUsage || o.Code == exitNotFound || time.Now().After(end) {
			return o
		}
	}
}

func (t *thrash) path(elem ...string) string {
	return filepath.Join(append([]string{t.net}, elem...)...)
}

// up makes the network: disks for the first nodes, proxies between all that there may ever be.
func (t *thrash) up() error {
	if err := errors.Join(t.my("dev", "up", "--nodes", fmt.Sprint(t.o.nodes), "--device", "fuse", "--capacity", "3Gi").Err(), t.my("dev", "down").Err()); err != nil {
		return err
	}
	for i := 1; i <= 3; i++ {
		if err := t.disk(i); err != nil {
			return err
		}
	}
	var err error
	if t.proxies, err = newProxies(t.path("network.json"), t.o.nodes+4); err != nil {
		return err
	}
	b, err := os.ReadFile(t.path("network.json"))
	if err != nil {
		return err
	}
	var n map[string]any
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	n["via"] = t.proxies.via()
	// Bits are flipped more often than a disk may have damaged areas in a day: it would be given up, and others after it.
	n["agent"] = map[string]any{"grace": grace.String(), "scrub-limit": 0}
	if b, err = json.MarshalIndent(n, "", "  "); err != nil {
		return err
	}
	if err := os.WriteFile(t.path("network.json"), b, 0o600); err != nil {
		return err
	}
	return t.my("dev", "up").Err()
}

// grace is after how long copies of a node that is away are made elsewhere.
const grace = 20 * time.Second

const diskMiB = 2000

// disk gives a node a file system of its own for its store.
func (t *thrash) disk(i int) error {
	image, dir := filepath.Join(t.dir, fmt.Sprint("disk", i)), t.path(fmt.Sprint("n", i), "store")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		return err
	}
	for _, c := range [][]string{{"truncate", "-s", fmt.Sprint(diskMiB, "M"), image}, {"mkfs.ext4", "-q", "-F", "-m", "0", image}, {"mount", "-o", "loop,discard", image, dir}} {
		if err := t.exec(c[0], c[1:]...).Err(); err != nil {
			return err
		}
	}
	t.disks = append(t.disks, dir)
	return os.Remove(filepath.Join(dir, "lost+found"))
}

// nodes are the names of the nodes that network.json has.
func (t *thrash) nodes() (names []string) {
	var n struct{ Nodes []struct{ Name string } }
	b, err := os.ReadFile(t.path("network.json"))
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	for _, m := range n.Nodes {
		names = append(names, m.Name)
	}
	if err != nil {
		t.story.say("thrash", "network.json: %v", err)
	}
	return names
}

// doom notes that a node is losing its power, or has it again.
func (t *thrash) doom(name string, on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead[name] = on
	if on {
		t.cuts[name]++
	}
}

func (t *thrash) doomed(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dead[name]
}

func (t *thrash) powerCuts(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cuts[name]
}

// broken notes what does not hold. The first counts.
func (t *thrash) broken(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bad == nil {
		t.bad = fmt.Errorf("%w: %w", errPromise, err)
		t.story.say("BROKEN", "%v", err)
	}
}

func (t *thrash) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bad
}

// cleanup ends what was started and removes what was made; with keep, logs and the timeline stay.
func (t *thrash) cleanup(keep bool) error {
	for _, d := range t.disks {
		_ = t.exec("fsfreeze", "-u", d) // an error if it is not frozen
		_ = os.Remove(filepath.Join(d, ballast))
	}
	if t.proxies != nil {
		t.proxies.heal()
	}
	for _, l := range t.loads {
		l.close()
	}
	if t.my("dev", "down").Code != 0 {
		if err := t.my("dev", "down", "--force").Err(); err != nil {
			return fmt.Errorf("%w; what is left is in %s", err, t.dir)
		}
	}
	for _, d := range t.disks {
		if err := t.exec("umount", d).Err(); err != nil {
			return err
		}
	}
	if t.proxies != nil {
		t.proxies.close()
	}
	t.story.close()
	if keep {
		list, _ := filepath.Glob(filepath.Join(t.net, "n*", "store"))
		images, _ := filepath.Glob(filepath.Join(t.dir, "disk*"))
		for _, f := range append(list, images...) {
			_ = os.RemoveAll(f)
		}
		fmt.Printf("logs and timeline are kept in %s\n", t.dir)
		return nil
	}
	return os.RemoveAll(t.dir)
}
