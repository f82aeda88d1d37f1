package main

import (
	"strings"
	"testing"
)

func TestReturns(t *testing.T) {
	r := returning{before: 1000 << 20, after: []int64{1000 << 20, 1100 << 20, 600 << 20, 100 << 20, 60 << 20, 60 << 20, 60 << 20}}
	for _, c := range []struct {
		look int
		base int64
		want float64
	}{{0, 0, 0}, {1, 0, -.1}, {3, 100 << 20, 1}, {6, 0, .94}, {6, 60 << 20, 1}} {
		if got := r.share(c.look, c.base); got < c.want-1e-9 || got > c.want+1e-9 {
			t.Errorf("look %d, base %d: %v, want %v", c.look, c.base, got, c.want)
		}
	}
	if len(r.after) != len(returnLooks) {
		t.Fatal("not as many looks as are printed")
	}
	var b strings.Builder
	printReturns(&b, 300<<20, 10<<20, map[string]returning{"the file is removed and trimmed": r, volumeDeleted: r})
	for _, line := range []string{"| the file is removed and trimmed | 1000 | 1000 | 1100 | 600 | 100 | 60 | 60 | 60 | 94.9 % |", "| the volume is deleted | 1000 | 1000 | 1100 | 600 | 100 | 60 | 60 | 60 | 94.0 % |"} {
		if !strings.Contains(b.String(), line+"\n") {
			t.Errorf("not printed: %s\n%s", line, b.String())
		}
	}
}

func TestRoomFor(t *testing.T) {
	const gib = 1 << 30
	d := roomFor(gib, .8)
	if fill := float64(d)*.92 - 260<<20; gib/fill < .799 || gib/fill > .801 {
		t.Errorf("the volume is %.3f of what volumes may fill of %d bytes", gib/fill, d)
	}
	if roomFor(gib, .5) <= d || roomFor(2*gib, .8) <= d {
		t.Error("less alive, or more data, needs more room")
	}
}
