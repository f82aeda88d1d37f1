package grant

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

const testNetwork = "7c1f0c9e-0000-4000-8000-00000000abcd"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func testGrant(node string, epoch uint64, verbs Verbs) Grant {
	return Grant{Volume: block.VolumeID{1, 2, 3}, Node: node, EpochNumber: epoch, Verbs: verbs}
}

func testKey(seed byte) ed25519.PrivateKey {
	s := make([]byte, ed25519.SeedSize)
	s[0] = seed
	return ed25519.NewKeyFromSeed(s)
}

func pub(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// TestAllow: exactly what was granted is allowed, and a refusal names what is missing.
func TestAllow(t *testing.T) {
	var clock atomic.Int64
	clock.Store(1000)
	key := testKey(1)
	a := NewAuthorizer(testNetwork, []ed25519.PublicKey{pub(key)}, func() time.Time { return time.Unix(clock.Load(), 0) })
	me := identity.Identity{Network: testNetwork, Node: "client"}
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
		who   identity.Identity
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
		"other node":     {identity.Identity{Network: testNetwork, Node: "x"}, vol, 6, Read, false},
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
	wantErr(t, install(g), warrant.ErrGrant) // ended
	wantErr(t, install(testGrant("other", 5, Read)), warrant.ErrGrant)
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

// TestEveryVolume: a grant for the zero volume serves for every volume, and only for what keeps copies alive.
func TestEveryVolume(t *testing.T) {
	var clock atomic.Int64
	clock.Store(1000)
	key := testKey(1)
	a := NewAuthorizer(testNetwork, []ed25519.PublicKey{pub(key)}, func() time.Time { return time.Unix(clock.Load(), 0) })
	me := identity.Identity{Network: testNetwork, Node: "client"}
	vol := block.VolumeID{7}
	wantErr(t, a.Allow(me, vol, 3, Read), ErrDenied) // control
	b, err := Grant{Node: "client", Verbs: Read | Repair | Delete, NotAfter: 2000}.Encode(testNetwork, key)
	must(t, err)
	must(t, a.Install(me, b))
	for _, verb := range []Verbs{Read, Repair, Delete, Read | Repair} {
		must(t, a.Allow(me, vol, 3, verb))
	}
	for _, verb := range []Verbs{Write, Attach, Admin, Read | Write, 0} {
		wantErr(t, a.Allow(me, vol, 3, verb), ErrDenied)
	}
	err = a.Allow(me, vol, 3, Write)
	if !strings.Contains(err.Error(), "read|repair|delete for every volume") {
		t.Error(err)
	}
	wantErr(t, a.Allow(identity.Identity{Network: testNetwork, Node: "x"}, vol, 3, Read), ErrDenied)

	// A replica refuses one that writes even if the control key signed it: its bytes are made by hand.
	forged, err := Grant{Volume: block.VolumeID{9}, Node: "client", Verbs: Write}.Encode(testNetwork, key)
	must(t, err)
	clear(forged[24:40])
	body := forged[:len(forged)-ed25519.SignatureSize]
	forged = append(body, ed25519.Sign(key, append([]byte("mynetwork grant\x00"+testNetwork+"\x00"), body...))...)
	wantErr(t, a.Install(me, forged), warrant.ErrGrant)

	if n := testing.AllocsPerRun(100, func() { a.Allow(me, vol, 19, Read) }); n != 0 {
		t.Errorf("Allow allocates %v", n)
	}
	clock.Store(2001)
	wantErr(t, a.Allow(me, vol, 3, Read), ErrDenied)
}
