package grants

import (
	"context"
	"crypto/ed25519"
	"errors"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/peer/grant"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// presenter installs what is presented, as the peer server of another node does.
type presenter struct {
	to    *grant.Authorizer
	calls int
	err   error
}

func (p *presenter) AddGrant(_ context.Context, _ block.VolumeID, encoded []byte) error {
	p.calls++
	if p.err != nil {
		return p.err
	}
	return p.to.Install(identity.Identity{Network: "net", Node: "a"}, encoded)
}

func TestKeeper(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	presented := grant.NewAuthorizer("net", []ed25519.PublicKey{pub}, nil)
	to := &presenter{to: presented}
	k := NewKeeper("a", KeySigner{"net", key}, to)
	auth := &Authorizer{Self: "b", Network: "net", Presented: presented}
	v := block.VolumeID{1}
	all := []replica.Verb{replica.VerbRead, replica.VerbWrite, replica.VerbRepair, replica.VerbDelete}
	want := func(allowed ...bool) {
		t.Helper()
		for i, verb := range all {
			if err := auth.Allow("a", v, 7, verb); (err == nil) != allowed[i] || err != nil && !errors.Is(err, grant.ErrDenied) {
				t.Errorf("verb %d: %v, want allowed %v", verb, err, allowed[i])
			}
		}
		if auth.Allow("a", block.VolumeID{2}, 7, replica.VerbRead) == nil || auth.Allow("c", v, 7, replica.VerbRead) == nil {
			t.Error("another volume or another node is allowed")
		}
	}
	want(false, false, false, false)
	for _, step := range []struct {
		verbs   grant.Verbs
		allowed []bool
	}{
		{grant.Read, []bool{true, false, false, false}},
		{Writer, []bool{true, true, true, false}},
		{grant.Read, []bool{true, true, true, false}}, // a smaller one takes nothing away
		{grant.Delete, []bool{true, true, true, true}},
	} {
		if err := k.Ensure(t.Context(), v, step.verbs); err != nil {
			t.Fatal(err)
		}
		want(step.allowed...)
	}
	if to.calls != 3 {
		t.Errorf("%d grants were presented, 3 are needed", to.calls)
	}
	if auth.Allow("b", block.VolumeID{9}, 1, replica.VerbWrite) != nil {
		t.Error("this node's own requests are refused")
	}
	to.err = errors.New("no connection")
	if err := k.Ensure(t.Context(), block.VolumeID{3}, grant.Read); !errors.Is(err, to.err) {
		t.Error(err)
	}
	to.err = nil
	if err := k.Ensure(t.Context(), block.VolumeID{3}, grant.Read); err != nil { // it is tried again
		t.Error(err)
	}
}
