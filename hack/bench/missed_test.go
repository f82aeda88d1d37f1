package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestPrintMissed(t *testing.T) {
	m := &missing{bencher: &bencher{o: options{size: 1 << 30}}, alone: result{MBps: 200}}
	rows := []missedRow{
		{what: "alone", missed: 512 << 20, copied: 550 << 20, start: time.Second, took: 4 * time.Second},
		{what: "beside", missed: 512 << 20, copied: 550 << 20, took: 20 * time.Second, before: [2]float64{500, 2000}, during: [2]float64{600, 3000}},
		{what: "nothing was seen", copied: 1 << 20, took: time.Second},
	}
	var out bytes.Buffer
	m.print(&out, rows)
	for _, want := range []string{"| alone | 512 MiB | 1.07 x | 1.0 s | 4.0 s | 134 | 0.67 |  |  |", "| 0.13 | 0.50, 2.00 ms | 0.60, 3.00 ms; 1.2 x, 1.5 x |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in\n%s", want, out.String())
		}
	}
}

func TestMedians(t *testing.T) {
	if got := medians([][2]float64{{3, 10}, {1, 30}, {2, 20}}); got != [2]float64{2, 20} {
		t.Errorf("%v", got)
	}
	if got := medians(nil); got != [2]float64{} {
		t.Errorf("of none %v", got)
	}
}
