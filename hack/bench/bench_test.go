package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestOptions(t *testing.T) {
	o, err := parse(flag.NewFlagSet("bench", flag.ContinueOnError), []string{"-runs", "5"},
		env(map[string]string{"DURATION": "3", "RUNS": "2", "SIZE": "1Gi", "WORKLOADS": "r4k_qd1,w4k_qd32", "TARGETS": "fuse raw", "OUT": "x.json", "TIMES": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	if o.runs != 5 || o.duration != 3*time.Second || o.size != 1<<30 || o.out != "x.json" || o.times {
		t.Errorf("%+v", o)
	}
	if len(o.workloads) != 2 || o.workloads[0].name != "w4k_qd32" || o.workloads[1].name != "r4k_qd1" {
		t.Errorf("workloads %+v", o.workloads)
	}
	if strings.Join(o.targets, " ") != "raw fuse" {
		t.Errorf("targets %v", o.targets)
	}
	for _, bad := range []map[string]string{{"DURATION": "soon"}, {"DURATION": "0"}, {"RUNS": "0"}, {"SIZE": "1Mi"}, {"SIZE": "99999999Ti"}, {"WORKLOADS": "w8k"}, {"TARGETS": "ublk"}} {
		fs := flag.NewFlagSet("bench", flag.ContinueOnError)
		if _, err := parse(fs, nil, env(bad)); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

func TestWorkloadsHaveTheNamesThatOthersUse(t *testing.T) {
	want := "w4k_sync_qd1 w4k_qd32 r4k_qd1 r4k_qd32 w1m_qd8 r1m_qd8"
	if got := strings.Join(workloadNames(), " "); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// The file in testdata has the shape of what fio 3.33 writes, with round numbers.
func TestParseFio(t *testing.T) {
	b, err := os.ReadFile("testdata/w4k_sync_qd1.json")
	if err != nil {
		t.Fatal(err)
	}
	w := workloads()[0]
	r, err := parseFio(b, w)
	if err != nil {
		t.Fatal(err)
	}
	if r.Ops != 1000 || r.Bytes != 4096000 || r.IOPS != 500 || r.MBps != 2.048 {
		t.Errorf("%+v", r)
	}
	if r.Latency != [3]float64{30, 300, 3000} || r.Max != 30000 {
		t.Errorf("latency of write and sync %v, longest %v", r.Latency, r.Max)
	}
	w.sync = false
	if r, err = parseFio(b, w); err != nil || r.Latency != [3]float64{10, 100, 1000} {
		t.Errorf("latency of the write alone %v, %v", r.Latency, err)
	}
	w.write = false // nothing was read: that is no result of 0
	if _, err := parseFio(b, w); err == nil {
		t.Error("a run without operations is a result")
	}
	if _, err := parseFio([]byte("fio: error"), w); err == nil {
		t.Error("an error text is a result")
	}
}

func TestUsageOf(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("7/stat", "7 (my (net) work) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 9 9 20 0 12 0 100 0 0\n")
	write("7/io", "rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 8192\ncancelled_write_bytes: 5\n")
	write("7/status", "Name:\tx\nVmRSS:\t    1024 kB\n")
	write("stat", "cpu  100 10 200 5000 300 5 6 7 100 0\ncpu0 1\n")
	u, err := usageOf(root, 7)
	if err != nil || u != (usage{cpu: 2 * time.Second, written: 8192, rss: 1 << 20}) {
		t.Errorf("%+v, %v", u, err)
	}
	if n, err := busy(root); err != nil || n != 3210*time.Millisecond { // no idle, iowait, steal; guest is in user
		t.Errorf("busy %v, %v", n, err)
	}
	if _, err := usageOf(root, 8); err == nil {
		t.Error("a process that is not there has usage")
	}
}

func TestMedian(t *testing.T) {
	for want, list := range map[float64][]float64{0: nil, 2: {3, 1, 2}, 2.5: {4, 1, 2, 3}, 7: {7}} {
		if got := median(list); got != want {
			t.Errorf("median of %v is %v", list, got)
		}
	}
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		old, new []float64
		higher   bool
		want     string
	}{
		"apart":                          {[]float64{100, 101, 102, 103}, []float64{120, 121, 119, 122}, true, better},
		"apart, the other way":           {[]float64{100, 101, 102, 103}, []float64{80, 81, 82, 83}, true, worse},
		"less is better":                 {[]float64{100, 101, 102, 103}, []float64{80, 81, 82, 83}, false, better},
		"apart, of three runs":           {[]float64{100, 101, 102}, []float64{120, 121, 119}, true, better + few},
		"one of three among the others":  {[]float64{100, 101, 120}, []float64{121, 119, 122}, true, same},
		"one of six among the others":    {[]float64{100, 101, 102, 103, 104, 120}, []float64{119, 121, 122, 123, 124, 125}, true, better},
		"noise":                          {[]float64{80, 100, 130, 90}, []float64{90, 110, 120, 85}, true, same},
		"apart, but by too little":       {[]float64{100, 100.1, 100.2, 100.3}, []float64{101, 101.1, 101.2, 101.3}, true, same},
		"one run":                        {[]float64{100}, []float64{200}, true, better + few},
		"one run, and it became worse":   {[]float64{100}, []float64{50}, true, worse + few},
		"nothing measured":               {nil, []float64{1, 2}, true, same},
		"no runs of one and many others": {[]float64{100, 101, 102, 103}, nil, true, same},
	} {
		if _, _, got := judge(c.old, c.new, c.higher); got != c.want {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
	}
}

// Files from before runs of percentiles were kept have the median alone.
func TestCompareComparesLatency(t *testing.T) {
	old := []*figure{{Workload: "r4k_qd1", Target: fuse, P99: 100}}
	now := []*figure{{Workload: "r4k_qd1", Target: fuse, P99: 50, P99Runs: []float64{50, 50, 50, 50}}}
	var out bytes.Buffer
	compare(&out, old, now)
	compare(&out, now, now)
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"p99 us 100 50 -50.0 % 0.200 better?", "p99 us 50 50 +0.0 % 1.000 ~"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestCompareGoesByRatioWhereThereIsOne(t *testing.T) {
	old := []*figure{{Workload: "r4k_qd1", Target: fuse, IOPSRuns: []float64{1000, 1001}, RatioRuns: []float64{.5, .51}, CPURuns: []float64{10, 11, 10, 11}}, {Workload: "gone", Target: raw}}
	// Half as many operations on a disk that is half as fast: nothing became worse.
	now := []*figure{{Workload: "r4k_qd1", Target: fuse, IOPSRuns: []float64{500, 501}, RatioRuns: []float64{.5, .51}, CPURuns: []float64{20, 21, 20, 21}}, {Workload: "new", Target: raw}}
	var out bytes.Buffer
	compare(&out, old, now)
	text := out.String()
	for _, want := range []string{"of raw", "only in old", "only in new", worse} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "of raw") && !strings.Contains(line, same) {
			t.Errorf("the ratio did not change: %s", line)
		}
	}
}

func TestFiguresOfRuns(t *testing.T) {
	f := &figure{Workload: "w4k_qd32", Target: fuse}
	w := workloads()[1]
	before := sample{of: map[string]usage{"n1 agent": {cpu: time.Second, written: 100}}}
	for _, cpu := range []time.Duration{2 * time.Second, 3 * time.Second, 4 * time.Second} {
		after := sample{busy: 5 * time.Second, disk: 24000, of: map[string]usage{"n1 agent": {cpu: cpu}}}
		calm := sample{disk: 24000, of: map[string]usage{"n1 agent": {written: 12100}}}
		f.add(w, result{Ops: 1e6, Bytes: 4000, IOPS: 10, CPU: time.Second}, before, after, calm)
	}
	finish([]*figure{f})
	if f.CPU != 3 || f.AllCPU != 5 || f.Disk != 1 || f.AllDisk != 2 || f.IOPS != 10 {
		t.Errorf("%+v", f)
	}
	if len(f.ByProcess) != 2 || f.ByProcess[1].Process != "n1 agent" || f.ByProcess[1].CPU != 2 {
		t.Errorf("by process %+v", f.ByProcess)
	}
}

func TestHealthy(t *testing.T) {
	var v volume
	if v.healthy() {
		t.Error("a volume that is not open is healthy")
	}
}

func TestMarkdown(t *testing.T) {
	figures, err := readFigures("results/baseline.json")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	markdown(&out, figures)
	for name := range aims() {
		if !regexp.MustCompile("(?m)^\\| `" + name + "` \\| fuse \\| [0-9]+\\.[0-9]{2} \\|").MatchString(out.String()) {
			t.Errorf("no ratio of %s on the FUSE device in\n%s", name, out.String())
		}
	}
	for want, v := range map[string]float64{"0": 0, "999": 999, "1,000": 1000, "1,234,568": 1234567.8} {
		if got := thousands(v); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	if _, err := readFigures("main.go"); err == nil {
		t.Error("a file that has no figures is taken")
	}
}
