package grants

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
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

// shared signs with a key, and grants more than was asked for, for an hour of a clock.
type shared struct {
	KeySigner
	now   func() time.Time
	calls atomic.Int64
	block chan struct{} // of volume 1
}

func (s *shared) Sign(ctx context.Context, g warrant.Grant) ([]byte, error) {
	s.calls.Add(1)
	if g.Volume == (block.VolumeID{1}) && s.block != nil {
		select {
		case <-s.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	g.Verbs |= Writer
	g.NotAfter = s.now().Add(time.Hour).Unix()
	return s.KeySigner.Sign(ctx, g)
}

// TestEnds: a grant that ends is asked for anew when it is needed, not before; what came with it is not asked for.
func TestEnds(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	clock := func() time.Time { return now }
	to := &presenter{to: grant.NewAuthorizer("net", []ed25519.PublicKey{pub}, clock)}
	signer := &shared{KeySigner: KeySigner{"net", key}, now: clock}
	k := NewKeeper("a", signer, to)
	k.now = clock
	for _, step := range []struct {
		verbs grant.Verbs
		after time.Duration
		calls int64
	}{
		{grant.Read, 0, 1}, {Writer, 0, 1}, {grant.Delete, 0, 2}, {Writer, 58 * time.Minute, 2}, {Writer, 2 * time.Minute, 3}, {grant.Read, 3 * time.Hour, 4},
	} {
		now = now.Add(step.after)
		if err := k.Ensure(t.Context(), block.VolumeID{2}, step.verbs); err != nil || signer.calls.Load() != step.calls {
			t.Errorf("%v after %v: %d calls, %v", step.verbs, step.after, signer.calls.Load(), err)
		}
	}
	now = now.Add(50 * time.Minute)
	renewed, err := warrant.Grant{Volume: block.VolumeID{2}, Node: "a", Verbs: Writer, NotAfter: now.Add(time.Hour).Unix()}.Encode("net", key)
	if err == nil {
		err = k.Renewed(t.Context(), block.VolumeID{2}, renewed)
	}
	now = now.Add(30 * time.Minute)
	if err = errors.Join(err, k.Ensure(t.Context(), block.VolumeID{2}, Writer)); err != nil || signer.calls.Load() != 4 {
		t.Errorf("after it was renewed: %d calls, %v", signer.calls.Load(), err)
	}
}

// TestMember: with a grant for every volume nothing that it allows is asked for, until it ends.
func TestMember(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	clock := func() time.Time { return now }
	presented := grant.NewAuthorizer("net", []ed25519.PublicKey{pub}, clock)
	signer := &shared{KeySigner: KeySigner{"net", key}, now: clock}
	k := NewKeeper("a", signer, &presenter{to: presented})
	k.now = clock
	member := func(g warrant.Grant) error {
		b, err := g.Encode("net", key)
		if err != nil {
			t.Fatal(err)
		}
		return k.Member(t.Context(), b)
	}
	for _, bad := range []warrant.Grant{{Node: "b", Verbs: grant.Read}, {Node: "a", Verbs: grant.Read, Volume: block.VolumeID{1}}} {
		if err := member(bad); !errors.Is(err, warrant.ErrGrant) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := member(warrant.Grant{Node: "a", Verbs: warrant.EveryVolume, NotAfter: now.Add(time.Hour).Unix()}); err != nil {
		t.Fatal(err)
	}
	auth := &Authorizer{Self: "b", Network: "net", Presented: presented}
	for i := range byte(5) {
		v := block.VolumeID{9, i}
		if err := k.Ensure(t.Context(), v, grant.Read|grant.Repair); err != nil || auth.Allow("a", v, 3, replica.VerbRepair) != nil {
			t.Errorf("volume %s: %v", v, err)
		}
	}
	if signer.calls.Load() != 0 {
		t.Errorf("%d grants were asked for", signer.calls.Load())
	}
	if err := k.Ensure(t.Context(), block.VolumeID{9}, Writer); err != nil || signer.calls.Load() != 1 {
		t.Errorf("writing: %d calls, %v", signer.calls.Load(), err)
	}
	now = now.Add(2 * time.Hour)
	if err := k.Ensure(t.Context(), block.VolumeID{8}, grant.Read); err != nil || signer.calls.Load() != 2 {
		t.Errorf("after its end: %d calls, %v", signer.calls.Load(), err)
	}
}

// TestWaiting: a volume whose grant is waited for keeps no other waiting, and who gives up does.
func TestWaiting(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer := &shared{KeySigner: KeySigner{"net", key}, now: time.Now, block: make(chan struct{})}
	k := NewKeeper("a", signer, &presenter{to: grant.NewAuthorizer("net", []ed25519.PublicKey{pub}, nil)})
	done := make(chan error)
	go func() { done <- k.Ensure(t.Context(), block.VolumeID{1}, Writer) }()
	signer.block <- struct{}{} // it waits
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	go func() { done <- k.Ensure(t.Context(), block.VolumeID{1}, Writer|grant.Delete) }()
	signed := make(chan error)
	go func() { signed <- k.Ensure(t.Context(), block.VolumeID{2}, Writer) }()
	if err := <-signed; err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Ensure(gone, block.VolumeID{1}, grant.Admin); !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up: %v", err)
	}
	signer.block <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
