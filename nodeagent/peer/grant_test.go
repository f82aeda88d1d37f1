package peer

import (
	"context"
	"crypto/ed25519"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/peer/grant"
)

func testKey(seed byte) ed25519.PrivateKey {
	s := make([]byte, ed25519.SeedSize)
	s[0] = seed
	return ed25519.NewKeyFromSeed(s)
}

func pub(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// TestGrantFrame: a grant that is installed over the wire serves all connections of the node, until the last one ends.
func TestGrantFrame(t *testing.T) {
	key := testKey(1)
	a := grant.NewAuthorizer(testNetwork, []ed25519.PublicKey{pub(key)}, nil)
	g := grant.Grant{Volume: block.VolumeID{1}, Node: "client", EpochNumber: 5, Verbs: grant.Write}
	r := newRig(t, handlerFunc(func(from Identity, q *Request) {
		defer q.Release()
		if err := a.Allow(from, g.Volume, 5, grant.Write); err != nil {
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
	wantErr(t, c.InstallGrant(ctx, forgery), ErrGrantRefused)
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
