package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"mynetwork.io/mynetwork/hack/apiserver"
)

// operator is the operator's process, and what stands between it and the API server.
type operator struct {
	cmd     *exec.Cmd
	metrics string // its address
	in, out atomic.Int64
}

// startOperator starts the program with the rights of the chart. Its log goes to dir.
func startOperator(ctx context.Context, s *apiserver.Server, program, dir string) (*operator, error) {
	o := &operator{metrics: "127.0.0.1:18080"}
	proxy, err := o.count(s.Config.Host)
	if err != nil {
		return nil, err
	}
	c, err := clientcmd.Load(s.Kubeconfig())
	if err != nil {
		return nil, err
	}
	for _, cluster := range c.Clusters {
		cluster.Server = "https://" + proxy
	}
	for _, user := range c.AuthInfos {
		user.Impersonate = "system:serviceaccount:" + apiserver.Namespace + ":mynetwork-operator"
		user.ImpersonateGroups = []string{"system:serviceaccounts", "system:serviceaccounts:" + apiserver.Namespace, "system:authenticated"}
	}
	config := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*c, config); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "operator.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	o.cmd = exec.CommandContext(ctx, program, "operator", "--namespace", apiserver.Namespace, "--image", "example.org/mynetwork:1", "--metrics-address", o.metrics, "--probe-address", "0")
	o.cmd.Env, o.cmd.Stdout, o.cmd.Stderr = append(os.Environ(), "KUBECONFIG="+config), log, log
	return o, o.cmd.Start()
}

// count passes connections on and counts their bytes, those of TLS among them.
func (o *operator) count(host string) (address string, err error) {
	u, err := url.Parse(host)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", u.Host)
			if err != nil {
				_ = c.Close()
				continue
			}
			half := func(to, from net.Conn, n *atomic.Int64) {
				_, _ = io.Copy(to, io.TeeReader(from, adder{n}))
				_, _ = to.Close(), from.Close()
			}
			go half(d, c, &o.out)
			go half(c, d, &o.in)
		}
	}()
	return l.Addr().String(), nil
}

type adder struct{ n *atomic.Int64 }

func (a adder) Write(p []byte) (int, error) { a.n.Add(int64(len(p))); return len(p), nil }

func (o *operator) stop() {
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
}

// usage is what the operator has used so far.
type usage struct {
	at       time.Time
	cpu      time.Duration
	rss, top int64 // bytes
	requests map[string]int64
	in, out  int64
}

func (o *operator) usage() (u usage, err error) {
	u = usage{at: time.Now(), in: o.in.Load(), out: o.out.Load(), requests: map[string]int64{}}
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
	return u, o.requests(u.requests)
}

// requests reads how many requests the operator's client has made, by method.
func (o *operator) requests(into map[string]int64) error {
	resp, err := http.Get("http://" + o.metrics + "/metrics")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		name, value, ok := strings.Cut(s.Text(), "} ")
		if !ok || !strings.HasPrefix(name, "rest_client_requests_total{") {
			continue
		}
		_, method, _ := strings.Cut(name, `method="`)
		method, _, _ = strings.Cut(method, `"`)
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return err
		}
		into[method] += int64(n)
	}
	return nil
}

// since says what was used since another moment.
func (u usage) since(b usage) string {
	took := u.at.Sub(b.at)
	var calls []string
	all := int64(0)
	for _, m := range []string{"GET", "POST", "PATCH", "PUT", "DELETE"} {
		if n := u.requests[m] - b.requests[m]; n > 0 {
			calls, all = append(calls, fmt.Sprintf("%s %d", m, n)), all+n
		}
	}
	return fmt.Sprintf("%6.1f s  cpu %6.2f s (%4.1f %% of a core)  memory %3d MiB (peak %d)  %5d requests (%s), %.1f MB in, %.1f MB out", took.Seconds(), (u.cpu - b.cpu).Seconds(),
		100*(u.cpu-b.cpu).Seconds()/took.Seconds(), u.rss>>20, u.top>>20, all, strings.Join(calls, ", "), float64(u.in-b.in)/1e6, float64(u.out-b.out)/1e6)
}
