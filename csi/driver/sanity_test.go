package driver_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"

	"mynetwork.io/mynetwork/csi/agenttest"
	"mynetwork.io/mynetwork/csi/driver"
	"mynetwork.io/mynetwork/csi/mount/mounttest"
	"mynetwork.io/mynetwork/csi/request"
)

const (
	network = "0f0e0d0c-1111-2222-3333-444455556666" // its uid
	named   = "main"
)

// world is a driver on node n1 of a network of three nodes.
type world struct {
	t      testing.TB
	net    *agenttest.Network
	mounts *mounttest.Fake // nil on real devices
	cfg    driver.Config
	driver *driver.Driver
	root   string
	logs   *strings.Builder
}

func newWorld(t testing.TB, change func(c *driver.Config)) *world {
	t.Helper()
	w := &world{t: t, net: agenttest.New(network, nil, "n1", "n2", "n3"), root: t.TempDir(), logs: &strings.Builder{}}
	t.Cleanup(w.net.Close)
	w.net.Called = named
	w.mounts = mounttest.New(w.root, w.net.Size)
	set := agenttest.Set{w.net}
	w.cfg = driver.Config{Agents: set, Controller: true, Node: "n1", Mounter: w.mounts, Filesystems: w.mounts, Barrier: set, Modifier: set,
		Topology: true, Log: slog.New(slog.NewTextHandler(w.logs, nil))}
	if change != nil {
		change(&w.cfg)
	}
	var err error
	if w.driver, err = driver.New(w.cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// serve serves the driver on a socket and gives its path.
func (w *world) serve() string {
	w.t.Helper()
	socket := filepath.Join(w.root, "csi.sock")
	ln, err := driver.Listen(context.Background(), socket)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.driver.Serve(ctx, ln) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	return socket
}

// ids are ids as this driver gives them, of nothing that is there.
type ids struct{ sanity.DefaultIDGenerator }

func (ids) GenerateUniqueValidVolumeID() string {
	return network + "." + strings.Repeat("ab", 16)
}

// config is one way to run the suite.
func config(t *testing.T, access string, encrypted bool, change func(c *driver.Config)) *sanity.TestConfig {
	w := newWorld(t, change)
	return configOf(t, w, access, encrypted)
}

func configOf(t *testing.T, w *world, access string, encrypted bool) *sanity.TestConfig {
	t.Cleanup(func() {
		if w.mounts != nil && len(w.mounts.Violations()) > 0 {
			t.Errorf("%s: violations: %q", access, w.mounts.Violations())
		}
		list, err := w.driver.Controller.ListVolumes(context.Background(), &csi.ListVolumesRequest{})
		if err != nil || len(list.Entries) > 0 {
			t.Errorf("%s: %d volumes are left, %v", access, len(list.GetEntries()), err)
		}
	})
	c := sanity.NewTestConfig()
	c.Address = w.serve()
	c.TargetPath, c.StagingPath = filepath.Join(w.root, "target"), filepath.Join(w.root, "staging")
	c.TestVolumeAccessType = access
	c.TestVolumeParameters = map[string]string{request.ParamNetworkUID: network, "csi.storage.k8s.io/pvc/name": "p"}
	c.TestVolumeMutableParameters = map[string]string{request.ParamCopies: "2", request.ParamWrite: "weak"}
	c.IDGen = ids{}
	if encrypted {
		c.TestVolumeParameters[request.ParamEncrypted] = "true"
		c.SecretsFile = filepath.Join(w.root, "secrets.yaml")
		entry := fmt.Sprintf("  %s: %s\n", request.SecretKey, hex.EncodeToString(make([]byte, 32)))
		var b strings.Builder
		for _, s := range []string{"CreateVolume", "DeleteVolume", "NodeStageVolume", "CreateSnapshot", "DeleteSnapshot", "ControllerExpandVolume"} {
			b.WriteString(s + "Secret:\n" + entry)
		}
		if err := os.WriteFile(c.SecretsFile, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &c
}

// bare is a driver whose agents can do no more than the control protocol says.
func bare(c *driver.Config) { c.Barrier, c.Modifier, c.Topology = nil, nil, false }

// TestSanity runs the specification's suite against the driver. A change of the numbers is a change of what is promised.
func TestSanity(t *testing.T) {
	gomega.RegisterFailHandler(ginkgo.Fail)
	type mode struct {
		name, access    string
		encrypted       bool
		change          func(c *driver.Config)
		passed, skipped int
	}
	modes := []mode{
		{name: "mount", access: "mount", passed: 91, skipped: 12},
		{name: "block", access: "block", passed: 91, skipped: 12},
		{name: "encrypted", access: "mount", encrypted: true, passed: 91, skipped: 12},
		{name: "bare", access: "mount", change: bare, passed: 77, skipped: 26},
	}
	if os.Getenv(agenttest.RealEnv) != "" {
		modes = append(modes, mode{name: "real mount", access: "mount", passed: 91, skipped: 12}, mode{name: "real block", access: "block", passed: 91, skipped: 12})
	}
	if os.Getenv(devnetEnv) != "" {
		modes = append(modes, mode{name: "agents mount", access: "mount", passed: 77, skipped: 26}, mode{name: "agents block", access: "block", passed: 77, skipped: 26},
			mode{name: "agents encrypted", access: "mount", encrypted: true, passed: 77, skipped: 26})
	}
	for _, m := range modes {
		var c *sanity.TestConfig
		if strings.HasPrefix(m.name, "agents ") {
			c = configOf(t, devnetWorld(t, "n1"), m.access, m.encrypted)
			c.TestVolumeSize, c.TestVolumeExpandSize = 64<<20, 96<<20
		} else if strings.HasPrefix(m.name, "real ") {
			c = configOf(t, realWorld(t, t.TempDir(), "n1"), m.access, m.encrypted)
			c.TestVolumeSize, c.TestVolumeExpandSize = 64<<20, 96<<20
		} else {
			c = config(t, m.access, m.encrypted, m.change)
		}
		ginkgo.Describe("in mode "+m.name, func() { t.Cleanup(sanity.GinkgoTest(c).Finalize) })
	}
	passed, skipped := map[string]int{}, map[string][]string{}
	ginkgo.ReportAfterEach(func(r types.SpecReport) {
		mode := strings.TrimPrefix(r.ContainerHierarchyTexts[0], "in mode ")
		switch r.State {
		case types.SpecStatePassed:
			passed[mode]++
		case types.SpecStateSkipped, types.SpecStatePending:
			skipped[mode] = append(skipped[mode], r.FullText()+": "+r.Failure.Message)
		}
	})
	suite, reporter := ginkgo.GinkgoConfiguration()
	suite.RandomizeAllSpecs, reporter.Succinct, reporter.NoColor = true, true, true
	if !ginkgo.RunSpecs(t, "CSI", suite, reporter) {
		t.Error("the suite failed")
	}
	for _, m := range modes {
		if passed[m.name] != m.passed || len(skipped[m.name]) != m.skipped {
			slices.Sort(skipped[m.name])
			t.Errorf("mode %s: %d specs passed and %d were skipped, want %d and %d; skipped:\n%s", m.name, passed[m.name], len(skipped[m.name]),
				m.passed, m.skipped, strings.Join(skipped[m.name], "\n"))
		}
	}
}
