package scrub

import (
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/store"
)

func TestRate(t *testing.T) {
	for _, c := range []struct {
		name string
		left int64
		time time.Duration
		want int64
	}{
		{"little is read at the lowest rate", 10 << 30, Window(DefaultPeriod), Floor},
		{"much is spread over the window", 2 << 40, Window(DefaultPeriod), (2 << 40) / (7 * 24 * 3600)},
		{"too much is capped", 100 << 40, Window(DefaultPeriod), Cap},
		{"what is late is read as fast as allowed", 1, 0, Cap},
		{"more than the pass began with", -5, time.Hour, Floor},
	} {
		if got := Rate(c.left, c.time); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestWatch: a store is busy while others ask much of it, and for a while after a copy was ordered.
func TestWatch(t *testing.T) {
	at := time.Unix(1000, 0)
	var w watch
	step := func(after time.Duration, requests, rebuilds uint64) bool {
		at = at.Add(after)
		return w.see(at, requests, rebuilds)
	}
	for i, c := range []struct {
		after              time.Duration
		requests, rebuilds uint64
		want               bool
	}{
		{0, 100, 0, false}, {time.Second, 110, 0, false}, {time.Second, 300, 0, true}, {100 * time.Millisecond, 300, 0, true}, {time.Second, 300, 0, false},
		{time.Second, 300, 1, true}, {5 * time.Second, 300, 1, true}, {6 * time.Second, 300, 1, false},
	} {
		if got := step(c.after, c.requests, c.rebuilds); got != c.want {
			t.Errorf("step %d: %v, want %v", i, got, c.want)
		}
	}
}

func TestAreas(t *testing.T) {
	f := func(log bool, off, n uint32) store.Finding { return store.Finding{Log: log, Off: off, Len: n} }
	for _, c := range []struct {
		found []store.Finding
		want  int
	}{
		{nil, 0}, {[]store.Finding{f(false, 0, 4096), f(false, 4096, 4096)}, 1}, {[]store.Finding{f(false, 0, 4096), f(false, 8192, 4096)}, 2},
		{[]store.Finding{f(false, 0, 4096), f(true, 4096, 10)}, 2},
	} {
		if got := areas(c.found); got != c.want {
			t.Errorf("%v: %d, want %d", c.found, got, c.want)
		}
	}
}

// TestMemory: what is remembered comes back; bad areas of more than a day ago count no more; what cannot be read is as good as nothing.
func TestMemory(t *testing.T) {
	now := time.Unix(2_000_000, 0)
	m := memory{Version: memoryVersion, Running: true, Started: 7, Done: 8}
	x := block.ExtentID{Volume: block.VolumeID{1}, Epoch: 2, N: 3}
	m.setCursor(x)
	m.add(now, 3, 2)
	m.add(now.Add(time.Hour), 500, 1)
	got, err := decodeMemory(m.encode())
	if err != nil || got.cursor() != x || got.Found != 503 || got.Repaired != 3 || !got.Running || got.Done != 8 || len(got.Recent) != maxRecent {
		t.Fatalf("%+v, %v", got, err)
	}
	if n := got.recent(now.Add(26 * time.Hour)); n != 0 {
		t.Errorf("%d bad areas after a day", n)
	}
	if m, err := decodeMemory(nil); err != nil || m.Running || !m.cursor().IsZero() {
		t.Errorf("of nothing: %+v, %v", m, err)
	}
	for _, bad := range []string{"{", `{"version":9,"running":true}`} {
		if m, err := decodeMemory([]byte(bad)); err == nil || m.Running {
			t.Errorf("%s: %+v, %v", bad, m, err)
		}
	}
}
