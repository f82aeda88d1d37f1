package controllers

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// An outage is told once, when the server answers again, and only if it was long.
func TestOutage(t *testing.T) {
	now, told := time.Unix(0, 0), 0
	o := &outage{now: func() time.Time { return now }, back: func() { told++ }}
	for i, step := range []struct {
		after    time.Duration
		answered bool
		want     int
	}{
		{0, true, 0}, {time.Second, false, 0}, {outageAfter - 1, true, 0}, // short
		{time.Second, false, 0}, {time.Second, false, 0}, {outageAfter, false, 0}, {time.Second, true, 1}, {time.Second, true, 1}, // long
		{time.Second, false, 1}, {1, true, 1}, // it begins anew
	} {
		now = now.Add(step.after)
		if o.heard(step.answered); told != step.want {
			t.Fatalf("step %d: told %d times, want %d", i, told, step.want)
		}
	}
}

// What counts as an answer: whatever the server says, but that it is not available. A request that its own caller gave up says nothing.
func TestWhatIsAnAnswer(t *testing.T) {
	code, fail := http.StatusForbidden, error(nil)
	all := &outage{now: time.Now, back: func() {}}
	tr := through{all, roundTrip(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: code}, fail })}
	try := func(ctx context.Context) bool {
		all.since = time.Time{}
		q := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		if resp, err := tr.RoundTrip(q); err == nil && resp.StatusCode != code {
			t.Error("another answer")
		}
		return all.since.IsZero()
	}
	if !try(t.Context()) {
		t.Error("forbidden is an answer")
	}
	if code = http.StatusServiceUnavailable; try(t.Context()) {
		t.Error("not available is none")
	}
	if fail = errors.New("refused"); try(t.Context()) {
		t.Error("an error is none")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if !try(over) {
		t.Error("a request that was given up counts")
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }

// answers waits until the server is ready, and says once that it waits.
func TestAnswers(t *testing.T) {
	var asked, said atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/readyz" {
			t.Errorf("it asks for %s", q.URL.Path)
		}
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer s.Close()
	if !answers(t.Context(), &rest.Config{Host: s.URL}, func(error) { said.Add(1) }) || asked.Load() != 3 || said.Load() != 1 {
		t.Errorf("asked %d times, said %d times", asked.Load(), said.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	if answers(ctx, &rest.Config{Host: "http://127.0.0.1:1"}, func(error) { cancel() }) {
		t.Error("nobody answers there")
	}
}

// The kubelet is answered as long as the process lives.
func TestProbes(t *testing.T) {
	if err := probes(t.Context(), "127.0.0.1:bad"); err == nil {
		t.Error("an address that is none")
	}
	if err := probes(t.Context(), "0"); err != nil {
		t.Error(err)
	}
}
