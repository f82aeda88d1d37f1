package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

// childEnv names the directory of an agent that this test binary runs as, in a process of its own.
const childEnv = "MYNETWORK_TEST_AGENT"

// child runs an agent until it is killed.
func child(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
	}
	var cfg Config
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	fail(err)
	fail(json.Unmarshal(b, &cfg))
	cfg.Credentials, err = identity.LoadCredentials(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt"), identity.CredentialOptions{})
	fail(err)
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	a, err := New(cfg)
	fail(err)
	go func() { // dies with its parent
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(2)
	}()
	ctx, stop := context.WithCancel(context.Background())
	sig := make(chan os.Signal, 1)
	notifyTerm(sig)
	go func() { <-sig; stop() }()
	fail(a.Run(ctx))
}

// spawn runs node name's agent as a process.
func (c *cluster) spawn(name string) *exec.Cmd {
	c.tb.Helper()
	n := c.node[name]
	dir := filepath.Join(c.dir, name)
	if _, err := os.Stat(filepath.Join(dir, "tls.crt")); err != nil {
		cert, key, err := c.ca.Issue(name, time.Now(), time.Hour)
		check(c.tb, err)
		check(c.tb, c.ca.SaveNode(dir, cert, key))
	}
	cfg := n.cfg
	cfg.Credentials, cfg.Log = nil, nil
	cfg.ControlKey = append(ed25519.PrivateKey(nil), c.key...)
	b, err := json.Marshal(cfg)
	check(c.tb, err)
	check(c.tb, os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600))
	self, err := os.Executable()
	check(c.tb, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	if testing.Verbose() {
		cmd.Stderr = os.Stderr
	}
	_, err = cmd.StdinPipe()
	check(c.tb, err)
	check(c.tb, cmd.Start())
	n.conn, err = grpc.NewClient("unix:"+n.cfg.Control, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(c.tb, err)
	n.api = agentv1.NewAgentClient(n.conn)
	eventually(c.tb, "the agent's process answers", func() error {
		_, err := n.api.Info(context.Background(), &agentv1.InfoRequest{})
		return err
	})
	return cmd
}

// end ends an agent's process with a signal.
func (c *cluster) end(name string, cmd *exec.Cmd, sig syscall.Signal) {
	_ = c.node[name].conn.Close()
	check(c.tb, cmd.Process.Signal(sig))
	_ = cmd.Wait()
}

// TestKill: an agent is killed, and stopped, under live I/O on its device, and follows itself: no write fails and none is lost.
func TestKill(t *testing.T) {
	c := newCluster(t, 3, true)
	c.stop("a")
	cmd := c.spawn("a")
	defer func() { c.end("a", cmd, syscall.SIGKILL) }()
	ctx := t.Context()
	c.create("b", "vol", 8*mib)
	at, err := c.node["a"].api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "vol", Kind: agentv1.DeviceKind_DEVICE_KIND_FUSE})
	check(t, err)
	if want := os.Getenv("MYNETWORK_TEST_TRANSPORT"); !strings.HasPrefix(at.Volume.DeviceTransport, want) { // make test-vm sets it
		t.Errorf("the device's requests travel over %s, want %s", at.Volume.DeviceTransport, want)
	}
	d, err := exporttest.OpenBlockDevice(at.Device)
	check(t, err)
	want := make([]byte, 8*mib)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	writes := make([]int, 4)
	seen := make([]byte, 1*mib) // page-aligned, as direct I/O wants it
	for w := range writes {     // each writer has its own quarter
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(31, uint64(w)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				off := w*2*mib + rnd.IntN(2*mib/4096)*4096
				p := want[off : off+4096]
				for i := range p {
					p[i] = byte(rnd.Uint32())
				}
				if _, err := d.WriteAt(p, int64(off)); err != nil {
					t.Errorf("write at %d: %v", off, err)
					return
				}
				got := seen[w*4096:][:4096]
				if _, err := d.ReadAt(got, int64(off)); err != nil || !bytes.Equal(got, p) {
					t.Errorf("read at %d after the write: %v, equal %v", off, err, bytes.Equal(got, p))
					return
				}
				writes[w]++
			}
		})
	}
	last := 0
	progress := func(n int) {
		eventually(t, "writes go on", func() error {
			st, err := c.node["a"].api.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: "vol"})
			if err != nil || st.Open == nil || int(st.Open.Counters["writes"]) < n {
				return errNot
			}
			last++
			return nil
		})
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		progress(200)
		c.end("a", cmd, sig)
		cmd = c.spawn("a")
	}
	progress(200)
	close(stop)
	wg.Wait()
	check(t, d.Flush())
	t.Logf("%v writes", writes)
	got := make([]byte, len(want))
	_, err = d.ReadAt(got, 0)
	check(t, err)
	check(t, d.Close())
	if !bytes.Equal(got, want) {
		t.Fatal("the device does not show what was written")
	}
	_, err = c.node["a"].api.DetachVolume(ctx, &agentv1.DetachVolumeRequest{Volume: "vol"})
	check(t, err)
	e := c.attach("b", "vol")
	m := &model{tb: t, want: want}
	m.verify(e)
}

func notifyTerm(c chan os.Signal) { signal.Notify(c, syscall.SIGTERM) }

// TestHolderDies: holders die one after the other under a volume that is written; each new one is given what the agent has, so that
// the agent may then die too. Control: what no holder was given is lost with the agent.
func TestHolderDies(t *testing.T) {
	c := newCluster(t, 3, true)
	c.create("a", "vol", 8*mib)
	m := newModel(t, 7, 8*mib)
	e := c.attach("a", "vol")
	path := c.node["a"].cfg.Holder
	for range 3 {
		m.write(e, 10)
		c.holders["a"]()
		m.write(e, 10) // while there is none
		c.holders["a"] = c.startHolder(path)
	}
	eventually(t, "the new holder has the volume", func() error {
		list, err := c.node["a"].holder.List(t.Context())
		if err != nil || len(list) != 1 || list[0].State != holder.Owned {
			return fmt.Errorf("%v, %v: %w", list, err, errNot)
		}
		return nil
	})
	c.stop("a")
	c.start("a")
	eventually(t, "the volume goes on", func() error {
		if e = c.node["a"].Volumes().Engine("vol"); e == nil {
			return errNot
		}
		return nil
	})
	m.verify(e)
	m.write(e, 10)

	c.stop("a")
	c.holders["a"]() // both are gone
	c.holders["a"] = c.startHolder(path)
	c.start("a")
	if c.node["a"].Volumes().Engine("vol") != nil {
		t.Error("a volume goes on that nobody kept")
	}
	m.verify(c.attach("a", "vol")) // what was flushed is there all the same
}
