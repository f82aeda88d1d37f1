package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// way is what happens to bytes that go from one node to another.
type way struct {
	cut   bool          // they do not arrive: they wait, as in a cable that is plugged in again
	delay time.Duration // they arrive later
	rate  float64       // bytes a second; 0 is as fast as it goes
}

// proxies stand between all pairs of nodes.
type proxies struct {
	network string // network.json
	listen  map[string]net.Listener

	mu      sync.Mutex
	changed chan struct{} // closed when a way changes
	ways    map[string]way
	conns   map[string]map[net.Conn]bool // by way
}

func node(i int) string { return fmt.Sprint("n", i) }

// newProxies listens for nodes n1 to n.
func newProxies(network string, n int) (*proxies, error) {
	p := &proxies{network: network, listen: map[string]net.Listener{}, changed: make(chan struct{}), ways: map[string]way{}, conns: map[string]map[net.Conn]bool{}}
	for a := 1; a <= n; a++ {
		for b := 1; b <= n; b++ {
			if a == b {
				continue
			}
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				return nil, errors.Join(err, p.close())
			}
			p.listen[node(a)+">"+node(b)] = l
			go p.serve(l, node(a), node(b))
		}
	}
	return p, nil
}

// via is what network.json says of them.
func (p *proxies) via() map[string]string {
	out := map[string]string{}
	for pair, l := range p.listen {
		out[pair] = l.Addr().String()
	}
	return out
}

// address is where a node is now.
func (p *proxies) address(name string) (string, error) {
	var n struct {
		Nodes []struct{ Name, Address string }
	}
	b, err := os.ReadFile(p.network)
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	for _, m := range n.Nodes {
		if m.Name == name {
			return m.Address, err
		}
	}
	return "", errors.Join(err, fmt.Errorf("there is no %s", name))
}

func (p *proxies) serve(l net.Listener, from, to string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			address, err := p.address(to)
			if err != nil {
				return
			}
			far, err := net.DialTimeout("tcp4", address, time.Second)
			if err != nil {
				return
			}
			defer far.Close()
			ended := make(chan struct{}, 2)
			go func() { p.pump(from+">"+to, c, far); ended <- struct{}{} }()
			go func() { p.pump(to+">"+from, far, c); ended <- struct{}{} }()
			<-ended
		}()
	}
}

type chunk struct {
	b  []byte
	at time.Time
}

// pump carries bytes one way until an end closes.
func (p *proxies) pump(name string, from, to net.Conn) {
	p.register(name, from, true)
	defer p.register(name, from, false)
	queue := make(chan chunk, 64)
	go func() {
		defer close(queue)
		for {
			b := make([]byte, 64<<10)
			n, err := from.Read(b)
			if n > 0 {
				queue <- chunk{b[:n], time.Now()}
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		_, _ = from.Close(), to.Close()
		for range queue { // so that its writer ends
		}
	}()
	for c := range queue {
		w := p.wait(name, from)
		time.Sleep(time.Until(c.at.Add(w.delay)))
		if w.rate > 0 {
			time.Sleep(time.Duration(float64(len(c.b)) / w.rate * float64(time.Second)))
		}
		if _, err := to.Write(c.b); err != nil && !errors.Is(err, io.EOF) {
			return
		}
	}
}

// wait waits as long as a way is cut and the connection is not to end.
func (p *proxies) wait(name string, c net.Conn) way {
	for {
		p.mu.Lock()
		w, changed, there := p.ways[name], p.changed, p.conns[name][c]
		p.mu.Unlock()
		if !w.cut || !there {
			return w
		}
		<-changed
	}
}

func (p *proxies) register(name string, c net.Conn, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns[name] == nil {
		p.conns[name] = map[net.Conn]bool{}
	}
	if on {
		p.conns[name][c] = true
	} else {
		delete(p.conns[name], c)
	}
}

// set changes ways; reset also ends the connections that use them.
func (p *proxies) set(w way, reset bool, names ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		p.ways[name] = w
		if reset {
			for c := range p.conns[name] {
				_ = c.Close()
			}
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// heal lets everything through.
func (p *proxies) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.ways)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *proxies) close() error {
	p.heal()
	var err error
	for _, l := range p.listen {
		err = errors.Join(err, l.Close())
	}
	return err
}
