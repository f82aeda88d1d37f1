package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"mynetwork.io/mynetwork/hack/apiserver"
)

// operator is the operator's process, and what stands between it and the API server.
type operator struct {
	cmd  *exec.Cmd
	tap  *apiserver.Tap
	door *httptest.Server
}

// startOperator starts the program with the rights of the chart, which the door before the API server gives it. Its log goes to dir.
func startOperator(ctx context.Context, s *apiserver.Server, o options, dir string) (*operator, error) {
	op := &operator{tap: &apiserver.Tap{}}
	if err := op.open(s); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "kubeconfig")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: op.door.Certificate().Raw})
	if err := clientcmd.WriteToFile(api.Config{CurrentContext: "c", Contexts: map[string]*api.Context{"c": {Cluster: "c"}},
		Clusters: map[string]*api.Cluster{"c": {Server: op.door.URL, CertificateAuthorityData: ca}}}, config); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "operator.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	op.cmd = exec.CommandContext(ctx, o.program, "operator", "--namespace", apiserver.Namespace, "--image", "example.org/mynetwork:1", "--metrics-address", "0", "--probe-address", "0")
	op.cmd.Env, op.cmd.Stdout, op.cmd.Stderr = append(os.Environ(), "KUBECONFIG="+config), log, log
	return op, op.cmd.Start()
}

// open makes the door: it passes requests on with the operator's rights and counts them.
func (o *operator) open(s *apiserver.Server) error {
	to, err := url.Parse(s.Config.Host)
	if err != nil {
		return err
	}
	transport, err := rest.TransportFor(o.tap.On(s.Identity("mynetwork-operator", nil)))
	if err != nil {
		return err
	}
	o.door = httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: transport, FlushInterval: -1})
	o.door.EnableHTTP2 = true
	o.door.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	o.door.StartTLS()
	return nil
}

func (o *operator) stop() {
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
	o.door.CloseClientConnections()
}

// usage is what the operator has used so far.
type usage struct {
	at       time.Time
	cpu      time.Duration
	rss, top int64          // bytes
	calls    map[string]int // by verb and resource
	in       int64          // bytes of answers
}

func (o *operator) usage() (u usage, err error) {
	u = usage{at: time.Now()}
	var in map[string]int64
	u.calls, in = o.tap.Calls()
	for _, n := range in {
		u.in += n
	}
	proc := fmt.Sprintf("/proc/%d/", o.cmd.Process.Pid)
	stat, err := os.ReadFile(proc + "stat")
	if err != nil {
		return u, err
	}
	field := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const ticks = 100 // a second, on every Linux of today
	user, _ := strconv.ParseInt(field[11], 10, 64)
	system, _ := strconv.ParseInt(field[12], 10, 64)
	u.cpu = time.Duration(user+system) * time.Second / ticks
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			u.rss = kib << 10
		case "VmHWM:":
			u.top = kib << 10
		}
	}
	return u, nil
}

// since says what was used since another moment: in one line, and the requests by verb and resource in a second one.
func (u usage) since(b usage) (line, calls string) {
	took := u.at.Sub(b.at)
	var each []string
	lease, all := 0, 0
	for _, name := range slices.Sorted(maps.Keys(u.calls)) {
		n := u.calls[name] - b.calls[name]
		switch {
		case n == 0:
			continue
		case strings.HasSuffix(name, " leases"):
			lease += n
		default:
			all += n
		}
		each = append(each, fmt.Sprintf("%d %s", n, name))
	}
	return fmt.Sprintf("%6.1f s  cpu %6.2f s (%4.1f %% of a core)  memory %3d MiB (peak %d)  %5d requests + %d of its lease, %.1f MB of answers", took.Seconds(), (u.cpu - b.cpu).Seconds(),
		100*(u.cpu-b.cpu).Seconds()/took.Seconds(), u.rss>>20, u.top>>20, all, lease, float64(u.in-b.in)/1e6), strings.Join(each, ", ")
}
