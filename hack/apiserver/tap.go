package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Fault is what becomes of a write.
type Fault uint8

// The faults.
const (
	None    Fault = iota
	Refuse        // the server answers with an internal error, and has done nothing
	Clash         // the server answers that the object was changed meanwhile, and has done nothing
	Lose          // it is done, and the answer is lost
	Dead          // neither this nor anything after it is sent: who asks was killed
	Unheard       // it is done, and who asked was killed before the answer
	cutOff        // of Away
)

// ErrDead is what a client hears that was killed.
var ErrDead = errors.New("the client was killed here")

// errAway is what a client hears that is cut off.
var errAway = errors.New("connection refused: the server is away")

// errLost is the loss of an answer.
var errLost = errors.New("connection reset: the answer is lost")

// Tap counts the requests of a client, and fails its writes. The zero value fails nothing.
type Tap struct {
	// Fail decides about the n-th write, counted from 1. nil: none fails. Leases and events are not counted.
	Fail func(n int, request string) Fault

	mu     sync.Mutex
	writes int
	dead   bool
	calls  map[string]int
	bytes  map[string]int64
	killed chan struct{}
	away   bool
	vain   int               // requests while away
	open   map[*counted]bool // answers that are being read, as those of watches
}

// Away cuts the client off from the server, with the watches that it has, and joins it again.
func (t *Tap) Away(away bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.away = away
	if away {
		for c := range t.open {
			_ = c.ReadCloser.Close()
		}
		t.open = nil
	}
}

// On puts the tap on a configuration.
func (t *Tap) On(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return tapped{t, next} })
	return c
}

// Killed is closed when the client is dead.
func (t *Tap) Killed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end()
}

func (t *Tap) end() chan struct{} {
	if t.killed == nil {
		t.killed = make(chan struct{})
	}
	return t.killed
}

// Writes is how many writes were tried.
func (t *Tap) Writes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writes
}

// Refused is how many requests were made while the server was away.
func (t *Tap) Refused() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.vain
}

// Calls counts requests by verb and resource, as "PATCH storagenodes/status", and the bytes of their answers. Answers that watches give
// are counted as they come.
func (t *Tap) Calls() (calls map[string]int, bytes map[string]int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.calls), maps.Clone(t.bytes)
}

type tapped struct {
	t    *Tap
	next http.RoundTripper
}

func (r tapped) RoundTrip(q *http.Request) (*http.Response, error) {
	name := describe(q)
	fault := r.t.note(q.Method, name)
	switch fault {
	case Refuse:
		return answer(q, http.StatusInternalServerError, metav1.StatusReasonInternalError, "injected"), nil
	case Clash:
		return answer(q, http.StatusConflict, metav1.StatusReasonConflict, "injected: the object has been modified"), nil
	case Dead:
		return nil, ErrDead
	case cutOff:
		return nil, errAway
	}
	resp, err := r.next.RoundTrip(q)
	switch {
	case err != nil:
		return resp, err
	case fault == Lose || fault == Unheard:
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if fault == Unheard {
			return nil, ErrDead
		}
		return nil, errLost
	}
	body := &counted{resp.Body, r.t, name}
	resp.Body = body
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	if r.t.open == nil {
		r.t.open = map[*counted]bool{}
	}
	r.t.open[body] = true
	return resp, nil
}

// note counts a request and says what becomes of it.
func (t *Tap) note(method, name string) Fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.dead:
		return Dead
	case t.away:
		t.vain++
		return cutOff
	}
	if t.calls == nil {
		t.calls, t.bytes = map[string]int{}, map[string]int64{}
	}
	t.calls[name]++
	if method == http.MethodGet || strings.HasSuffix(name, " leases") || strings.HasSuffix(name, " events") {
		return None
	}
	t.writes++
	if t.Fail == nil {
		return None
	}
	f := t.Fail(t.writes, name)
	if f == Dead || f == Unheard {
		t.dead = true
		close(t.end())
	}
	return f
}

// describe names a request: verb, resource and subresource.
func describe(q *http.Request) string {
	part := strings.Split(strings.Trim(q.URL.Path, "/"), "/")
	switch {
	case len(part) > 2 && part[0] == "api":
		part = part[2:]
	case len(part) > 3 && part[0] == "apis":
		part = part[3:]
	default:
		return q.Method + " " + q.URL.Path
	}
	if len(part) > 2 && part[0] == "namespaces" {
		part = part[2:]
	}
	verb, what := q.Method, part[0]
	if len(part) > 2 {
		what += "/" + part[2]
	}
	if verb == http.MethodGet {
		switch {
		case q.URL.Query().Get("watch") != "":
			verb = "WATCH"
		case len(part) == 1:
			verb = "LIST"
		}
	}
	return verb + " " + what
}

func answer(q *http.Request, code int, reason metav1.StatusReason, message string) *http.Response {
	b, _ := json.Marshal(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Reason: reason, Code: int32(code), Message: message})
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: q,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(b)), ContentLength: int64(len(b))}
}

// counted counts what is read.
type counted struct {
	io.ReadCloser
	t    *Tap
	name string
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.t.mu.Lock()
	c.t.bytes[c.name] += int64(n)
	c.t.mu.Unlock()
	return n, err
}

// Close takes the answer off the list of those that are read.
func (c *counted) Close() error {
	c.t.mu.Lock()
	delete(c.t.open, c)
	c.t.mu.Unlock()
	return c.ReadCloser.Close()
}
