// Package control is the client's end of the agents' control protocol: a connection over a unix socket, and errors said so
// that a person knows what to do.
//
// The socket lies in a directory of mode 0700: who can open it is root or the agent's own user.
package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
)

// MaxSocket is the longest path of a unix socket, in bytes.
const MaxSocket = 107

// ErrNoAgent tells that no agent answers at a socket.
var ErrNoAgent = errors.New("no agent answers")

// Agent is a connection to one agent. Safe for concurrent use.
type Agent struct {
	agentv1.AgentClient
	Socket string
	conn   *grpc.ClientConn
}

// Dial prepares a connection to the agent at a socket's path; it is made with the first call.
func Dial(socket string) (*Agent, error) {
	if len(socket) > MaxSocket {
		return nil, fmt.Errorf("%w: path of the control socket is longer than %d bytes: %s", ErrNoAgent, MaxSocket, socket)
	}
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrNoAgent, socket, err)
	}
	return &Agent{AgentClient: agentv1.NewAgentClient(conn), Socket: socket, conn: conn}, nil
}

// Close ends the connection.
func (a *Agent) Close() error { return a.conn.Close() }

// Answers tells whether the agent is there, or why not.
func (a *Agent) Answers(ctx context.Context) (*agentv1.InfoResponse, error) {
	info, err := a.Info(ctx, &agentv1.InfoRequest{})
	if err == nil {
		return info, nil
	}
	if status.Code(err) == codes.Unavailable {
		if why := reach(a.Socket); why != nil {
			return nil, why
		}
	}
	return nil, fmt.Errorf("%w at %s: %w", ErrNoAgent, a.Socket, Say(err))
}

// reach says why a socket cannot be connected to; nil if it is not for the socket.
func reach(socket string) error {
	_, err := os.Stat(socket)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no socket %s", ErrNoAgent, socket)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: %s may be opened only by the agent's user: run this as root", ErrNoAgent, socket)
	}
	return nil
}

// Error is an agent's refusal: its code, for programs, and its message, for people.
type Error struct {
	Code    codes.Code
	Message string
}

// Error is the message alone: it says what failed, on what, and what to do.
func (e *Error) Error() string { return e.Message }

// Say turns an RPC's error into an Error without gRPC's own words. Others are returned as they are.
func Say(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	if s.Code() == codes.DeadlineExceeded && s.Message() == context.DeadlineExceeded.Error() {
		return &Error{s.Code(), "the agent did not answer in time; --timeout waits longer"}
	}
	if s.Code() == codes.Canceled && strings.HasPrefix(s.Message(), "stream terminated by RST_STREAM") { // the deadline, as the agent saw it first
		return &Error{codes.DeadlineExceeded, "the agent did not answer in time, and may go on with it; ask again, or wait longer with --timeout"}
	}
	return &Error{s.Code(), s.Message()}
}
