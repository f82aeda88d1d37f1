package controllers

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// outageAfter is how long no request is answered before that counts as an outage. What is shorter, the clients get over by themselves.
const outageAfter = 5 * time.Second

// outage notices that the API server was away, and is back. Watches that broke are tried again after pauses that grow to a minute, so
// that whoever leads afterwards would work on old caches for that long: it had better begin anew.
type outage struct {
	now  func() time.Time
	back func() // called when the server answers again after an outage

	mu    sync.Mutex
	since time.Time // of the first request that was not answered; zero: the last one was
}

// onOutage is a configuration whose clients call back after an outage.
func onOutage(c *rest.Config, back func()) *rest.Config {
	c = rest.CopyConfig(c)
	var mu sync.Mutex
	var all *outage
	c.Wrap(func(next http.RoundTripper) http.RoundTripper {
		mu.Lock()
		defer mu.Unlock()
		if all == nil {
			all = &outage{now: time.Now, back: back}
		}
		return through{all, next}
	})
	return c
}

// through is a transport of one client; all share what is known.
type through struct {
	all  *outage
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t through) RoundTrip(q *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(q)
	if q.Context().Err() == nil || err == nil {
		t.all.heard(err == nil && resp.StatusCode != http.StatusServiceUnavailable)
	}
	return resp, err
}

func (o *outage) heard(answered bool) {
	o.mu.Lock()
	now, since := o.now(), o.since
	switch {
	case answered:
		o.since = time.Time{}
	case since.IsZero():
		o.since = now
	}
	o.mu.Unlock()
	if answered && !since.IsZero() && now.Sub(since) >= outageAfter {
		o.back()
	}
}

// askAgain is how often a server that is away is asked.
const askAgain = time.Second

// answers waits until the API server answers, whatever it says; false: ctx has ended.
func answers(ctx context.Context, c *rest.Config, say func(err error)) bool {
	c = rest.CopyConfig(c)
	c.Timeout = 5 * time.Second
	h, err := rest.HTTPClientFor(c)
	for said := false; ; {
		if err == nil {
			err = ask(ctx, h, c.Host)
		}
		if err == nil {
			return true
		}
		if !said && ctx.Err() == nil {
			said = true
			say(err)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(askAgain):
			err = nil
		}
	}
}

func ask(ctx context.Context, h *http.Client, host string) error {
	base, _, err := rest.DefaultServerURL(host, "", schema.GroupVersion{}, true)
	if err != nil {
		return err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("/readyz").String(), nil)
	if err != nil {
		return err
	}
	resp, err := h.Do(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		return errors.New("the API server is not ready: " + resp.Status)
	}
	return nil
}

// probes answers the kubelet at an address as long as the process lives, also while the operator waits for the API server: a restart would
// only be delayed by the kubelet's pauses between restarts.
func probes(ctx context.Context, address string) error {
	if address == "" || address == "0" {
		return nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/readyz"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.Serve(l) }()
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return nil
}
