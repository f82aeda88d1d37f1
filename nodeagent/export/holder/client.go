package holder

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export/socket"
)

// Client is a connection to a holder. What it puts or gets it owns until it is closed.
type Client struct {
	mu sync.Mutex
	c  *net.UnixConn
}

// Listed is an entry's name and state.
type Listed struct {
	Name  string
	State State
}

// Dial connects to the holder at a socket's path and agrees on a version.
func Dial(ctx context.Context, path string) (*Client, error) {
	if err := socket.CheckPath(path); err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to the holder: %w", err)
	}
	c := &Client{c: conn.(*net.UnixConn)}
	if err := c.hello(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) hello(ctx context.Context) error {
	if err := socket.CheckPeer(c.c, uint32(os.Geteuid())); err != nil {
		return err
	}
	b := binary.LittleEndian.AppendUint16(nil, MinVersion)
	b = binary.LittleEndian.AppendUint16(b, MaxVersion)
	body, _, err := c.call(ctx, tHello, b, nil, tHi)
	if err != nil {
		return err
	}
	if len(body) != 2 {
		return fmt.Errorf("%w: short answer to hello", ErrProtocol)
	}
	if v := binary.LittleEndian.Uint16(body); v < MinVersion || v > MaxVersion {
		return fmt.Errorf("%w: %d", ErrVersion, v)
	}
	return nil
}

// Close gives up everything that the client owns: the watchdog begins to count.
func (c *Client) Close() error { return c.c.Close() }

// Gone returns nil once the holder at a socket's path, which must be there, has ended: what it kept must be given to its
// successor.
func Gone(ctx context.Context, path string) error {
	c, err := Dial(ctx, path)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	_, _ = c.c.Read(make([]byte, 1)) // a holder says nothing unasked
	return ctx.Err()
}

// Put gives the holder an entry. Its descriptors are copied and stay the caller's. Errors: ErrExists, ErrLimit.
func (c *Client) Put(ctx context.Context, e *Entry) error {
	if err := e.check(); err != nil {
		return err
	}
	fds := append(append([]int(nil), e.Device...), e.Memory...)
	_, _, err := c.call(ctx, tPut, appendEntry(nil, e), fds, tOK)
	return err
}

// Get makes the client own an entry. The descriptors are the caller's. Errors: ErrNotFound, ErrOwned.
func (c *Client) Get(ctx context.Context, name string) (*Entry, error) {
	if err := (&Entry{Name: name}).check(); err != nil {
		return nil, err
	}
	body, fds, err := c.call(ctx, tGet, appendName(nil, name), nil, tEntry)
	if err != nil {
		return nil, err
	}
	e, err := parseEntry(body, fds)
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	return e, nil
}

// List tells what the holder has.
func (c *Client) List(ctx context.Context) ([]Listed, error) {
	b, _, err := c.call(ctx, tList, nil, nil, tNames)
	if err != nil {
		return nil, err
	}
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: short list", ErrProtocol)
	}
	n, b := binary.LittleEndian.Uint32(b), b[4:]
	var out []Listed
	for range n {
		if len(b) < 1 {
			return nil, fmt.Errorf("%w: short list", ErrProtocol)
		}
		state := State(b[0])
		name, rest, err := cutName(b[1:])
		if err != nil {
			return nil, err
		}
		out, b = append(out, Listed{Name: name, State: state}), rest
	}
	return out, nil
}

// Drop has the holder forget an entry that the client owns and close its descriptors. Errors: ErrNotFound, ErrNotOwner.
func (c *Client) Drop(ctx context.Context, name string) error {
	if err := (&Entry{Name: name}).check(); err != nil {
		return err
	}
	_, _, err := c.call(ctx, tDrop, appendName(nil, name), nil, tOK)
	return err
}

// UpdateMeta replaces the meta of an entry that the client owns. Errors: ErrNotFound, ErrNotOwner, ErrLimit.
func (c *Client) UpdateMeta(ctx context.Context, name string, meta []byte) error {
	if err := (&Entry{Name: name, Meta: meta}).check(); err != nil {
		return err
	}
	_, _, err := c.call(ctx, tUpdate, appendMeta(appendName(nil, name), meta), nil, tOK)
	return err
}

// call sends a request and receives its answer. If ctx ends in between, the connection is of no more use and is closed.
func (c *Client) call(ctx context.Context, t frameType, body []byte, fds []int, want frameType) ([]byte, []int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = c.c.SetDeadline(time.Unix(1, 0)) })
	rt, reply, got, err := c.exchange(t, body, fds)
	if !stop() {
		_ = c.c.Close()
		closeAll(got)
		return nil, nil, fmt.Errorf("ask the holder: %w", ctx.Err())
	}
	if err != nil {
		return nil, nil, err
	}
	if rt == tError {
		closeAll(got)
		return nil, nil, parseError(reply)
	}
	if rt != want {
		closeAll(got)
		return nil, nil, fmt.Errorf("%w: an answer of type %d", ErrProtocol, rt)
	}
	return reply, got, nil
}

func (c *Client) exchange(t frameType, body []byte, fds []int) (frameType, []byte, []int, error) {
	if err := writeFrame(c.c, t, body, fds); err != nil {
		return 0, nil, nil, err
	}
	return readFrame(c.c, max(MaxFrame, maxListBody))
}
