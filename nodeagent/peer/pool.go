package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

// Class chooses one of a node's connections, so that large transfers do not delay small requests.
type Class uint8

// The classes.
const (
	Small Class = iota // journal appends, single pages, control
	Bulk               // whole blocks
	classCount
)

// Resolver gives the TCP address of a node.
type Resolver func(ctx context.Context, node string) (addr string, err error)

// Pool keeps the connections to other nodes: at most one for each node and class, dialed when it is first asked for and dialed again,
// after a growing pause, when it was lost. Safe for concurrent use.
type Pool struct {
	dialer  *Dialer
	resolve Resolver
	ctx     context.Context // ends with the pool
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	closed bool
	nodes  map[string]*remoteNode
	grants map[block.VolumeID][]byte
	// grantChanges counts the calls of AddGrant, so that a connection that is being made misses none.
	grantChanges uint64
}

type remoteNode struct {
	health *Health
	lines  [classCount]line
	gone   bool // forgotten; guarded by Pool.mu
}

// line is the connection of one class to one node.
type line struct {
	conn    *Conn
	pause   time.Duration // before the next attempt
	lastErr error
	dialing chan struct{} // closed when the attempt under way has ended
}

// NewPool makes a pool.
func NewPool(creds *identity.Credentials, set Settings, resolve Resolver) (*Pool, error) {
	d, err := NewDialer(creds, set)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Pool{dialer: d, resolve: resolve, ctx: ctx, cancel: cancel,
		nodes: map[string]*remoteNode{}, grants: map[block.VolumeID][]byte{}}, nil
}

// node finds or makes the entry of a node. The caller holds mu.
func (p *Pool) node(name string) *remoteNode {
	n := p.nodes[name]
	if n == nil {
		n = &remoteNode{health: NewHealth()}
		p.nodes[name] = n
	}
	return n
}

// Get gives the connection to a node, and waits for it to be made until the context ends; then the error holds the last reason
// that dialing failed for.
func (p *Pool) Get(ctx context.Context, node string, class Class) (*Conn, error) {
	var last error
	for {
		c, wait, err := p.line(node, class)
		if c != nil || errors.Is(err, ErrClosed) {
			return c, err
		}
		if err != nil {
			last = err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, &ConnError{Node: node, Op: "connect to", Err: errors.Join(ctx.Err(), last)}
		}
	}
}

// Try gives the connection to a node if there is one. If not, it sees to it that one is being made, and gives the
// last error, ErrBusy if none is known yet. It does not block.
func (p *Pool) Try(node string, class Class) (*Conn, error) {
	c, _, err := p.line(node, class)
	if c == nil && err == nil {
		err = &ConnError{Node: node, Op: "connect to", Err: ErrBusy}
	}
	return c, err
}

func (p *Pool) line(node string, class Class) (*Conn, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, ErrClosed
	}
	n := p.node(node)
	l := &n.lines[class]
	if l.conn != nil && l.conn.Err() == nil {
		return l.conn, nil, nil
	}
	if l.dialing == nil {
		l.dialing = make(chan struct{})
		p.wg.Go(func() { p.connect(node, n, l) })
	}
	return nil, l.dialing, l.lastErr
}

// connect makes one attempt, after the pause that the last failure left.
func (p *Pool) connect(node string, n *remoteNode, l *line) {
	p.mu.Lock()
	pause, old := l.pause, l.conn
	l.conn = nil
	p.mu.Unlock()
	if old != nil {
		old.Close()
	}
	c, err := p.attempt(node, n, pause)
	published := false
	p.mu.Lock()
	for err == nil && !p.closed && !n.gone && !published {
		known := p.grantChanges
		p.mu.Unlock()
		err = p.present(c)
		p.mu.Lock()
		published = err == nil && known == p.grantChanges && !p.closed && !n.gone
	}
	set := p.dialer.set
	if published {
		l.conn, l.lastErr, l.pause = c, nil, set.BackoffMin
	} else {
		l.lastErr, l.pause = err, min(max(2*l.pause, set.BackoffMin), set.BackoffMax)
	}
	close(l.dialing)
	l.dialing = nil
	p.mu.Unlock()
	if c != nil && !published {
		c.Close()
	}
	if err != nil && p.ctx.Err() == nil {
		n.health.Fail()
	}
}

func (p *Pool) attempt(node string, n *remoteNode, pause time.Duration) (*Conn, error) {
	if pause > 0 { // a random half, so that nodes that lost the same server do not come back in step
		t := time.NewTimer(pause/2 + rand.N(pause/2+1))
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.ctx.Done():
			return nil, ErrClosed
		}
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.dialer.set.DialTimeout)
	defer cancel()
	addr, err := p.resolve(ctx, node)
	if err != nil {
		return nil, &ConnError{Node: node, Op: "resolve", Err: err}
	}
	return p.dialer.dial(ctx, node, addr, n.health, func() { p.lost(n) })
}

// lost counts the loss of a connection that this side did not end.
func (p *Pool) lost(n *remoteNode) {
	if p.ctx.Err() == nil {
		n.health.Fail()
	}
}

// present installs all grants on a new connection. One that is refused is not fatal: its requests will be denied, with the reason.
func (p *Pool) present(c *Conn) error {
	p.mu.Lock()
	grants := make([][]byte, 0, len(p.grants))
	for _, g := range p.grants {
		grants = append(grants, g)
	}
	p.mu.Unlock()
	for _, g := range grants {
		if err := c.SendWait(p.ctx, typeGrant, 0, nil, g); err != nil {
			return err
		}
	}
	return nil
}

// AddGrant keeps this node's encoded grant for a volume, replacing an older one, and presents it on all connections, those of the
// future included, before any later request.
func (p *Pool) AddGrant(ctx context.Context, volume block.VolumeID, encoded []byte) error {
	p.mu.Lock()
	p.grants[volume] = encoded
	p.grantChanges++
	var conns []*Conn
	for _, n := range p.nodes {
		for i := range n.lines {
			if c := n.lines[i].conn; c != nil && c.Err() == nil {
				conns = append(conns, c)
			}
		}
	}
	p.mu.Unlock()
	for _, c := range conns {
		if err := c.SendWait(ctx, typeGrant, 0, nil, encoded); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// DropGrant forgets the grant for a volume; nodes that know it keep it until this node's connections end.
func (p *Pool) DropGrant(volume block.VolumeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.grants, volume)
}

// Health is what is known of a node.
func (p *Pool) Health(node string) *Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.node(node).health
}

// Forget ends the connections to a node and drops what is known of it.
func (p *Pool) Forget(node string) {
	p.mu.Lock()
	n := p.nodes[node]
	delete(p.nodes, node)
	if n != nil {
		n.gone = true
	}
	p.mu.Unlock()
	if n != nil {
		p.end(n)
	}
}

func (p *Pool) end(n *remoteNode) {
	for i := range n.lines {
		p.mu.Lock()
		c := n.lines[i].conn
		p.mu.Unlock()
		if c != nil {
			c.Close()
		}
	}
}

// Close ends all connections and waits for all goroutines.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	nodes := make([]*remoteNode, 0, len(p.nodes))
	for _, n := range p.nodes {
		nodes = append(nodes, n)
	}
	p.mu.Unlock()
	p.cancel()
	for _, n := range nodes {
		p.end(n)
	}
	p.wg.Wait()
	return nil
}
