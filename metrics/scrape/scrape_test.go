package scrape

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authnv1 "k8s.io/api/authentication/v1"
)

// server is an API server that knows three tokens.
type server struct {
	mu    sync.Mutex
	asked int
	down  bool
	users map[string]string // token → user
}

func (s *server) User(_ context.Context, token string) (authnv1.UserInfo, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.down {
		return authnv1.UserInfo{}, false, errors.New("connection refused")
	}
	u, ok := s.users[token]
	return authnv1.UserInfo{Username: u}, ok, nil
}

func (s *server) May(_ context.Context, u *authnv1.UserInfo, path string) (bool, error) {
	return u.Username == "prometheus" && path == "/metrics", nil
}

func (s *server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func gatherer(t *testing.T) prometheus.Gatherer {
	r := prometheus.NewRegistry()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "answer"})
	g.Set(42)
	if err := r.Register(g); err != nil {
		t.Fatal(err)
	}
	return r
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestAuthorize: over TLS, with a token that may, metrics come; without, with another, or with another path nothing does.
func TestAuthorize(t *testing.T) {
	api := &server{users: map[string]string{"good": "prometheus", "other": "visitor"}}
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	o := Options{Gatherer: gatherer(t), Authorizer: NewReviewer(api, time.Now), TLS: cert.TLS, Log: quiet()}
	ln, err := Listen("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, ln, o) }()
	client := cert.Client()
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	url := "https://" + ln.Addr().String()
	for _, c := range []struct {
		auth, path string
		code       int
	}{
		{"Bearer good", "/metrics", 200},
		{"bearer good", "/metrics", 200},
		{"", "/metrics", 401},
		{"Bearer ", "/metrics", 401},
		{"Basic good", "/metrics", 401},
		{"Bearer unknown", "/metrics", 401},
		{"Bearer other", "/metrics", 403},
		{"Bearer good", "/", 404},
		{"Bearer good", "/debug/pprof/", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.auth != "" {
			req.Header.Set("Authorization", c.auth)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != c.code || strings.Contains(string(body), "answer 42") != (c.code == 200) {
			t.Errorf("%q at %s: %d %q %v, want %d", c.auth, c.path, resp.StatusCode, body, err, c.code)
		}
	}
	if resp, err := http.Get("http://" + ln.Addr().String() + "/metrics"); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("served in clear")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestLoopback: what everybody may read is only for this machine.
func TestLoopback(t *testing.T) {
	open := Options{Gatherer: gatherer(t), Log: quiet()}
	if ln, err := Listen(":0", open); !errors.Is(err, ErrOpen) {
		_ = ln.Close()
		t.Errorf("all addresses: %v", err)
	}
	ln, err := Listen("127.0.0.1:0", open)
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	half := Options{Gatherer: gatherer(t), Authorizer: NewReviewer(&server{}, time.Now), Log: quiet()}
	if ln, err := Listen(":0", half); !errors.Is(err, ErrOpen) {
		_ = ln.Close()
		t.Errorf("tokens in clear: %v", err)
	}
}

// clock is a clock of the test.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func verdict(t *testing.T, r *Reviewer, token string) Verdict {
	t.Helper()
	v, err := r.Authorize(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestRemember: an answer is asked for once in a while, and what is taken away is gone when it is asked for again.
func TestRemember(t *testing.T) {
	api := &server{users: map[string]string{"good": "prometheus"}}
	c := &clock{time.Unix(1000, 0)}
	r := NewReviewer(api, c.now)
	for range 100 {
		if v := verdict(t, r, "good"); v != Allowed {
			t.Fatal(v)
		}
	}
	if api.asked != 1 {
		t.Errorf("asked %d times", api.asked)
	}
	api.set(func() { delete(api.users, "good") })
	c.at = c.at.Add(Remember + time.Second)
	if v := verdict(t, r, "good"); v != Unknown {
		t.Errorf("taken away, and %d", v)
	}
}

// TestOutage: while the API server is away, who was allowed lately still is, for a while, and nobody else.
func TestOutage(t *testing.T) {
	api := &server{users: map[string]string{"good": "prometheus"}}
	c := &clock{time.Unix(1000, 0)}
	r := NewReviewer(api, c.now)
	verdict(t, r, "good")
	api.set(func() { api.down = true })
	c.at = c.at.Add(Outage)
	if v := verdict(t, r, "good"); v != Allowed {
		t.Error(v)
	}
	if v, err := r.Authorize(t.Context(), "new"); err == nil || v == Allowed {
		t.Error("a stranger is let in")
	}
	c.at = c.at.Add(Remember + time.Second)
	if v, err := r.Authorize(t.Context(), "good"); err == nil || v == Allowed {
		t.Error("let in for ever")
	}
}

// TestStrangers: guessed tokens cost the API few requests, take bounded memory, and do not keep out who was allowed.
func TestStrangers(t *testing.T) {
	api := &server{users: map[string]string{"good": "prometheus"}}
	c := &clock{time.Unix(1000, 0)}
	r := NewReviewer(api, c.now)
	verdict(t, r, "good")
	const seconds = 200
	for s := range seconds {
		for i := range 50 {
			if v, err := r.Authorize(t.Context(), fmt.Sprint(s, "-", i)); v == Allowed || err != nil && !errors.Is(err, ErrBusy) {
				t.Fatal(v, err)
			}
		}
		if v := verdict(t, r, "good"); v != Allowed {
			t.Fatalf("after %d s: %d", s, v)
		}
		c.at = c.at.Add(time.Second)
	}
	if most := seconds*Reviews + seconds/int(Remember.Seconds()) + 2; api.asked > most {
		t.Errorf("asked %d times, at most %d", api.asked, most)
	}
	if len(r.known) > remembered {
		t.Errorf("%d tokens are remembered", len(r.known))
	}
}
