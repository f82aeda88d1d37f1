package peer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

func pub(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// TestGrantSignature: any changed byte, another key and another network are refused.
func TestGrantSignature(t *testing.T) {
	b, err := testGrant("client", 5, Read).Encode(testNetwork, testKey(1))
	must(t, err)
	keys := []ed25519.PublicKey{pub(testKey(2)), pub(testKey(1))}
	_, err = VerifyGrant(b, testNetwork, keys)
	must(t, err)
	for i := range b {
		b[i] ^= 4
		if _, err := VerifyGrant(b, testNetwork, keys); !errors.Is(err, ErrGrant) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		b[i] ^= 4
	}
	_, err = VerifyGrant(b, testNetwork, keys[:1])
	wantErr(t, err, ErrGrant)
	_, err = VerifyGrant(b, "other", keys)
	wantErr(t, err, ErrGrant)
	for _, g := range []Grant{{}, testGrant("", 1, Read), testGrant("n", 1, 0), testGrant("n", 1, 1<<15), {Node: "n", Verbs: Read}} {
		if _, err := g.Encode(testNetwork, testKey(1)); !errors.Is(err, ErrGrant) {
			t.Errorf("%+v was encoded: %v", g, err)
		}
	}
}

// TestAllow: exactly what was granted is allowed, and a refusal names what is missing.
func TestAllow(t *testing.T) {
	var clock atomic.Int64
	clock.Store(1000)
	key := testKey(1)
	a := NewAuthorizer(testNetwork, []ed25519.PublicKey{pub(key)}, func() time.Time { return time.Unix(clock.Load(), 0) })
	me := Identity{Network: testNetwork, Node: "client"}
	vol := testGrant("", 0, 0).Volume
	install := func(g Grant) error {
		b, err := g.Encode(testNetwork, key)
		must(t, err)
		return a.Install(me, b)
	}
	err := a.Allow(me, vol, 5, Write)
	wantErr(t, err, ErrDenied)
	if !strings.Contains(err.Error(), "none for this volume") {
		t.Error(err)
	}
	g := testGrant("client", 5, Read|Write)
	g.NotAfter = 2000
	must(t, install(g))
	must(t, install(testGrant("client", 6, Read|Write|Attach)))
	for name, c := range map[string]struct {
		who   Identity
		vol   block.VolumeID
		epoch uint64
		verb  Verbs
		ok    bool
	}{
		"write in 5":     {me, vol, 5, Write, true},
		"both in 5":      {me, vol, 5, Read | Write, true},
		"attach in 6":    {me, vol, 6, Attach, true},
		"attach in 5":    {me, vol, 5, Attach, false},
		"write in 4":     {me, vol, 4, Write, false},
		"delete":         {me, vol, 6, Delete, false},
		"nothing":        {me, vol, 6, 0, false},
		"other volume":   {me, block.VolumeID{9}, 6, Read, false},
		"other node":     {Identity{Network: testNetwork, Node: "x"}, vol, 6, Read, false},
		"read and admin": {me, vol, 6, Read | Admin, false},
	} {
		if err := a.Allow(c.who, c.vol, c.epoch, c.verb); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	clock.Store(2001)
	err = a.Allow(me, vol, 5, Write)
	wantErr(t, err, ErrDenied)
	for _, part := range []string{"client", "write", vol.String(), "epoch 5", "read|write in epoch 5 (ended)", "read|write|attach in epoch 6"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v lacks %q", err, part)
		}
	}
	wantErr(t, install(g), ErrGrant) // ended
	wantErr(t, install(testGrant("other", 5, Read)), ErrGrant)
	for e := range uint64(20) {
		must(t, install(testGrant("client", e, Read)))
	}
	must(t, a.Allow(me, vol, 0, Read))
	must(t, a.Allow(me, vol, 3, Read)) // by the grant for any epoch
	if n := len(a.grants["client"][vol]); n != maxGrantsPerVolume {
		t.Errorf("%d grants kept", n)
	}
	if n := testing.AllocsPerRun(100, func() { a.Allow(me, vol, 19, Read) }); n != 0 {
		t.Errorf("Allow allocates %v", n)
	}
	a.Forget("client")
	wantErr(t, a.Allow(me, vol, 19, Read), ErrDenied)
}

// TestGrantFrame: a grant that is installed over the wire serves all connections of the node, until the last one ends.
func TestGrantFrame(t *testing.T) {
	key := testKey(1)
	a := NewAuthorizer(testNetwork, []ed25519.PublicKey{pub(key)}, nil)
	g := testGrant("client", 5, Write)
	r := newRig(t, handlerFunc(func(from Identity, q *Request) {
		defer q.Release()
		if err := a.Allow(from, g.Volume, 5, Write); err != nil {
			q.Reply(1, []byte(err.Error()))
			return
		}
		q.Reply(StatusOK)
	}), Settings{}, ServerOptions{Grants: a})
	ctx := context.Background()
	ask := func(c *Conn) uint16 {
		t.Helper()
		resp, err := c.Call(ctx, 1)
		must(t, err)
		defer resp.Release()
		return resp.Status
	}
	c, second := r.dial(t, Settings{}), r.dial(t, Settings{})
	if ask(c) != 1 {
		t.Error("no grant, and data")
	}
	forgery, err := g.Encode(testNetwork, testKey(2))
	must(t, err)
	wantErr(t, c.InstallGrant(ctx, forgery), ErrGrant)
	if ask(c) != 1 {
		t.Error("a forged grant, and data")
	}
	b, err := g.Encode(testNetwork, key)
	must(t, err)
	must(t, c.InstallGrant(ctx, b))
	if ask(c) != StatusOK || ask(second) != StatusOK {
		t.Error("denied in spite of a grant")
	}
	c.Close()
	r.ended.next()
	if ask(second) != StatusOK {
		t.Error("the grant went with one of two connections")
	}
	second.Close()
	r.ended.next()
	if ask(r.dial(t, Settings{})) != 1 {
		t.Error("the grant outlived the connections")
	}
}
