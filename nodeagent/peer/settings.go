package peer

import (
	"errors"
	"fmt"
	"time"
)

// Errors that end, or refuse, a connection or a request. A ConnError wraps them.
var (
	// ErrClosed is returned after this side closed the connection, the pool or the server.
	ErrClosed = errors.New("peer: closed")
	// ErrLost is returned for requests whose connection ended before the reply. Their outcome is unknown.
	ErrLost = errors.New("peer: connection lost")
	// ErrTimeout is the reason when the other side was silent, or took nothing, for too long.
	ErrTimeout = errors.New("peer: the other side does not answer")
	// ErrBusy is returned when the send queue or the table of outstanding requests is full. Nothing was sent.
	ErrBusy = errors.New("peer: send queue is full")
	// ErrSlowReader is the reason when a peer asks for replies and does not read them.
	ErrSlowReader = errors.New("peer: the other side does not read its replies")
	// ErrGrantRefused is returned when the other side does not accept a grant; the text says why.
	ErrGrantRefused = errors.New("peer: grant refused")
	// ErrLimit is returned when a limit on connections is reached.
	ErrLimit = errors.New("peer: too many connections")
)

// ConnError is an error of a connection, with the node at its other end.
type ConnError struct {
	Node string // name of the other node; its address while the name is not verified
	Op   string
	Err  error
}

// Error implements error.
func (e *ConnError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Node, e.Err) }

// Unwrap gives the reason.
func (e *ConnError) Unwrap() error { return e.Err }

// Settings tune dialers, pools and servers. A zero field means its default.
type Settings struct {
	// MaxBody is the largest body that is taken, in bytes (2 MiB). It is told to the other side.
	MaxBody int
	// MaxQueue bounds the bytes that wait to be sent on one connection (8 MiB).
	MaxQueue int
	// MaxOutstanding bounds the requests of this side without a reply on one connection (4096).
	MaxOutstanding int
	// PingInterval is the period of keep-alive pings and of the check for silence (5 s). All nodes of a network have the same.
	PingInterval time.Duration
	// Misses is after how many such periods without any whole frame, or without progress of a write, a connection is given up (3).
	Misses int
	// DialTimeout bounds connecting, TLS and hello together (3 s); a server allows the same for TLS and hello.
	DialTimeout time.Duration
	// BackoffMin and BackoffMax bound the wait between attempts to dial a node, doubling from one to the other (50 ms, 5 s).
	BackoffMin, BackoffMax time.Duration
	// MaxConns bounds the connections of a server (1024), MaxConnsPerPeer those of one node (8).
	MaxConns, MaxConnsPerPeer int
	// PeerRequests and PeerBytes bound what one node has in flight at a server over all its connections (4096, 64 MiB):
	// bodies that are not released and the expected replies. Beyond them the server does not read from the node.
	PeerRequests int
	PeerBytes    int64
	// Software names this program in the hello (at most 64 bytes), Capabilities are bits that both sides may have in common.
	Software     string
	Capabilities uint64
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// WithDefaults fills the fields that are zero.
func (s Settings) WithDefaults() Settings {
	orDefault(&s.MaxBody, 2<<20)
	orDefault(&s.MaxQueue, 8<<20)
	orDefault(&s.MaxOutstanding, 4096)
	orDefault(&s.PingInterval, 5*time.Second)
	orDefault(&s.Misses, 3)
	orDefault(&s.DialTimeout, 3*time.Second)
	orDefault(&s.BackoffMin, 50*time.Millisecond)
	orDefault(&s.BackoffMax, 5*time.Second)
	orDefault(&s.MaxConns, 1024)
	orDefault(&s.MaxConnsPerPeer, 8)
	orDefault(&s.PeerRequests, 4096)
	orDefault(&s.PeerBytes, 64<<20)
	orDefault(&s.Software, "mynetwork")
	return s
}

// Validate checks settings whose defaults are filled in.
func (s Settings) Validate() error {
	switch {
	case s.MaxBody < 4096 || s.MaxBody > 1<<30:
		return fmt.Errorf("peer: MaxBody %d is not in [4096, 1 GiB]", s.MaxBody)
	case s.MaxQueue < s.MaxBody:
		return fmt.Errorf("peer: MaxQueue %d is below MaxBody %d", s.MaxQueue, s.MaxBody)
	case s.PeerBytes < 2*int64(s.MaxBody):
		return fmt.Errorf("peer: PeerBytes %d is below twice MaxBody %d", s.PeerBytes, s.MaxBody)
	case s.MaxOutstanding < 1 || s.PeerRequests < 1 || s.MaxConns < 1 || s.MaxConnsPerPeer < 1 || s.Misses < 1:
		return errors.New("peer: a limit is below 1")
	case s.PingInterval <= 0 || s.DialTimeout <= 0 || s.BackoffMin <= 0 || s.BackoffMax < s.BackoffMin:
		return errors.New("peer: a duration is not positive, or BackoffMax is below BackoffMin")
	case len(s.Software) > maxSoftware:
		return fmt.Errorf("peer: Software is longer than %d bytes", maxSoftware)
	}
	return nil
}

func (s Settings) hello() hello {
	return hello{newest: newestVersion, oldest: oldestVersion, maxBody: uint32(s.MaxBody), caps: s.Capabilities, software: s.Software}
}
