// Package registration tells a kubelet, in this process, that a CSI driver is on its node.
//
// The kubelet watches a directory for sockets of plug-ins and asks each for its name and where it serves. To be asked
// again, for instance because the node's topology has changed, the socket is made anew. A registration that the kubelet
// refuses is tried again, each time after a longer while.
//
// # Concurrency
//
// Run is called once per Config.
package registration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Pauses before a refused registration is tried again.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// Config says what to register.
type Config struct {
	Dir      string          // the kubelet's plugins_registry, as this process sees it
	Name     string          // of the driver
	Endpoint string          // the driver's socket, as the kubelet sees it
	Again    <-chan struct{} // each value registers anew; nil: never
	Log      *slog.Logger    // nil: slog.Default()
	Pause    time.Duration   // the first; 0: a second
}

// Socket is the path of the registration's socket.
func (c *Config) Socket() string { return filepath.Join(c.Dir, c.Name+"-reg.sock") }

// server answers one registration.
type server struct {
	registerapi.UnimplementedRegistrationServer
	cfg     *Config
	refused chan string
}

// GetInfo implements the kubelet's protocol.
func (s *server) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{Type: registerapi.CSIPlugin, Name: s.cfg.Name, Endpoint: s.cfg.Endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

// NotifyRegistrationStatus implements the kubelet's protocol.
func (s *server) NotifyRegistrationStatus(_ context.Context, r *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	if r.PluginRegistered {
		s.cfg.Log.Info("the kubelet knows the driver", "driver", s.cfg.Name)
	} else {
		select {
		case s.refused <- r.Error:
		default:
		}
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}

// Run registers and stays registered until ctx ends; then the socket is taken away, and the kubelet forgets the driver.
func Run(ctx context.Context, c Config) error {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	pause := c.Pause
	if pause == 0 {
		pause = firstPause
	}
	for {
		why, err := c.once(ctx)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if why == "" {
			continue
		}
		c.Log.Warn("the kubelet refuses the driver; trying again", "driver", c.Name, "err", why, "after", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// once serves one registration, until ctx ends, it is to be made again, or the kubelet refuses it: then it says why.
func (c *Config) once(ctx context.Context) (refused string, err error) {
	if err := os.Remove(c.Socket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("old registration: %w", err)
	}
	ln, err := net.Listen("unix", c.Socket())
	if err != nil {
		return "", fmt.Errorf("registration: %w", err)
	}
	srv := &server{cfg: c, refused: make(chan string, 1)}
	g := grpc.NewServer()
	registerapi.RegisterRegistrationServer(g, srv)
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ln) }()
	defer func() { // the kubelet reads its last answer; the socket goes first
		t := time.AfterFunc(time.Second, g.Stop)
		g.GracefulStop()
		t.Stop()
		_ = ln.Close() // if it was not served yet
	}()
	select {
	case <-ctx.Done():
	case <-c.Again:
	case refused = <-srv.refused:
	case err = <-ended:
		err = fmt.Errorf("registration: %w", err)
	}
	return refused, err
}
