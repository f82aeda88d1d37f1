package scrape

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Path is where metrics are.
const Path = "/metrics"

// Errors of authorizing.
var (
	// ErrOpen tells that metrics would have been served to everybody.
	ErrOpen = errors.New("metrics without TLS and authorization are served on loopback addresses only")
	// ErrBusy tells that a token could not be looked at, as too many are.
	ErrBusy = errors.New("too many unknown tokens: try again")
)

// Verdict is what may be done with a token.
type Verdict uint8

// The verdicts.
const (
	Unknown   Verdict = iota // nobody's token
	Forbidden                // somebody's, who may not
	Allowed
)

// Authorizer decides about bearer tokens.
type Authorizer interface {
	Authorize(ctx context.Context, token string) (Verdict, error)
}

// Options say what is served, and to whom.
type Options struct {
	Gatherer   prometheus.Gatherer
	Authorizer Authorizer  // nil: everybody on this machine
	TLS        *tls.Config // with an Authorizer
	Log        *slog.Logger
}

// Bounds of one request: a scrape sends a small header and reads quickly.
const (
	headerTimeout = 5 * time.Second
	writeTimeout  = 30 * time.Second
	maxHeader     = 16 << 10 // bytes; a token has about 1 KiB
	concurrent    = 4        // scrapes at once
)

// Listen listens on an address; without an Authorizer only on a loopback one.
func Listen(address string, o Options) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	addr, ok := ln.Addr().(*net.TCPAddr)
	if (o.Authorizer == nil || o.TLS == nil) && (!ok || !addr.IP.IsLoopback()) {
		return nil, errors.Join(fmt.Errorf("%s: %w", address, ErrOpen), ln.Close())
	}
	return ln, nil
}

// Serve serves on a listener of Listen until ctx ends.
func Serve(ctx context.Context, ln net.Listener, o Options) error {
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, Handler(o.Authorizer, promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: concurrent, Timeout: writeTimeout / 2}), o.Log))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: writeTimeout, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx }}
	if o.TLS != nil {
		cfg := o.TLS.Clone()
		cfg.NextProtos = []string{"http/1.1"}
		ln = tls.NewListener(ln, cfg)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Handler lets to next whom the authorizer allows; nil allows everybody.
func Handler(auth Authorizer, next http.Handler, log *slog.Logger) http.Handler {
	if auth == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "bearer") || token == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "a bearer token is needed: that of a ServiceAccount which may get "+Path, http.StatusUnauthorized)
			return
		}
		v, err := auth.Authorize(r.Context(), token)
		switch {
		case errors.Is(err, ErrBusy):
			http.Error(w, err.Error(), http.StatusTooManyRequests)
		case err != nil:
			log.Warn("who asks for metrics can not be looked up", "from", r.RemoteAddr, "err", err)
			http.Error(w, "the API server does not say who this is", http.StatusServiceUnavailable)
		case v == Unknown:
			http.Error(w, "the API server does not know this token", http.StatusUnauthorized)
		case v == Forbidden:
			http.Error(w, "get on the non-resource URL "+Path+" is not allowed: bind the ClusterRole mynetwork-metrics-reader", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
