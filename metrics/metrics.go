package metrics

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"mynetwork.io/mynetwork/metrics/meter"
)

// Prefix begins the name of each metric of ours.
const Prefix = "mynetwork_"

// Kind is a family's type.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Family is one metric with all its label values.
type Family struct {
	Name   string // without Prefix
	Kind   Kind
	Labels []string
	Help   string
}

// FullName is the exported name.
func (f *Family) FullName() string { return Prefix + f.Name }

// Series lists the names that queries may use: three of a histogram.
func (f *Family) Series() []string {
	if f.Kind == Histogram {
		return []string{f.FullName() + "_bucket", f.FullName() + "_sum", f.FullName() + "_count"}
	}
	return []string{f.FullName()}
}

// ErrFamily tells that a value was put that the table does not have.
var ErrFamily = errors.New("metrics")

type described struct {
	Family
	desc *prometheus.Desc
}

// Collector gives what a source knows. Make one with New.
type Collector struct {
	families map[string]described
	source   func(*Emitter)
}

var _ prometheus.Collector = (*Collector)(nil)

// New makes a collector of families whose values source puts.
func New(families []Family, source func(*Emitter)) *Collector {
	c := &Collector{families: make(map[string]described, len(families)), source: source}
	for _, f := range families {
		c.families[f.Name] = described{f, prometheus.NewDesc(f.FullName(), f.Help, f.Labels, nil)}
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.families {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) { c.source(&Emitter{c, out}) }

// Emitter takes the values of one scrape.
type Emitter struct {
	c   *Collector
	out chan<- prometheus.Metric
}

// Put gives a counter's or a gauge's value. name is without Prefix; labels are values, in the family's order.
func (e *Emitter) Put(name string, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	f, err := e.find(name, len(labels), false)
	if err == nil && f.Kind == Counter {
		kind = prometheus.CounterValue
	}
	if err == nil {
		var m prometheus.Metric
		if m, err = prometheus.NewConstMetric(f.desc, kind, value, labels...); err == nil {
			e.out <- m
			return
		}
	}
	e.out <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
}

// Flag is Put of 1 or 0.
func (e *Emitter) Flag(name string, is bool, labels ...string) {
	v := 0.0
	if is {
		v = 1
	}
	e.Put(name, v, labels...)
}

// Observed gives a histogram's reading.
func (e *Emitter) Observed(name string, r meter.Reading, labels ...string) {
	f, err := e.find(name, len(labels), true)
	if err == nil {
		var m prometheus.Metric
		if m, err = prometheus.NewConstHistogram(f.desc, r.Count, r.Seconds, r.Buckets, labels...); err == nil {
			e.out <- m
			return
		}
	}
	e.out <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
}

func (e *Emitter) find(name string, labels int, histogram bool) (described, error) {
	f, ok := e.c.families[name]
	switch {
	case !ok:
		return f, fmt.Errorf("%w: %s is not in the table", ErrFamily, name)
	case (f.Kind == Histogram) != histogram:
		return f, fmt.Errorf("%w: %s is a %s", ErrFamily, name, f.Kind)
	case len(f.Labels) != labels:
		return f, fmt.Errorf("%w: %s has labels %v, and got %d values", ErrFamily, name, f.Labels, labels)
	}
	return f, nil
}

// Table writes families as a table in Markdown.
func Table(families []Family) string {
	var b strings.Builder
	b.WriteString("| name | type | labels | meaning |\n|---|---|---|---|\n")
	for _, f := range families {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.FullName(), f.Kind, strings.Join(f.Labels, ", "), strings.ReplaceAll(f.Help, "|", "\\|"))
	}
	return b.String()
}
