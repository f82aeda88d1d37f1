package grant

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

const testNetwork = "7c1f0c9e-0000-4000-8000-00000000abcd"

var update = flag.Bool("update", false, "rewrite the golden bytes")

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

// TestGolden pins the bytes of the encoding.
func TestGolden(t *testing.T) {
	g := testGrant("node-1.example", 42, Read|Write|Attach)
	g.NotAfter = 1_800_000_000
	b, err := g.Encode(testNetwork, testKey(1))
	must(t, err)
	got := fmt.Sprintf("grant %x\n", b)
	if *update {
		must(t, os.WriteFile("testdata/golden.txt", []byte(got), 0o644))
	}
	want, err := os.ReadFile("testdata/golden.txt")
	must(t, err)
	if got != string(want) {
		t.Errorf("the format changed:\n%s\nwant:\n%s", got, want)
	}
	if back, err := Decode(b); err != nil || back != g {
		t.Errorf("it came back as %+v, %v", back, err)
	}
}

func pub(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// TestSignature: any changed byte, another key and another network are refused.
func TestSignature(t *testing.T) {
	b, err := testGrant("client", 5, Read).Encode(testNetwork, testKey(1))
	must(t, err)
	keys := []ed25519.PublicKey{pub(testKey(2)), pub(testKey(1))}
	_, err = Verify(b, testNetwork, keys)
	must(t, err)
	for i := range b {
		b[i] ^= 4
		if _, err := Verify(b, testNetwork, keys); !errors.Is(err, ErrGrant) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		b[i] ^= 4
	}
	_, err = Verify(b, testNetwork, keys[:1])
	wantErr(t, err, ErrGrant)
	_, err = Verify(b, "other", keys)
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

func FuzzGrant(f *testing.F) {
	b, err := testGrant("n", 1, Read).Encode(testNetwork, testKey(1))
	must(f, err)
	f.Add(b)
	f.Add([]byte(hex.EncodeToString(b)))
	f.Fuzz(func(t *testing.T, in []byte) {
		g, err := Decode(in)
		if err != nil {
			return
		}
		out, err := g.encode()
		if err != nil || !bytes.HasPrefix(in, out) || len(in) != len(out)+64 {
			t.Fatalf("%x became %x, %v", in, out, err)
		}
	})
}
