package main

import (
	"strings"
	"testing"
)

// Three samples as perf script prints them: an agent that seals a TLS record, a thread of the kernel whose name has a space, and an idle processor.
const script = `mynetwork 4711
	          5a0f10 crypto/internal/fips140/aes/gcm.gcmAesEnc
	          5a1200 crypto/internal/fips140/aes/gcm.(*GCM).Seal
	          7b0000 mynetwork.io/mynetwork/nodeagent/peer.(*conn).send

kworker/u8:1 loop 88
	ffffffff81000010 tcp_sendmsg_locked
	ffffffff81000020 [unknown]

swapper     0
	ffffffff81000030 default_idle
	ffffffff81000040 do_idle

mynetwork 4712
	          402000 runtime.memmove
	          7b0100 mynetwork.io/mynetwork/nodeagent/volume.(*Engine).pump.func1

`

func TestProfile(t *testing.T) {
	p := &profile{workload: workloads()[0], by: map[string]map[string]float64{}, leaves: map[string]float64{}}
	p.Ops = 1
	if err := p.parse(strings.NewReader(script), map[int]string{4711: whoFirst, 4712: whoOthers}); err != nil {
		t.Fatal(err)
	}
	const each = 1.0 / sampleRate
	for _, want := range []struct {
		cause, who string
	}{{"encryption", whoFirst}, {"kernel: sockets", whoKernel}, {"copies in processes", whoOthers}} {
		if got := p.by[want.cause][want.who]; got != each {
			t.Errorf("%s of %s: %g s, want one sample, %g", want.cause, want.who, got, each)
		}
	}
	if len(p.by) != 3 || p.machine != 4*each {
		t.Errorf("%d causes and %g s of the machine, want 3 and four samples: %v", len(p.by), p.machine, p.by)
	}
	if err := p.parse(strings.NewReader("no sample\n"), nil); err == nil {
		t.Error("a line that is no sample was read")
	}
}

func TestCause(t *testing.T) {
	for want, stack := range map[string][]string{
		"nodeagent/volume":           {"mynetwork.io/mynetwork/nodeagent/volume.(*Engine).Write", "runtime.goexit"},
		"nodeagent/core/ring":        {"mynetwork.io/mynetwork/nodeagent/core/ring.Append[...]"},
		"nodeagent/export/fuse":      {"internal/runtime/atomic.Load", "mynetwork.io/mynetwork/nodeagent/export/fuse.serve.func2"},
		"kernel: FUSE":               {"_raw_spin_lock", "fuse_dev_do_read", "vfs_read"},
		"Go's libraries and runtime": {"internal/poll.(*FD).Read", "net.(*conn).Read"},
	} {
		if got := cause(stack); got != want {
			t.Errorf("%v: %q, want %q", stack, got, want)
		}
	}
}
