package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// loads is how many StatefulSets write while the cluster is hurt.
const loads = 4

// faultWithin is how long a fault and its undoing may take, waits included, and choreWithin what a user does meanwhile.
const (
	faultWithin = 6 * time.Minute
	choreWithin = 8 * time.Minute
)

// healWithin is how long the network may take, after the last fault, until all copies of everything are where they belong.
const healWithin = 5 * time.Minute

// thrash hurts a cluster at random for a while, at most one node at a time, under loads that know what they wrote, and then asks for all of it.
type thrash struct {
	s     *suite
	r     *rand.Rand
	nodes []string
	loads []*load
	since time.Time

	mu    sync.Mutex
	count map[string]int
	hurt  []span // nodes without power, or cut off
	flips map[string]int
	wrong []string
}

// span is a time in which pods of a node may be given errors: it had no power, or was cut off and its volumes went elsewhere.
type span struct {
	node     string
	from, to time.Time // to is zero as long as it lasts
}

// thrashing is the suite thrash.
func thrashing(o options) []testCase {
	return []testCase{
		{name: "install", always: true, limit: 6 * time.Minute, f: install},
		{name: "thrash", always: true, cluster: true, limit: time.Duration(o.minutes)*time.Minute + 25*time.Minute, f: func(s *suite) (string, error) { return thrashed(s, o) }},
	}
}

func thrashed(s *suite, o options) (string, error) {
	nodes, err := s.storageNodes()
	if err != nil {
		return "", err
	}
	t := &thrash{s: s, r: rand.New(rand.NewPCG(o.seed, 0)), count: map[string]int{}, flips: map[string]int{}, since: time.Now()}
	for i := range nodes {
		t.nodes = append(t.nodes, nodes[i].Spec.NodeName)
	}
	s.say("seed %d, %d minutes, nodes %s", o.seed, o.minutes, strings.Join(t.nodes, " "))
	if err := s.setSpec(func(spec *v1alpha1.MyNetworkSpec) { spec.Nodes.DownAfter = graceOfThrash() }); err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	for i := range loads {
		l, err := s.startLoad(ctx, fmt.Sprintf("load%d", i))
		if err != nil {
			return "", err
		}
		t.loads = append(t.loads, l)
	}
	if err := s.whole(); err != nil {
		return "", err
	}
	t.hurtFor(time.Duration(o.minutes) * time.Minute)
	if o.lie != "" {
		if err := t.tellLie(o.lie); err != nil {
			return "", err
		}
	}
	err = errors.Join(t.converge(), t.within(healWithin, t.everyByte), t.errorsAllowed(), t.story())
	for _, w := range t.wrong {
		err = errors.Join(err, errors.New(w))
	}
	sum := t.sum()
	switch {
	case o.lie != "" && err == nil:
		return "", fmt.Errorf("the lie %q was not found out; %s", o.lie, sum)
	case o.lie != "":
		first, _, _ := strings.Cut(err.Error(), "\n")
		return fmt.Sprintf("the lie %q was found out: %s", o.lie, first), nil
	case err != nil:
		return "", fmt.Errorf("%w\n%s", err, sum)
	}
	return sum, nil
}

// hurtFor does one thing after the other, as the seed says.
func (t *thrash) hurtFor(d time.Duration) {
	end := time.Now().Add(d)
	var chores sync.WaitGroup
	faults := slices.DeleteFunc(t.faults(), func(f fault) bool { return t.s.o.only != nil && !t.s.o.only.MatchString(f.name) })
	if len(faults) == 0 {
		t.broken(fmt.Errorf("nothing was done: no fault is named like -only %q", t.s.o.only))
		return
	}
	ctx, cancel := context.WithDeadline(t.s.ctx, end)
	defer cancel()
	mine := *t.s // of the chores: its own context
	chores.Go(func() { t.chores(ctx, &mine) })
	total := 0
	for _, f := range faults {
		total += f.weight
	}
	for time.Now().Before(end) && t.s.ctx.Err() == nil && len(t.bad()) == 0 {
		n := t.r.IntN(total)
		for _, f := range faults {
			if n -= f.weight; n >= 0 {
				continue
			}
			node := t.nodes[t.r.IntN(len(t.nodes))]
			t.s.say("%s: %s", f.name, node)
			start := time.Now()
			if err := t.within(faultWithin, func() error { return f.do(node) }); err != nil {
				t.broken(fmt.Errorf("%s, %s: %w", f.name, node, err))
			}
			t.count[f.name]++
			t.s.say("%s: %s is over after %.0f s", f.name, node, time.Since(start).Seconds())
			break
		}
		t.between(time.Second, 8*time.Second)
	}
	cancel()
	chores.Wait()
}

// within bounds what f waits for.
func (t *thrash) within(d time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(t.s.ctx, d)
	was := t.s.ctx
	t.s.ctx = ctx
	defer func() { cancel(); t.s.ctx = was }()
	return f()
}

// between waits for a time that the seed chooses.
func (t *thrash) between(least, most time.Duration) {
	pause(t.s.ctx, least+time.Duration(t.r.Int64N(int64(most-least))))
}

// broken notes that something did not hold.
func (t *thrash) broken(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wrong = append(t.wrong, err.Error())
	t.s.say("BROKEN: %v", err)
}

// bad is what did not hold so far.
func (t *thrash) bad() (out []string) {
	t.mu.Lock()
	out = append(out, t.wrong...)
	t.mu.Unlock()
	for _, l := range t.loads {
		_, _, _, wrong, _ := l.state()
		out = append(out, wrong...)
	}
	return out
}

// converge waits until all copies of everything are where they belong.
func (t *thrash) converge() error {
	start := time.Now()
	err := t.within(healWithin, t.s.whole)
	t.s.say("the last fault is over; %.0f s later the network is whole: %v", time.Since(start).Seconds(), err == nil)
	return err
}

// everyByte has each load begin anew, which reads all of it and compares with what was acknowledged, and then every copy on every node checked.
func (t *thrash) everyByte() error {
	before := map[string]int{}
	for _, l := range t.loads {
		_, before[l.name], _, _, _ = l.state()
		if err := t.s.deletePod(l.name + "-0"); err != nil {
			return err
		}
	}
	err := t.s.until("every load has begun anew, and said what it has", func() (err error) {
		for _, l := range t.loads {
			if _, started, _, wrong, _ := l.state(); started <= before[l.name] && len(wrong) == 0 {
				err = errors.Join(err, fmt.Errorf("%s has not", l.name))
			}
		}
		return err
	})
	for _, l := range t.loads {
		_, _, _, wrong, _ := l.state()
		for _, w := range wrong {
			err = errors.Join(err, errors.New(w))
		}
	}
	c, cerr := t.s.fsck(t.nodes[0])
	if cerr == nil && c.Errors > 0 {
		cerr = fmt.Errorf("fsck finds %d errors", c.Errors)
	}
	return errors.Join(err, cerr)
}

// errorsAllowed: a pod was given an error only where its node had no power, or was cut off.
func (t *thrash) errorsAllowed() (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.loads {
		_, _, _, _, failed := l.state()
		for _, f := range failed {
			if !slices.ContainsFunc(t.hurt, func(h span) bool {
				return h.node == f.node && f.at.After(h.from) && (h.to.IsZero() || f.at.Before(h.to.Add(2*time.Minute)))
			}) {
				err = errors.Join(err, fmt.Errorf("%s on %s was given an error at %s, and its node was well: %s", l.name, f.node, f.at.Format(time.TimeOnly), f.said))
			}
		}
	}
	return err
}

// storyReasons are those of events that tell what happened to the network; others are of pods and the like.
const storyReasons = " NodeTainted NodeUntainted NodeTakenOut NodeTakenBack LayoutPublished Rebalanced VolumeFenced PodDeleted PodKept TakenOut Draining Drained LastCopies " +
	"VolumesNotInPlace VolumesAttached MissingCopies Failed Applied "

// story prints what the cluster's events tell, and asks that they tell of what was done.
func (t *thrash) story() error {
	list, err := t.s.happened(t.s.ctx, t.since)
	if err != nil {
		return err
	}
	fmt.Printf("\nwhat the events tell:\n")
	have := map[string]int{}
	for _, e := range list {
		if strings.Contains(storyReasons, " "+e.Reason+" ") && (e.Type != corev1.EventTypeNormal || e.Reason != v1alpha1.EventApplied) {
			have[e.Reason]++
			fmt.Printf("  %s  %s/%s  %s: %s\n", when(&e).Local().Format(time.TimeOnly), e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, first(e.Message, 160))
		}
	}
	fmt.Println()
	for _, c := range []struct{ fault, reason string }{{"power off for long", v1alpha1.EventNodeTakenOut}, {"power off for long", v1alpha1.EventNodeTakenBack},
		{"power off", v1alpha1.EventNodeTainted}, {"drain a storage node", v1alpha1.EventLayoutPublished}} {
		if t.count[c.fault] > 0 && have[c.reason] == 0 {
			err = errors.Join(err, fmt.Errorf("%s happened %d times, and no event is %s", c.fault, t.count[c.fault], c.reason))
		}
	}
	nodes, lerr := t.s.storageNodes()
	for i := range nodes {
		name := nodes[i].Spec.NodeName
		found, repaired, _, derr := t.s.damage(name)
		t.s.say("%s: %s, %d errors found, %d repaired", name, nodes[i].Status.Summary, found, repaired)
		if derr == nil && t.flips[name] > 0 && found == 0 {
			derr = fmt.Errorf("%d bits were flipped on %s, and its status tells of none", t.flips[name], name)
		}
		err = errors.Join(err, derr)
	}
	return errors.Join(err, lerr)
}

func first(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return text[:n] + "..."
}

// sum says what was done, and what came of it.
func (t *thrash) sum() string {
	var done []string
	for name, n := range t.count {
		done = append(done, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(done)
	writes, started, verified, failed := 0, 0, 0, 0
	for _, l := range t.loads {
		w, s, v, _, f := l.state()
		writes, started, verified, failed = writes+w, started+s, verified+v, failed+len(f)
	}
	return fmt.Sprintf("%d writes acknowledged and there, %d starts and %d more readings of all pages right, %d errors given on nodes that were off; done: %s", writes, started, verified, failed, strings.Join(done, ", "))
}
