package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseScale(t *testing.T) {
	s, docs, err := parseScale(context.Background(), []string{"-parts", "sizes agents", "-agents", "3,5", "-sizes", "1Gi,16Ti", "-docs", "d", "-rest", "1s"})
	if err != nil {
		t.Fatal(err)
	}
	if docs != "d" || s.rest != time.Second || !slices.Equal(s.parts, []string{"sizes", "agents"}) || !slices.Equal(s.agents, []int64{3, 5}) || !slices.Equal(s.sizes, []int64{1 << 30, 16 << 40}) {
		t.Errorf("%+v", s)
	}
	if s, _, err := parseScale(context.Background(), []string{"-parts", "none"}); err != nil || len(s.parts) != 0 {
		t.Errorf("none is %v, %v", s, err)
	}
	for _, bad := range [][]string{{"-parts", "all"}, {"-agents", "2"}, {"-volumes", "0"}, {"-volumes", "many"}, {"-sizes", "1"}, {"-data", "much"}} {
		if _, _, err := parseScale(context.Background(), bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

func TestIdleOf(t *testing.T) {
	begin := time.Unix(1000, 0)
	before := sample{at: begin, of: map[string]usage{"n1 agent": {cpu: time.Second}, "n2 agent": {}, "n3 agent": {cpu: time.Minute}, "n1 holder": {}}}
	after := sample{at: begin.Add(20 * time.Second), of: map[string]usage{
		"n1 agent": {cpu: 1100 * time.Millisecond, rss: 60 << 20}, "n2 agent": {cpu: 40 * time.Millisecond, rss: 30 << 20},
		"n3 agent": {cpu: time.Minute + 20*time.Millisecond, rss: 33 << 20}, "n1 holder": {cpu: time.Hour, rss: 1 << 40}}}
	first, others, mean := idleOf(before, after)
	if first != (idle{60, .5}) || others != (idle{33, .2}) || mean.RSS != 41 {
		t.Errorf("%+v, %+v, %+v", first, others, mean)
	}
}

func TestEach(t *testing.T) {
	number := func(r agentsRow) int64 { return int64(r.Agents) }
	measure := func(n int64) (agentsRow, error) {
		if n == 9 {
			return agentsRow{}, os.ErrDeadlineExceeded
		}
		return agentsRow{Agents: int(n), Mean: idle{RSS: 2}}, nil
	}
	rows := []agentsRow{{Agents: 3, Mean: idle{RSS: 1}}, {Agents: 12, Mean: idle{RSS: 1}}}
	rows, err := each(rows, []int64{6, 12, 9, 24}, measure, number)
	if err == nil {
		t.Error("an error is none")
	}
	want := []agentsRow{{Agents: 3, Mean: idle{RSS: 1}}, {Agents: 6, Mean: idle{RSS: 2}}, {Agents: 12, Mean: idle{RSS: 2}}}
	if !slices.Equal(rows, want) { // what was measured before the error stays, what was not stays as it was
		t.Errorf("%+v", rows)
	}
}

func figuresOfScale() *scaleFigures {
	return &scaleFigures{
		Taken:  map[string]string{"agents": "today", "volumes": "today", "sizes": "today"},
		Agents: []agentsRow{{Agents: 3, First: idle{50, .2}}, {Agents: 12, First: idle{55, .4}}},
		Volumes: []volumesRow{{Volumes: 1, First: idle{RSS: 40}, Others: idle{RSS: 30}}, {Volumes: 101, First: idle{RSS: 140}, Others: idle{RSS: 55}, AttachMean: 12.5,
			speeds: speeds{IOPS: 12000, CPU: 80, SyncP50: 500, SyncP99: 900}}},
		Sizes: []sizesRow{{Size: 1 << 30, Data: 1 << 30}, {Size: 16 << 40, Data: 1 << 30, AttachCrash: 250}},
	}
}

func TestDocument(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "SCALE.md"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("no place for tables\n")
	if err := document(dir, figuresOfScale()); err == nil {
		t.Error("tables went nowhere")
	}
	write("before\n" + tablesBegin + "STALE\n" + tablesEnd + "after\n")
	for range 2 { // written again it is the same
		if err := document(dir, figuresOfScale()); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "SCALE.md"))
	text := string(b)
	if err != nil || !strings.HasPrefix(text, "before\n"+tablesBegin) || !strings.HasSuffix(text, tablesEnd+"after\n") || strings.Contains(text, "STALE") {
		t.Errorf("%v:\n%s", err, text)
	}
	for _, want := range []string{"| 101 | 12.5 | 0.0 | 0.0 | 140.0 | 1024 | 0.00 | 55.0 | 256 | 0.00 | 12,000 | 80 | 500 | 900 |", "| 16 TiB, 1 GiB | 0 | 0 | 250 |", "| 12 | 55.0 | 0.40 |"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("no %q once in\n%s", want, text)
		}
	}
	if svg, err := os.ReadFile(filepath.Join(dir, "scale.svg")); err != nil || strings.Count(string(svg), "<g ") != 10 {
		t.Errorf("the plot: %v\n%s", err, svg)
	}
}

// What is committed is what the committed figures make.
func TestCommittedDocument(t *testing.T) {
	f := &scaleFigures{}
	if err := f.read("results/scale.json"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"SCALE.md", "scale.svg"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		md, err := os.ReadFile("SCALE.md")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "SCALE.md"), md, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := document(dir, f); err != nil {
			t.Fatal(err)
		}
		if again, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(again) != string(b) {
			t.Errorf("%s is not what results/scale.json makes (%v): go run ./hack/bench scale -parts none -docs hack/bench", name, err)
		}
	}
}

func TestBinary(t *testing.T) {
	for want, v := range map[string]float64{"512": 512, "1 KiB": 1 << 10, "1 GiB": 1 << 30, "64 GiB": 64 << 30, "16 TiB": 16 << 40, "1.5 MiB": 1.5 * (1 << 20)} {
		if got := binary(v); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

func TestFreePorts(t *testing.T) {
	if _, err := freePorts(20000); err == nil {
		t.Error("there are 20,000 free ports between 21000 and 32000")
	}
}
