package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

const (
	top   = "../.."
	chart = top + "/charts/mynetwork/monitoring"
)

// family is a row of docs/metrics.md, which a test of the main module holds against the components' tables.
type family struct {
	kind   string
	labels []string
}

// exported reads the table. Series of a histogram have its labels and, of buckets, le.
func exported(t *testing.T) map[string]family {
	t.Helper()
	b, err := os.ReadFile(top + "/docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]family{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(mynetwork_[a-z_]+)` \\| (counter|gauge|histogram) \\| ([a-z_, ]*) \\|").FindAllStringSubmatch(string(b), -1) {
		f := family{kind: m[2]}
		if m[3] != "" {
			f.labels = strings.Split(m[3], ", ")
		}
		if f.kind != "histogram" {
			out[m[1]] = f
			continue
		}
		out[m[1]+"_bucket"] = family{"counter", append(slices.Clone(f.labels), "le")}
		out[m[1]+"_sum"], out[m[1]+"_count"] = family{"counter", f.labels}, family{"counter", f.labels}
	}
	if len(out) < 80 {
		t.Fatalf("%d names in docs/metrics.md", len(out))
	}
	// what the runtime and controller-runtime export
	for _, name := range []string{"process_cpu_seconds_total"} {
		out[name] = family{kind: "counter"}
	}
	for _, name := range []string{"process_resident_memory_bytes", "go_goroutines"} {
		out[name] = family{kind: "gauge"}
	}
	out["controller_runtime_reconcile_errors_total"] = family{"counter", []string{"controller"}}
	return out
}

// target are labels that a scrape adds: the PodMonitors of the chart say so.
func target() []string { return []string{"namespace", "pod", "job", "instance", "node", "network"} }

// counting are functions that read counters, and only those.
func counting(name string) bool { return slices.Contains([]string{"rate", "irate", "increase"}, name) }

// problems says what is wrong with a query: names and labels that nobody exports, and counters read as gauges or the other way round.
func problems(expr string, known map[string]family) (out []string) {
	p := parser.NewParser(parser.Options{})
	e, err := p.ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}
	}
	var all []string // labels of all selectors
	parser.Inspect(e, func(n parser.Node, path []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		f, ok := known[s.Name]
		if !ok {
			out = append(out, s.Name+" is not exported")
			return nil
		}
		has := append(slices.Clone(f.labels), target()...)
		all = append(all, has...)
		for _, m := range s.LabelMatchers {
			if m.Name != labels.MetricName && !slices.Contains(has, m.Name) {
				out = append(out, fmt.Sprintf("%s has no label %s", s.Name, m.Name))
			}
		}
		counted := false
		for _, above := range path {
			if c, ok := above.(*parser.Call); ok && counting(c.Func.Name) {
				counted = true
			}
		}
		if counted != (f.kind == "counter") {
			out = append(out, fmt.Sprintf("%s is a %s; rate and increase are for counters, and counters are for them", s.Name, f.kind))
		}
		return nil
	})
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		var by []string
		switch n := n.(type) {
		case *parser.AggregateExpr:
			by = n.Grouping
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				by = n.VectorMatching.MatchingLabels
			}
		}
		for _, l := range by {
			if !slices.Contains(all, l) {
				out = append(out, "no series has label "+l)
			}
		}
		return nil
	})
	return out
}

// rules are the chart's alert rules.
type rules struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func alerts(t *testing.T) (out []rule) {
	t.Helper()
	b, err := os.ReadFile(chart + "/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var r rules
	if err := yaml.UnmarshalStrict(b, &r); err != nil {
		t.Fatal(err)
	}
	for _, g := range r.Groups {
		out = append(out, g.Rules...)
	}
	return out
}

// TestAlerts: each rule reads what is exported, has a severity, and a runbook that is there.
func TestAlerts(t *testing.T) {
	known := exported(t)
	book, err := os.ReadFile(top + "/docs/runbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(string(book), -1)
	var names []string
	for _, r := range alerts(t) {
		names = append(names, r.Alert)
		for _, p := range problems(r.Expr, known) {
			t.Errorf("%s: %s\n%s", r.Alert, p, r.Expr)
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: severity, summary or description is missing", r.Alert)
		}
		if want := "docs/runbooks.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s: its runbook is %s, want %s", r.Alert, r.Annotations["runbook_url"], want)
		}
	}
	if len(names) < 25 || len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		t.Errorf("%d rules, or two of one name", len(names))
	}
	var written []string
	for _, s := range sections {
		written = append(written, s[1])
	}
	if !slices.Equal(written, names) {
		t.Errorf("runbooks are of\n%v, alerts are\n%v", written, names)
	}
}

// TestDashboards: each query of each panel, and of each variable, reads what is exported.
func TestDashboards(t *testing.T) {
	known := exported(t)
	files, err := filepath.Glob(chart + "/*.json")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	variable := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
			Templating struct {
				List []struct{ Type, Definition string }
			}
		}
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				n++
				for _, what := range problems(q.Expr, known) {
					t.Errorf("%s: %s: %s\n%s", filepath.Base(name), p.Title, what, q.Expr)
				}
			}
		}
		if n < 15 {
			t.Errorf("%s has %d queries", name, n)
		}
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			m := variable.FindStringSubmatch(v.Definition)
			if m == nil {
				t.Errorf("%s: variable %q", name, v.Definition)
				continue
			}
			for _, what := range problems(fmt.Sprintf("group by (%s) (%s)", m[2], m[1]), known) {
				t.Errorf("%s: %s: %s", name, v.Definition, what)
			}
		}
	}
}

// TestProblems: the check finds what it is there for.
func TestProblems(t *testing.T) {
	known := exported(t)
	for expr, want := range map[string]string{
		`mynetwork_volume_fulll == 1`:                                          "not exported",
		`mynetwork_volume_full{claim="x"}`:                                     "no label claim",
		`sum by (claim) (mynetwork_volume_full)`:                               "label claim",
		`rate(mynetwork_volume_full[5m])`:                                      "is a gauge",
		`mynetwork_volume_operation_errors_total > 0`:                          "is a counter",
		`sum by (volume) (rate(mynetwork_volume_operation_seconds_bucket[5m])`: "parse error",
		`mynetwork_volume_full / on (claim) mynetwork_volume_failed`:           "label claim",
	} {
		if got := strings.Join(problems(expr, known), "\n"); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}
