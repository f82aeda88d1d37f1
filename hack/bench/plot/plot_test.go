package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

func chart(lines ...Line) []Chart {
	return []Chart{{Title: "a < b & c", X: "volumes", Lines: lines}}
}

func TestDrawIsXML(t *testing.T) {
	var b strings.Builder
	charts := append(chart(Line{Name: "first", Points: []Point{{1, 0}, {10, 5}, {100, 40}}}, Line{Name: "aim", Aim: true, Points: []Point{{1, 20}, {100, 20}}}),
		Chart{Title: "one point", Ticks: func(float64) string { return "1 GiB" }, Lines: []Line{{Points: []Point{{1, 0}}}}})
	if err := Draw(&b, charts); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(strings.NewReader(b.String()))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
	}
	// The ends of the axis: 1 is at its left, 100 at its right, and 0 at the bottom.
	for _, want := range []string{"a &lt; b &amp; c", "1 GiB", `points="58.0,228.0 `, ` 404.0,34.0"`, "stroke-dasharray"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
		t.Errorf("something is no number in\n%s", b.String())
	}
}

func TestDrawRefuses(t *testing.T) {
	for name, charts := range map[string][]Chart{
		"nothing":         chart(),
		"zero on a log":   chart(Line{Points: []Point{{0, 1}}}),
		"a negative":      chart(Line{Points: []Point{{1, -1}}}),
		"what no number":  chart(Line{Points: []Point{{1, math.NaN()}}}),
		"what has no end": chart(Line{Points: []Point{{1, math.Inf(1)}}}),
	} {
		if err := Draw(io.Discard, charts); err == nil {
			t.Errorf("%s is drawn", name)
		}
	}
}

func TestNiceStep(t *testing.T) {
	for most, want := range map[float64]float64{0: 1, 1: .2, .45: .1, 3.1: 1, 40: 10, 60: 10, 61: 20, 500: 100, 999: 200} {
		if got := niceStep(most); math.Abs(got-want) > 1e-12 {
			t.Errorf("%v for %v, not %v", got, most, want)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 10: "10", 100: "100", .5: "0.5", 1e4: "10000", .0625: "0.062"} {
		if got := number(v); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}
