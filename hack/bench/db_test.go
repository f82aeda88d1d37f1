package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseSeconds(t *testing.T) {
	const log = "1000, 848, 1, 0, 0\n2000, 654, 1, 0, 0\n4003, 586, 1, 0, 0\n5000, 588, 2, 0, 0\n6000, 1146, 1, 0, 0\n"
	got, err := parseSeconds([]byte(log), 6*time.Second)
	// Nothing ended in the third second, and trims are no operations of the workload; the last second is not whole.
	if want := []float64{848, 654, 0, 586, 0}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, not %v, %v", got, want, err)
	}
	if got, err := parseSeconds([]byte("1000, 10, 0\n1000, 20, 1\n"), 2*time.Second); err != nil || !slices.Equal(got, []float64{30}) {
		t.Errorf("both directions together: %v, %v", got, err)
	}
	var long strings.Builder // fio's seconds are a little long: in ten minutes none of them is missing for that
	for i := 1; i <= 598; i++ {
		fmt.Fprintf(&long, "%d, 7, 1\n", i*1002)
	}
	if got, err := parseSeconds([]byte(long.String()), 600*time.Second); err != nil || len(got) < 597 || slices.Contains(got, 0) {
		t.Errorf("600 seconds that are 2 ms too long each: %d of them, %v, %v", len(got), slices.Index(got, 0), err)
	}
	if got, err := parseSeconds([]byte("1000, 10, 1\n"), 4*time.Second); err != nil || !slices.Equal(got, []float64{10, 0, 0}) {
		t.Errorf("nothing after the first second: %v, %v", got, err)
	}
	for name, bad := range map[string]string{"nothing": "", "words": "now, 1, 1\n", "short": "1000, 5\n"} {
		if _, err := parseSeconds([]byte(bad), 3*time.Second); err == nil {
			t.Errorf("%s is a log", name)
		}
	}
}

func TestQuantile(t *testing.T) {
	list := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, .5: 3, 1: 5} {
		if got := quantile(list, q); got != want {
			t.Errorf("%v of %v is %v", q, list, got)
		}
	}
	if quantile(nil, .5) != 0 {
		t.Error("a quantile of nothing is something")
	}
}

func TestHeldBelow(t *testing.T) {
	net := t.TempDir()
	ext := filepath.Join(net, "n1", "store", "ext", "82")
	if err := os.MkdirAll(ext, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(ext, "a.dat"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(net, "n1", "other"), make([]byte, 1<<20), 0o600); err != nil { // is no store's
		t.Fatal(err)
	}
	if n, err := heldBelow(net); err != nil || n < 1<<20 || n >= 2<<20 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestParseMix(t *testing.T) {
	b, err := os.ReadFile("testdata/w4k_sync_qd1.json")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := parseMix(b); err != nil || out != (outcome{rate: 500, ops: 1000, p99: .2}) {
		t.Errorf("%+v, %v", out, err)
	}
	for name, bad := range map[string]string{"no JSON": "fio: x", "no job": "{}", "an error": `{"jobs":[{"error":5,"read":{"total_ios":1}}]}`, "nothing done": `{"jobs":[{}]}`} {
		if _, err := parseMix([]byte(bad)); err == nil {
			t.Errorf("%s is a result", name)
		}
	}
}

func TestTransactions(t *testing.T) {
	text := transactions("WAL", 3)
	if n := strings.Count(text, "BEGIN;"); n != 3 || strings.Count(text, "COMMIT;") != 3 {
		t.Errorf("%d transactions in\n%s", n, text)
	}
	if !strings.HasPrefix(text, "PRAGMA journal_mode=WAL;\nPRAGMA synchronous=FULL;\n") {
		t.Errorf("the journal is not said first:\n%s", text)
	}
}

// The ratio is made within a run: a disk that was faster for one run moves it in neither direction.
func TestPrintDatabases(t *testing.T) {
	l := loads()[0]
	rows := []*dbRow{{load: &l, rate: map[string][]float64{raw: {100, 200, 400}, fuse: {50, 100, 200}}, ratio: []float64{.5, .5, .5},
		p99: map[string][]float64{fuse: {7}}, cpu: []float64{10, 30, 20}}, {load: &l}}
	var out strings.Builder
	printDatabases(&out, options{size: 1 << 30, runs: 3}, rows)
	if want := "| " + l.name + ", transactions a second | 200 | 100 | 0.50 |  | 7.0 | 20 |\n"; !strings.HasSuffix(out.String(), want) || strings.Count(out.String(), l.name) != 1 {
		t.Errorf("no %q once in\n%s", want, out.String())
	}
}

func TestPrintLong(t *testing.T) {
	rows := []*long{
		{workload: "w4k_qd32", target: raw, result: result{IOPS: 4000}, seconds: []float64{4000, 4000}},
		{workload: "w4k_qd32", target: fuse, result: result{IOPS: 1000, Max: 5000}, seconds: []float64{500, 1500}, rss: map[string]int64{"n1 agent": 3 << 20, "n2 agent": 1 << 20, "n3 agent": 2 << 20}, held: []float64{1, 1.5, 1.25}},
	}
	var out strings.Builder
	if err := printLong(&out, options{duration: 2 * time.Second, size: 1 << 30}, rows); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| `w4k_qd32` | fuse | 0.25 | 1,000 |", "| 5 | 500, 500, 1,500, 1,500 | 3, 2 | 1.00, 1.50, 1.25 |", "w4k_qd32 on fuse, operations of each second: 500 1500"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestTimes(t *testing.T) {
	if a, b := times(3, 1.64), times(0, 5); a != "3 | 4.9" || b != " | " {
		t.Errorf("%q, %q", a, b)
	}
	deep, alone := 0.0, 0.0
	for _, s := range stages() {
		deep += s.deep
		alone += s.alone
	}
	if deep == 0 || alone != 2 { // the agents, and the front end
		t.Errorf("%v stages at depth 32, %v at depth 1", deep, alone)
	}
}
