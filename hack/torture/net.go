package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"mynetwork.io/mynetwork/hack/command"
)

// process is an agent or a holder that runs in a node's namespace.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// spawn starts mynetwork in a namespace; its output goes to a log.
func (t *torture) spawn(s *space, log string, args ...string) (*process, error) {
	out, err := os.OpenFile(filepath.Join(t.dir, log), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	a := s.enter(append([]string{t.program}, args...)...)
	p := &process{exec.Command(a[0], a[1:]...), make(chan struct{})} // nsenter becomes the program
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "MYNETWORK_CONFIG=" + os.DevNull}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	t.defers(func() error { return p.end() })
	return p, nil
}

func (p *process) end() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	return nil
}

func (t *torture) socket(node int) string {
	return filepath.Join(t.net, fmt.Sprint("n", node), "run", "agent.sock")
}

// on runs the client on a node's agent.
func (t *torture) on(node int, args ...string) command.Output {
	return t.my(append(args, "--socket", t.socket(node))...)
}

// spread has "dev up" make certificates and settings, and starts the agents anew, each in a namespace of its own.
func (t *torture) spread() (*wires, error) {
	if err := errors.Join(t.up("--device", "fuse"), t.my("dev", "down").Err()); err != nil {
		return nil, err
	}
	w, err := t.wire(3)
	if err != nil {
		return nil, err
	}
	address := regexp.MustCompile(`n([1-3])@127\.0\.0\.1:\d+`)
	for i := 1; i <= 3; i++ {
		dir := filepath.Join(t.net, fmt.Sprint("n", i))
		config := filepath.Join(dir, "agent.yaml")
		b, err := os.ReadFile(config)
		if err != nil {
			return nil, err
		}
		b = address.ReplaceAll(b, fmt.Appendf(nil, "n$1@10.77.$1.2:%d", peerPort))
		if err := os.WriteFile(config, b, 0o600); err != nil {
			return nil, err
		}
		if _, err := t.spawn(w.node[i], fmt.Sprintf("holder%d.log", i), "holder", "--socket", filepath.Join(dir, "run", "holder.sock"), "--patience", "5m"); err != nil {
			return nil, err
		}
		if err := eventually(10*time.Second, func() error { _, err := os.Stat(filepath.Join(dir, "run", "holder.sock")); return err }); err != nil {
			return nil, err
		}
		if _, err := t.spawn(w.node[i], fmt.Sprintf("agent%d.log", i), "agent", "--config", config); err != nil {
			return nil, err
		}
	}
	for i := 1; i <= 3; i++ {
		if err := eventually(20*time.Second, func() error { return t.on(i, "node", "list").Err() }); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// partition is a way to cut the network, seen from n1, which serves the volume.
type partition struct {
	name   string
	action string // of a rule; "down": links
	ways   []way
	down   []int
	waits  bool // no majority is left: nothing may be answered
}

var partitions = []partition{
	{"n1 from n2", "blackhole", both(1, 2), nil, false},
	{"n1 from n3, and is told so", "unreachable", both(1, 3), nil, false},
	{"n2 from n3", "blackhole", both(2, 3), nil, false},
	{"one way: nothing from n1 to n2", "blackhole", []way{{1, 2}}, nil, false},
	{"one way: nothing from n3 to n1", "blackhole", []way{{3, 1}}, nil, false},
	{"n2's cable", "down", nil, []int{2}, false},
	{"n1 from both", "blackhole", both(1, 2, 3), nil, true},
	{"one way: nothing from n1 to both", "blackhole", []way{{1, 2}, {1, 3}}, nil, true},
	{"one way: nothing from both to n1", "unreachable", []way{{2, 1}, {3, 1}}, nil, true},
	{"n1's cable", "down", nil, []int{1}, true},
	{"all from all", "blackhole", append(both(1, 2, 3), both(2, 3)...), nil, true},
}

func (w *wires) apply(p *partition) (err error) {
	if err = w.cut(p.action, p.ways); p.action != "down" {
		return err
	}
	for _, n := range p.down {
		err = errors.Join(err, w.unplug(n))
	}
	return err
}

// partitions cuts the network in every way while the device is written, synced and read.
func (t *torture) partitions(hold time.Duration) error {
	w, err := t.spread()
	if err != nil {
		return err
	}
	if err := t.on(1, "volume", "create", volumeName, "--size", "64Mi").Err(); err != nil {
		return err
	}
	o := t.on(1, "volume", "attach", volumeName, "-o", "json")
	device := regexp.MustCompile(`/dev/loop\d+`).FindString(o.Stdout)
	if device == "" {
		return fmt.Errorf("no device: %w", errors.Join(o.Err(), errors.New(o.Stdout)))
	}
	t.defers(func() error { return t.on(1, "volume", "detach", volumeName, "--force").Err() })
	l, err := newLoad(device, t.r.Uint64())
	if err != nil {
		return err
	}
	for i := range partitions {
		p := &partitions[i]
		if err := t.do(p.name, func() (string, error) { return w.partition(l, p, hold) }); err != nil {
			return err
		}
	}
	err = t.do("drops: random ways, 0.1 to 0.6 s at a time", func() (string, error) { return w.flicker(l, 2*hold) })
	if err != nil {
		return err
	}
	err = t.do("every page is read", func() (string, error) {
		return fmt.Sprintf("%d writes, %d flushes", l.next, l.flushes.Load()), l.finish()
	})
	if err != nil {
		return err
	}
	return t.do("n1 from both, and n2 takes the volume", func() (string, error) { return w.takeOver(device, l) })
}

// advanced waits until flushes are answered.
func (l *load) advanced(within time.Duration) error {
	from := l.flushes.Load()
	return eventually(within, func() error {
		if err := l.failed(); err != nil {
			return err
		}
		if l.flushes.Load() < from+5 {
			return fmt.Errorf("%d flushes were answered within %s", l.flushes.Load()-from, within)
		}
		return nil
	})
}

func (w *wires) partition(l *load, p *partition, hold time.Duration) (string, error) {
	if err := l.advanced(20 * time.Second); err != nil {
		return "", fmt.Errorf("before: %w", err)
	}
	l.longest.Store(0)
	if err := w.apply(p); err != nil {
		return "", err
	}
	time.Sleep(time.Second) // what was on its way has arrived
	for _, y := range p.ways {
		if w.reaches(y) { // the control: the network is really cut
			return "", fmt.Errorf("%v is not cut", y)
		}
	}
	from := l.flushes.Load()
	time.Sleep(hold)
	answered := l.flushes.Load() - from
	if p.waits && answered > 0 {
		return "", fmt.Errorf("%d flushes were answered without a majority", answered)
	}
	if !p.waits && answered == 0 {
		if err := l.advanced(20 * time.Second); err != nil {
			return "", fmt.Errorf("with a majority: %w", err)
		}
	}
	pause := time.Duration(l.longest.Load())
	healed := time.Now()
	if err := w.heal(); err != nil {
		return "", err
	}
	if err := l.advanced(40 * time.Second); err != nil {
		return "", fmt.Errorf("after it was healed: %w", err)
	}
	on := time.Since(healed)
	if err := w.t.whole(volumeName, 60*time.Second, "--socket", w.t.socket(1)); err != nil {
		return "", err
	}
	if p.waits {
		return fmt.Sprintf("waited; went on %.1f s after, whole after %.1f s", on.Seconds(), time.Since(healed).Seconds()), nil
	}
	return fmt.Sprintf("went on, %d flushes, longest pause %.1f s; whole %.1f s after", answered, pause.Seconds(), time.Since(healed).Seconds()), nil
}

// flicker drops on random ways for moments.
func (w *wires) flicker(l *load, long time.Duration) (string, error) {
	from, n := l.flushes.Load(), 0
	for end := time.Now().Add(long); time.Now().Before(end); n++ {
		a := 1 + w.t.r.IntN(3)
		b := 1 + (a+w.t.r.IntN(2))%3
		if err := w.cut("blackhole", []way{{a, b}}); err != nil {
			return "", err
		}
		time.Sleep(time.Duration(100+w.t.r.IntN(500)) * time.Millisecond)
		if err := w.heal(); err != nil {
			return "", err
		}
		time.Sleep(time.Duration(w.t.r.IntN(300)) * time.Millisecond)
	}
	answered := l.flushes.Load() - from
	err := errors.Join(l.advanced(30*time.Second), w.t.whole(volumeName, 60*time.Second, "--socket", w.t.socket(1)))
	return fmt.Sprintf("%d drops, %d flushes", n, answered), err
}

// takeOver moves the volume to n2 while n1 is cut off. n1 must answer nothing meanwhile, and EIO once it hears.
func (w *wires) takeOver(device string, l *load) (string, error) {
	t := w.t
	old, err := os.OpenFile(device, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return "", err
	}
	defer old.Close()
	if err := w.cut("blackhole", both(1, 2, 3)); err != nil {
		return "", err
	}
	answer := make(chan error, 1)
	go func() {
		b := aligned()
		stamp(b, 5, 1<<40)
		_, err := old.WriteAt(b, 5*page)
		answer <- errors.Join(err, old.Sync())
	}()
	o := t.on(2, "volume", "attach", volumeName, "--force", "-o", "json")
	moved := regexp.MustCompile(`/dev/loop\d+`).FindString(o.Stdout)
	if moved == "" {
		return "", fmt.Errorf("take it over: %w", errors.Join(o.Err(), errors.New(o.Stdout)))
	}
	defer t.on(2, "volume", "detach", volumeName, "--force")
	f, err := os.OpenFile(moved, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	read := func() error {
		b, want := aligned(), make([]byte, page)
		for at := range l.version {
			stamp(want, at, l.version[at])
			if _, err := f.ReadAt(b, int64(at)*page); err != nil || !bytes.Equal(b, want) {
				return fmt.Errorf("page %d on n2: right %v, %w", at, bytes.Equal(b, want), err)
			}
		}
		return nil
	}
	if err := read(); err != nil {
		return "", err
	}
	if err := w.heal(); err != nil {
		return "", err
	}
	select {
	case err = <-answer:
	case <-time.After(60 * time.Second):
		err = errors.New("no answer within 60 s")
	}
	if !errors.Is(err, syscall.EIO) {
		return "", fmt.Errorf("the former writer's fsync: %v; it must be EIO", err)
	}
	return "all pages there on n2; the former writer got EIO", read()
}
