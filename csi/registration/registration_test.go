package registration

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// kubelet asks the socket as a kubelet does, and tells it how that went.
func kubelet(t *testing.T, socket string, status *registerapi.RegistrationStatus) *registerapi.PluginInfo {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := registerapi.NewRegistrationClient(conn)
	info, err := c.GetInfo(ctx, &registerapi.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.NotifyRegistrationStatus(ctx, status); err != nil {
		t.Fatal(err)
	}
	return info
}

// anew waits until the socket is another one than before.
func anew(t *testing.T, socket string, before fs.FileInfo) fs.FileInfo {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if st, err := os.Stat(socket); err == nil && (before == nil || !os.SameFile(st, before) || st.ModTime() != before.ModTime()) {
			return st
		}
	}
	t.Fatal("the socket was not made anew")
	return nil
}

func TestRun(t *testing.T) {
	again := make(chan struct{})
	c := Config{Dir: t.TempDir(), Name: "csi.mynetwork.io", Endpoint: "/k/csi.sock", Again: again, Log: slog.New(slog.DiscardHandler), Pause: time.Millisecond}
	if err := os.WriteFile(c.Socket(), nil, 0o600); err != nil { // what a dead process left
		t.Fatal(err)
	}
	left, err := os.Stat(c.Socket())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, c) }()
	first := anew(t, c.Socket(), left)
	info := kubelet(t, c.Socket(), &registerapi.RegistrationStatus{PluginRegistered: true})
	if info.Type != "CSIPlugin" || info.Name != c.Name || info.Endpoint != c.Endpoint || len(info.SupportedVersions) != 1 {
		t.Errorf("the kubelet is told %v", info)
	}
	again <- struct{}{}
	second := anew(t, c.Socket(), first)
	kubelet(t, c.Socket(), &registerapi.RegistrationStatus{Error: "no"})
	anew(t, c.Socket(), second)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.Socket()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
}

func TestRunFails(t *testing.T) {
	c := Config{Dir: "/no/such/directory", Name: "x", Log: slog.New(slog.DiscardHandler)}
	if err := Run(context.Background(), c); err == nil {
		t.Error("no error without a directory")
	}
}
