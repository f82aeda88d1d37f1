package agent

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
)

// runBriefly runs an agent that must refuse to start.
func runBriefly(t *testing.T, cfg Config) error {
	t.Helper()
	a, err := New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		select {
		case <-a.Ready():
			cancel()
		case <-ctx.Done():
		}
	}()
	return a.Run(ctx)
}

// TestRefusals: what must not start does not, and leaves no goroutine.
func TestRefusals(t *testing.T) {
	c := newCluster(t, 2, false)
	good := c.node["a"].cfg
	if err := runBriefly(t, good); !errors.Is(err, ErrRunning) {
		t.Errorf("a second agent on the directory: %v", err)
	}
	c.stop("a")
	c.stop("b")
	for name, tc := range map[string]struct {
		change func(*Config)
		want   error
	}{
		"control":     {func(*Config) {}, nil}, // unchanged, it starts
		"unformatted": {func(c *Config) { c.Format = false; c.Stores = []StoreConfig{{Path: t.TempDir()}} }, stores.ErrNotFormatted},
		"missing":     {func(c *Config) { c.Format = false; c.Stores = []StoreConfig{{Path: "/nonexistent/disk"}} }, fs.ErrNotExist},
		"foreign": {func(c *Config) {
			c.Stores = []StoreConfig{{Path: filepath.Join(filepath.Dir(c.Dir), "..", "b", "disk")}}
		}, stores.ErrForeign},
		"not a member":  {func(c *Config) { c.Members = c.Members[1:] }, ErrConfig},
		"other's cert":  {func(cfg *Config) { cfg.Credentials = c.node["b"].cfg.Credentials }, ErrConfig},
		"no key":        {func(c *Config) { c.ControlKey = nil }, ErrConfig},
		"tiny ring":     {func(c *Config) { c.RingBytes = 4096 }, ErrConfig},
		"no holder":     {func(c *Config) { c.Holder = filepath.Join(c.Dir, "none") }, syscall.ENOENT},
		"no transport":  {func(c *Config) { c.FuseTransport = "pigeon" }, ErrConfig},
		"relative path": {func(c *Config) { c.Dir = "run" }, ErrConfig},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			tc.change(&cfg)
			if err := runBriefly(t, cfg); !errors.Is(err, tc.want) || tc.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestNoSecret: a volume's key and its content are in no log, event, status, registry entry or store. The control is the
// same search for what must be there.
func TestNoSecret(t *testing.T) {
	c := newCluster(t, 3, true)
	log := &buffer{}
	c.stop("a")
	c.node["a"].cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	n := c.start("a")
	ctx := t.Context()
	key := []byte("ThisIsTheKeyThatNobodyMaySee!!!!")
	wrong := []byte("ThisIsAnotherKeyNobodyMaySee!!!!")
	content := bytes.Repeat([]byte("ContentThatNobodyMaySee "), 4096/24+1)[:4096]
	_, err := n.api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "secret", Size: 4 * mib, EncryptionKey: key})
	check(t, err)
	c.create("a", "open", 4*mib)
	_, err = n.api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "secret", Kind: agentv1.DeviceKind_DEVICE_KIND_NONE, EncryptionKey: wrong})
	wantCode(t, err, codes.InvalidArgument, "key")
	all := []string{err.Error()}
	_, err = n.api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "secret", Kind: agentv1.DeviceKind_DEVICE_KIND_NONE, EncryptionKey: key})
	check(t, err)
	c.attach("a", "open")
	for _, name := range []string{"secret", "open"} {
		e := c.engine("a", name)
		check(t, e.Write([24]byte{}, content, 0))
		check(t, e.Flush())
	}
	st, err := n.api.Status(ctx, &agentv1.StatusRequest{})
	check(t, err)
	all = append(all, st.String())
	past, _ := n.events.Since(0)
	for _, e := range past {
		all = append(all, e.Message)
	}
	files := map[string]string{}
	check(t, filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = string(b)
		return err
	}))
	for path, b := range files {
		all = append(all, b)
		if strings.HasSuffix(path, ".json") && !strings.Contains(b, `"name"`) {
			t.Errorf("%s is no registry entry", path)
		}
	}
	all = append(all, log.String())
	text := strings.Join(all, "\n")
	for _, k := range [][]byte{key, wrong} {
		for _, form := range []string{string(k), hex.EncodeToString(k), base64.StdEncoding.EncodeToString(k), string(k[:16])} {
			if strings.Contains(text, form) {
				t.Errorf("a key is readable as %q", form)
			}
		}
	}
	id := c.node["a"].Volumes().Open()[1].ID.String()
	for path, b := range files {
		if strings.Contains(b, "ContentThatNobodyMaySee") && strings.Contains(path, id) {
			t.Errorf("content is readable in %s", path)
		}
	}
	if !strings.Contains(text, "ContentThatNobodyMaySee") || !strings.Contains(text, `"secret"`) {
		t.Error("the search finds nothing at all")
	}
}

// TestKillWithoutHolder: without a holder the ring is lost with the process, but nothing that was flushed; the same node may
// attach again at once, another one waits for the lease.
func TestKillWithoutHolder(t *testing.T) {
	c := newCluster(t, 3, false)
	c.stop("a")
	cmd := c.spawn("a")
	c.create("b", "vol", 4*mib)
	_, err := c.node["a"].api.AttachVolume(t.Context(), &agentv1.AttachVolumeRequest{Volume: "vol", Kind: agentv1.DeviceKind_DEVICE_KIND_NONE})
	check(t, err)
	_, err = c.node["a"].api.CreateSnapshot(t.Context(), &agentv1.CreateSnapshotRequest{Volume: "vol", Name: "s"})
	check(t, err)
	c.end("a", cmd, syscall.SIGKILL)
	_, err = c.tryAttach("b", "vol", false)
	wantCode(t, err, codes.FailedPrecondition, "node a")
	c.start("a")
	e := c.attach("a", "vol")
	if s := e.Snapshots(); len(s) != 1 || s[0].Name != "s" {
		t.Fatalf("snapshots %v", s)
	}
}
