package mounter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export/socket"
)

const (
	// dialTime is how long a call waits for a server that is being started anew, unless its context ends earlier.
	dialTime = 10 * time.Second
	dialPoll = 50 * time.Millisecond
	// DefaultPatience is how long a call without a deadline waits at the server.
	DefaultPatience = 30 * time.Second
)

// Client has a Server mount. It connects for each call, so a server that was started anew is found again. Its methods are
// those of Local, with the same errors, and ErrAway. Make one with Dial.
type Client struct{ path string }

// Dial gives a client of the server at a socket's path. It does not connect yet.
func Dial(path string) (*Client, error) {
	if err := socket.CheckPath(path); err != nil {
		return nil, err
	}
	return &Client{path: path}, nil
}

// Mount is Local.Mount.
func (c *Client) Mount(ctx context.Context, name string) (Mount, error) {
	a, err := c.call(ctx, tMount, name, tMounted)
	if err != nil {
		return Mount{}, err
	}
	if len(a.body) != 4 || len(a.fds) != 1 {
		socket.CloseAll(a.fds)
		return Mount{}, fmt.Errorf("%w: %d bytes and %d descriptors of a mount", ErrProtocol, len(a.body), len(a.fds))
	}
	return Mount{FD: a.fds[0], Conn: binary.LittleEndian.Uint32(a.body)}, nil
}

// Bind is Local.Bind.
func (c *Client) Bind(ctx context.Context, name string) (path string, err error) {
	a, err := c.call(ctx, tBind, name, tBound)
	return string(a.body), err
}

// Resize is Local.Resize.
func (c *Client) Resize(ctx context.Context, name string) (size int64, err error) {
	a, err := c.call(ctx, tResize, name, tSize)
	if err == nil && len(a.body) != 8 {
		err = fmt.Errorf("%w: short size", ErrProtocol)
	}
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint64(a.body)), nil
}

// Unbind is Local.Unbind.
func (c *Client) Unbind(ctx context.Context, name string) error {
	_, err := c.call(ctx, tUnbind, name, tOK)
	return err
}

// Unmount is Local.Unmount.
func (c *Client) Unmount(ctx context.Context, name string) error {
	_, err := c.call(ctx, tUnmount, name, tOK)
	return err
}

// Abort is Local.Abort.
func (c *Client) Abort(ctx context.Context, name string) error {
	_, err := c.call(ctx, tAbort, name, tOK)
	return err
}

// Discard is Local.Discard.
func (c *Client) Discard(ctx context.Context, name string) error {
	_, err := c.call(ctx, tDiscard, name, tOK)
	return err
}

// List is Local.List.
func (c *Client) List(ctx context.Context) ([]Found, error) {
	a, err := c.ask(ctx, tList, nil, tFound)
	if err != nil {
		return nil, err
	}
	return parseFound(a.body)
}

// Freeze is Freezer.Freeze.
func (c *Client) Freeze(ctx context.Context, name string) (bool, error) {
	return c.ice(ctx, tFreeze, name)
}

// Thaw is Freezer.Thaw.
func (c *Client) Thaw(ctx context.Context, name string) (bool, error) { return c.ice(ctx, tThaw, name) }

func (c *Client) ice(ctx context.Context, t uint8, name string) (bool, error) {
	a, err := c.call(ctx, t, name, tFrozen)
	if err == nil && len(a.body) != 1 {
		err = fmt.Errorf("%w: short answer", ErrProtocol)
	}
	return err == nil && a.body[0] == 1, err
}

func (c *Client) call(ctx context.Context, t uint8, name string, want uint8) (frame, error) {
	if err := CheckName(name); err != nil {
		return frame{}, err
	}
	patience := DefaultPatience
	if d, ok := ctx.Deadline(); ok {
		patience = time.Until(d)
	}
	return c.ask(ctx, t, appendTarget(nil, name, patience), want)
}

// ask sends one request over a connection of its own. The descriptors of the answer are the caller's.
func (c *Client) ask(ctx context.Context, t uint8, body []byte, want uint8) (frame, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return frame{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() {
		// The server waits no longer than the deadline it was told: its answer is about to come.
		grace := time.Time{}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			grace = time.Now().Add(time.Second)
		} else {
			grace = time.Unix(1, 0)
		}
		_ = conn.SetDeadline(grace)
	})
	defer stop()
	hello := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, MinVersion), MaxVersion)
	a, err := exchange(conn, tHello, hello, tHi)
	if err == nil {
		if len(a.body) != 2 || binary.LittleEndian.Uint16(a.body) < MinVersion || binary.LittleEndian.Uint16(a.body) > MaxVersion {
			return frame{}, fmt.Errorf("%w: its answer to hello", ErrVersion)
		}
		a, err = exchange(conn, t, body, want)
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return a, err
}

func exchange(conn *net.UnixConn, t uint8, body []byte, want uint8) (frame, error) {
	if err := socket.Send(conn, t, body, nil); err != nil {
		return frame{}, fmt.Errorf("%w: %w", ErrAway, err)
	}
	rt, reply, fds, err := socket.Receive(conn, max(maxFrame, maxList), 1)
	switch {
	case err != nil && !errors.Is(err, socket.ErrFrame) && !errors.Is(err, socket.ErrLong):
		return frame{}, fmt.Errorf("%w: it ended in the middle of a call: %w", ErrAway, err)
	case err != nil:
		return frame{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	case rt == want:
		return frame{t: rt, body: reply, fds: fds}, nil
	}
	socket.CloseAll(fds)
	if rt == tError {
		return frame{}, parseError(reply)
	}
	return frame{}, fmt.Errorf("%w: an answer of type %d", ErrProtocol, rt)
}

// connect waits a while for a server.
func (c *Client) connect(ctx context.Context) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	tick := time.NewTicker(dialPoll)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", c.path)
		if err == nil {
			u := conn.(*net.UnixConn)
			if err = socket.CheckPeer(u, 0, uint32(os.Geteuid())); err == nil {
				return u, nil
			}
			_ = conn.Close()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrAway, err)
		case <-tick.C:
		}
	}
}
