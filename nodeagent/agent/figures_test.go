package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	authnv1 "k8s.io/api/authentication/v1"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"mynetwork.io/mynetwork/metrics/scrape"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// metrics gives the text of an agent's metrics.
func (n *node) metrics(tb testing.TB, client *http.Client, scheme, token string) (string, int) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, scheme+"://"+n.scraped.Addr().String()+scrape.Path, nil)
	check(tb, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	check(tb, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	check(tb, err)
	return string(b), resp.StatusCode
}

// has tells whether a line of the metrics begins so, and has a value other than 0.
func has(text, prefix string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		if rest, ok := strings.CutPrefix(line, prefix); ok && !strings.HasSuffix(rest, " 0") {
			return true
		}
	}
	return false
}

// TestFigures: what users do on a device, what its stores do, and copies that are made again show in the metrics; all names are clean.
func TestFigures(t *testing.T) {
	c := newCluster(t, 3, false)
	for _, name := range []string{"a", "c"} {
		c.stop(name)
		c.node[name].cfg.Metrics = "127.0.0.1:0"
		c.start(name)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	c.create("a", "vol", 8*mib)
	at, err := c.node["a"].api.AttachVolume(t.Context(), &agentv1.AttachVolumeRequest{Volume: "vol", Kind: agentv1.DeviceKind_DEVICE_KIND_FUSE})
	check(t, err)
	d, err := exporttest.OpenBlockDevice(at.Device)
	check(t, err)
	t.Cleanup(func() { _ = d.Close() }) // also of a test that failed: a device in use is not detached
	p := exporttest.Aligned(64 << 10)
	_, err = d.WriteAt(p, 0)
	check(t, err)
	_, err = d.ReadAt(p, 4*mib)
	check(t, err)
	check(t, d.Flush())
	text, code := c.node["a"].metrics(t, client, "http", "")
	if code != http.StatusOK {
		t.Fatal(code, text)
	}
	for _, want := range []string{`mynetwork_volume_operation_seconds_count{operation="write",volume="vol"}`, `mynetwork_volume_operation_bytes_total{operation="write",volume="vol"}`,
		`mynetwork_volume_operation_seconds_count{operation="read",volume="vol"}`, `mynetwork_volume_operation_seconds_count{operation="flush",volume="vol"}`,
		`mynetwork_volume_info{`, `mynetwork_store_sync_seconds_count{`, `mynetwork_store_written_bytes_total{`, `mynetwork_store_capacity_bytes{`,
		`mynetwork_peer_up{peer="b"}`, `mynetwork_agent_certificate_expiry_timestamp_seconds`, "go_goroutines", "process_cpu_seconds_total"} {
		if !has(text, want) {
			t.Errorf("%s is not there, or 0", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	check(t, err)
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "mynetwork_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}

	// c misses what is written while it is away, and copies it when it is back
	c.stop("c")
	e := c.engine("a", "vol")
	newModel(t, 3, 8*mib).write(e, 50)
	eventually(t, "c is left out", func() error { // before that it would be sent again what it has not answered
		if st := e.Status(); st.Degraded == 0 && !slices.ContainsFunc(st.Members, func(m volume.MemberStatus) bool { return m.Failed }) {
			return fmt.Errorf("members %v", st.Members)
		}
		return nil
	})
	c.start("c")
	eventually(t, "c copies what it missed", func() error {
		if text, _ := c.node["c"].metrics(t, client, "http", ""); !has(text, "mynetwork_replication_bytes_total") {
			return errors.New("no byte was copied")
		}
		return nil
	})
	check(t, d.Close())
	c.detach("a", "vol")
	if text, _ = c.node["a"].metrics(t, client, "http", ""); strings.Contains(text, `volume="vol"`) {
		t.Error("a volume that is detached is still there")
	}
}

// reviews is an API server that lets one token read metrics.
type reviews struct{}

func (reviews) User(_ context.Context, token string) (authnv1.UserInfo, bool, error) {
	if token == "outage" {
		return authnv1.UserInfo{}, false, errors.New("connection refused")
	}
	return authnv1.UserInfo{Username: token}, token != "nobody", nil
}

func (reviews) May(_ context.Context, u *authnv1.UserInfo, _ string) (bool, error) {
	return u.Username == "prometheus", nil
}

// TestFiguresInCluster: in a cluster metrics come over TLS, on the pod's own address, to whom the API server allows them.
func TestFiguresInCluster(t *testing.T) {
	k := newKubeTest(t, 1)
	k.stop("a")
	cfg := &k.node["a"].cfg
	cfg.Metrics, cfg.Cluster.Reviews = ":0", reviews{}
	n := k.start("a")
	if addr := n.scraped.Addr().String(); !strings.HasPrefix(addr, cfg.Cluster.Address+":") {
		t.Errorf("served on %s", addr)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for token, want := range map[string]int{"prometheus": 200, "visitor": 403, "nobody": 401, "": 401, "outage": 503} {
		text, code := n.metrics(t, client, "https", token)
		if code != want || strings.Contains(text, "mynetwork_") != (want == 200) {
			t.Errorf("token %q: %d, want %d: %.200q", token, code, want, text)
		}
	}
	for _, bad := range []string{"a", "0.0.0.0:x"} {
		cfg.Metrics = bad
		if a, err := New(*cfg); err == nil {
			t.Errorf("metrics on %q: %v", bad, a)
		}
	}
}
