package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"mynetwork.io/mynetwork/cmd/internal/cli"
)

// nodeView is what the test looks at of "node list".
type nodeView struct {
	Name, State string
	Copies      int
	Attached    []string
}

// TestDrain empties a node of four while its data is written and read, then takes it out. Each step is refused before its time.
func TestDrain(t *testing.T) {
	if _, err := exec.LookPath("nbdcopy"); err != nil {
		t.Fatalf("%v: apt-get install libnbd-bin", err)
	}
	p := build(t)
	p.must(cli.ExitOK, "dev", "up", "--nodes", "4", "--device", "nbd")
	p.must(cli.ExitOK, "volume", "create", "data", "--size", "512Mi")
	var v volume
	p.get(&v, "volume", "attach", "data", "--node", "n1")
	content := noise(7, 200<<20)
	fill(t, v.Device, content)

	victim, held := "", 0
	for _, n := range p.nodes() {
		if n.Name != "n1" && n.Copies > held {
			victim, held = n.Name, n.Copies
		}
	}
	if held < 2 {
		t.Fatalf("%s holds %d copies, so that there is nothing to move", victim, held)
	}
	if _, errOut, code := p.run("node", "remove", victim); code == cli.ExitOK || !strings.Contains(errOut, "node drain") {
		t.Fatalf("a node that is not drained is removed: code %d, %s", code, errOut)
	}
	p.must(cli.ExitOK, "node", "drain", victim)
	if _, errOut, code := p.run("node", "drain", "n1"); code == cli.ExitOK || !strings.Contains(errOut, "copies are wanted") {
		t.Fatalf("two nodes of four are drained: code %d, %s", code, errOut)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for left := held; left > 0; {
		fill(t, v.Device, content[:8<<20]) // the load
		<-tick.C
		for _, n := range p.nodes() {
			if n.Name == victim {
				left = n.Copies
			}
		}
	}
	for removed := false; !removed; { // not before volumes were in place without it
		<-tick.C
		_, errOut, code := p.run("node", "remove", victim)
		if removed = code == cli.ExitOK; !removed && !strings.Contains(errOut, "may still name") {
			t.Fatalf("code %d, %s", code, errOut)
		}
	}
	if list := p.nodes(); len(list) != 3 {
		t.Fatalf("nodes %+v", list)
	}
	holds(t, v.Device, content)
	var st struct{ Counters map[string]uint64 }
	p.get(&st, "volume", "inspect", "data")
	t.Logf("%s had %d copies at first; %d were named elsewhere, %d dropped, %d MiB copied", victim, held, st.Counters["copiesNamed"], st.Counters["copiesDropped"],
		st.Counters["copiedBytes"]>>20)
}

func (p *program) nodes() (list []nodeView) {
	p.t.Helper()
	p.get(&list, "node", "list")
	return list
}
