package agents

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/request"
)

type agent struct {
	agentv1.UnimplementedAgentServer
	name string
}

func (a agent) Info(context.Context, *agentv1.InfoRequest) (*agentv1.InfoResponse, error) {
	return &agentv1.InfoResponse{Node: a.name}, nil
}

func start(t *testing.T, dir, network, name string) *grpc.Server {
	t.Helper()
	return startServer(t, dir, network, func(s *grpc.Server) { agentv1.RegisterAgentServer(s, agent{name: name}) })
}

func startServer(t *testing.T, dir, network string, register func(s *grpc.Server)) *grpc.Server {
	t.Helper()
	path := filepath.Join(dir, network, SocketName)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	return s
}

func TestSockets(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	s := New(dir, "n1", nil)
	t.Cleanup(func() { _ = s.Close() })
	if got, err := New(filepath.Join(dir, "none"), "n1", nil).Networks(ctx); len(got) != 0 || err != nil {
		t.Errorf("networks of no directory: %q, %v", got, err)
	}
	a := start(t, dir, "net-a", "first")
	start(t, dir, "net-b", "other")
	for _, d := range []string{"empty", "BAD_NAME"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "net-a", NameName), []byte("main\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := s.Networks(ctx)
	slices.SortFunc(got, func(a, b request.Network) int { return strings.Compare(a.ID, b.ID) })
	if err != nil || !slices.Equal(got, []request.Network{{ID: "net-a", Name: "main"}, {ID: "net-b", Name: "net-b"}}) {
		t.Errorf("networks %q, %v", got, err)
	}
	ask := func(node string) string {
		t.Helper()
		c, err := s.Agent(ctx, "net-a", node)
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 { // a call that was under way when its agent ended fails
			var r *agentv1.InfoResponse
			if r, err = c.Info(ctx, &agentv1.InfoRequest{}, grpc.WaitForReady(true)); err == nil {
				return r.Node
			}
		}
		t.Fatal(err)
		return ""
	}
	if ask("n1") != "first" || ask("") != "first" {
		t.Error("another agent answered")
	}
	a.Stop()
	start(t, dir, "net-a", "second")
	if got := ask("n1"); got != "second" {
		t.Errorf("after a restart %q answered", got)
	}
	for _, bad := range [][2]string{{"net-a", "n2"}, {"empty", ""}, {"..", ""}, {"net-c", "n1"}} {
		if _, err := s.Agent(ctx, bad[0], bad[1]); !errors.Is(err, request.ErrNetwork) {
			t.Errorf("agent of %q: %v, want ErrNetwork", bad, err)
		}
	}
}
