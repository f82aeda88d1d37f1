package agent

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// Golden networks: what versions of this program left on disks, opened by every later one. Each is a folder of testdata/golden, made by
// "make golden NAME=...": network.tar.zst has the layout, the registry and the stores of three nodes as a power cut leaves them, with
// volumes open; manifest.json says what must be in them, and which formats they are in.

var goldenName = flag.String("golden", "", "make a golden network of this name in testdata/golden, from what this version writes")

const goldenDir = "testdata/golden"

// golden is a manifest.
type golden struct {
	Network    string                  `json:"network"`
	ControlKey string                  `json:"controlKey"` // of this network alone; in base64
	Formats    map[string]int          `json:"formats"`    // see goldenFormats
	Volumes    map[string]goldenVolume `json:"volumes"`
}

type goldenVolume struct {
	Size    int64  `json:"size"`
	Node    string `json:"node"` // that had it open
	Sum     string `json:"sum"`  // SHA-256 of all its bytes, in hex
	Deleted bool   `json:"deleted,omitempty"`
}

// pattern writes n runs of pages that compress well, each of its own content, and flushes.
func (m *model) pattern(e *volume.Engine, n int) {
	m.tb.Helper()
	for range n {
		pages := 1 + m.rand.IntN(12)
		off := m.rand.IntN(len(m.want)/4096-pages+1) * 4096
		for i := range pages {
			p := m.want[off+i*4096:][:4096]
			copy(p, bytes.Repeat(fmt.Appendf(nil, "%016x", m.rand.Uint64()), 256))
		}
		check(m.tb, e.Write(ring.ID{}, m.want[off:off+pages*4096], int64(off)))
	}
	check(m.tb, e.Flush())
}

func (m *model) sum() string { return sumOf(m.want) }

func sumOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func content(t *testing.T, e *volume.Engine) *model {
	t.Helper()
	m := newModel(t, 5, e.Size())
	check(t, e.Read(m.want, 0))
	return m
}

// TestMakeGolden makes a golden network if it is asked to, and is an empty test otherwise.
func TestMakeGolden(t *testing.T) {
	if *goldenName == "" {
		t.Skip("it makes a golden network: make golden NAME=...")
	}
	dir := filepath.Join(goldenDir, *goldenName)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatalf("a golden network that is there is never written again: %v", err)
	}
	var layout string
	c := newClusterWith(t, 3, true, func(c *Config) {
		layout = filepath.Join(filepath.Dir(c.Registry), "layout")
		c.Layout, c.ScrubPeriod = layout, 0
	})
	writeLayout(t, c, layout)
	g := golden{Network: network, ControlKey: base64.StdEncoding.EncodeToString(c.key), Formats: map[string]int{}, Volumes: map[string]goldenVolume{}}
	for name, f := range goldenFormats {
		if f.open {
			g.Formats[name] = f.version(t)
		}
	}
	fillGolden(t, c, &g)
	eventually(t, "what a scrub remembers", func() error {
		for _, n := range c.node {
			for _, s := range n.stores.All() {
				if s.Meta("scrub") == nil {
					return errNot
				}
			}
		}
		return nil
	})
	b, err := json.MarshalIndent(g, "", "\t")
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "manifest.json"), append(b, '\n'), 0o644))
	n := pack(t, c.dir, filepath.Join(dir, "network.tar.zst"), "layout", "registry", "a/disk", "b/disk", "c/disk")
	t.Logf("%s: %d bytes", dir, n)
}

// writeLayout gives the network a layout of its own, so that there is a file of it.
func writeLayout(t *testing.T, c *cluster, file string) {
	t.Helper()
	var list []members.Node
	for _, m := range c.list {
		list = append(list, members.Node{Name: m.Node, Address: m.Address})
	}
	first, err := members.Layout(list)
	check(t, err)
	nodes := first.Members()
	nodes[0].Weight *= 2
	next, err := placement.Compute(nodes, first.Params(), first)
	check(t, err)
	b, err := next.AppendBinary(nil)
	check(t, err)
	check(t, os.WriteFile(file, b, 0o600))
	eventually(t, "the layout is in use", func() error {
		for _, n := range c.node {
			if n.members.Version() != next.Version() {
				return errNot
			}
		}
		return nil
	})
}

// fillGolden makes volumes of all kinds, and leaves most of them open.
func fillGolden(t *testing.T, c *cluster, g *golden) {
	t.Helper()
	ctx, api := t.Context(), c.node["a"].api
	_, err := api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "plain", Size: 12 * mib, Replicas: 3, ExtentSize: 1 << 20}) // some of its extents are closed
	check(t, err)
	plain := newModel(t, 1, 12*mib)
	e := c.attach("a", "plain")
	plain.pattern(e, 40)
	_, err = api.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: "plain", Name: "s1"})
	check(t, err)
	g.Volumes["plain-s1"] = goldenVolume{Size: 12 * mib, Sum: plain.sum()}
	twin := plain.clone()
	_, err = api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "plain", Snapshot: "s1", Name: "twin"})
	check(t, err)
	plain.pattern(e, 60)
	check(t, e.Discard([24]byte{}, 0, 1*mib))
	clear(plain.want[:mib])
	plain.pattern(e, 15)
	twin.pattern(c.attach("b", "twin"), 15)

	_, err = api.CreateVolume(ctx, &agentv1.CreateVolumeRequest{Name: "secret", Size: 4 * mib, Replicas: 3, Compression: agentv1.Compression_COMPRESSION_ZSTD, EncryptionKey: key32()})
	check(t, err)
	secret := newModel(t, 2, 4*mib)
	secret.pattern(c.attachSecret(t, "c", "secret"), 15)

	c.create("b", "gone", 4*mib)
	newModel(t, 3, 4*mib).pattern(c.attach("b", "gone"), 10)
	c.detach("b", "gone")
	_, err = api.DeleteVolume(ctx, &agentv1.DeleteVolumeRequest{Volume: "gone"})
	check(t, err)
	lost := c.create("a", "lost", 4*mib) // its record says that a weak volume was once recovered without all replicas, and has bounds of its copies
	id, err := block.ParseVolumeID(lost.Id)
	check(t, err)
	reg, err := registry.OpenFile(filepath.Join(c.dir, "registry"))
	check(t, err)
	_, err = reg.Update(id, func(r *registry.Record) error {
		r.Lost, r.Adaptive = 1, registry.Adaptive{Least: 3, Most: 5, Why: "ReadHot", Changed: 1}
		return nil
	})
	check(t, err)

	early, err := api.CloneVolume(ctx, &agentv1.CloneVolumeRequest{Volume: "plain", Snapshot: "s1", Name: "early"}) // its record is of the latest version: it waits for its root
	check(t, err)
	id, err = block.ParseVolumeID(early.Id)
	check(t, err)
	_, err = reg.Update(id, func(r *registry.Record) error {
		r.Unrooted = true
		return nil
	})
	check(t, err)
	g.Volumes["early"] = goldenVolume{Size: 12 * mib, Sum: g.Volumes["plain-s1"].Sum}

	g.Volumes["plain"] = goldenVolume{Size: 12 * mib, Node: "a", Sum: plain.sum()}
	g.Volumes["twin"] = goldenVolume{Size: 12 * mib, Node: "b", Sum: twin.sum()}
	g.Volumes["secret"] = goldenVolume{Size: 4 * mib, Node: "c", Sum: secret.sum()}
	g.Volumes["gone"] = goldenVolume{Size: 4 * mib, Deleted: true}
	g.Volumes["lost"] = goldenVolume{Size: 4 * mib, Sum: sumOf(make([]byte, 4*mib))}
}

func (c *cluster) attachSecret(t *testing.T, on, name string) *volume.Engine {
	t.Helper()
	_, err := c.node[on].api.AttachVolume(t.Context(), &agentv1.AttachVolumeRequest{Volume: name, Kind: agentv1.DeviceKind_DEVICE_KIND_NONE, EncryptionKey: key32(), Force: true})
	check(t, err)
	return c.engine(on, name)
}

// goldens are the golden networks by name.
func goldens(t *testing.T) map[string]golden {
	t.Helper()
	out := map[string]golden{}
	list, err := os.ReadDir(goldenDir)
	check(t, err)
	for _, e := range list {
		b, err := os.ReadFile(filepath.Join(goldenDir, e.Name(), "manifest.json"))
		check(t, err)
		var g golden
		check(t, json.Unmarshal(b, &g))
		out[e.Name()] = g
	}
	if len(out) == 0 {
		t.Fatal("there is no golden network: make golden NAME=...")
	}
	return out
}

// open starts agents on a copy of the golden network in the directory from, with names, network and control key of then.
func (g *golden) open(t *testing.T, from string, spoil func(dir string)) *cluster {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(g.ControlKey)
	check(t, err)
	if g.Network != network || len(key) != ed25519.PrivateKeySize {
		t.Fatalf("network %q, a key of %d bytes", g.Network, len(key))
	}
	copied := false
	return newClusterWith(t, 3, false, func(c *Config) {
		dir := filepath.Dir(c.Registry)
		if !copied {
			check(t, os.CopyFS(dir, os.DirFS(from)))
			spoil(dir)
			copied = true
		}
		c.Layout, c.ControlKey = filepath.Join(dir, "layout"), key
	})
}

// TestGolden: what every former version left is read, byte for byte, and used on.
func TestGolden(t *testing.T) {
	for name, g := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			c := g.open(t, unpack(t, name), func(string) {})
			_, err := c.tryAttach("b", "plain", true) // its writer of then is gone without a word
			check(t, err)
			_, err = c.node["b"].api.CloneVolume(t.Context(), &agentv1.CloneVolumeRequest{Volume: "plain", Snapshot: "s1", Name: "plain-s1"})
			check(t, err)
			for volume, want := range g.Volumes {
				on, then := "b", "c"
				if want.Deleted {
					_, err := c.tryAttach(on, volume, true)
					wantCode(t, err, codes.NotFound, volume)
					continue
				}
				attach := func(on string) *model {
					if volume == "secret" {
						return content(t, c.attachSecret(t, on, volume))
					}
					_, err := c.tryAttach(on, volume, true)
					check(t, err)
					return content(t, c.engine(on, volume))
				}
				m := attach(on)
				if m.sum() != want.Sum || int64(len(m.want)) != want.Size {
					t.Errorf("%s has %d bytes with the sum %s, want %d with %s", volume, len(m.want), m.sum(), want.Size, want.Sum)
				}
				m.pattern(c.engine(on, volume), 30)
				c.detach(on, volume)
				if again := attach(then); again.sum() != m.sum() {
					t.Errorf("%s: what was written on top of it is not there", volume)
				}
			}
			c.clean(t)
		})
	}
}

// pack writes parts of a directory into a compressed archive, and gives its size.
func pack(t *testing.T, dir, file string, parts ...string) int64 {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	check(t, err)
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(128<<20), zstd.WithEncoderConcurrency(1))
	check(t, err)
	w := tar.NewWriter(z)
	for _, part := range parts {
		check(t, filepath.WalkDir(filepath.Join(dir, part), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || d.Name() == "reserve" { // made again when it is missing
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			if err := w.WriteHeader(&tar.Header{Name: rel, Mode: 0o600, Size: int64(len(b))}); err != nil {
				return err
			}
			_, err = w.Write(b)
			return err
		}))
	}
	check(t, errors.Join(w.Close(), z.Close()))
	st, err := f.Stat()
	check(t, err)
	check(t, f.Close())
	return st.Size()
}

// unpack writes a golden network into a directory, which it gives.
func unpack(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Open(filepath.Join(goldenDir, name, "network.tar.zst"))
	check(t, err)
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(1))
	check(t, err)
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		check(t, err)
		if !filepath.IsLocal(h.Name) {
			t.Fatalf("%s leads out of the archive", h.Name)
		}
		name := filepath.Join(dir, h.Name)
		check(t, os.MkdirAll(filepath.Dir(name), 0o700))
		out, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		check(t, err)
		_, err = io.Copy(out, r)
		check(t, errors.Join(err, out.Close()))
	}
}
