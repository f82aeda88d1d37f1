package warrant

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
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

func pub(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

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
	if back, err := DecodeGrant(b); err != nil || back != g {
		t.Errorf("it came back as %+v, %v", back, err)
	}
}

// TestSignature: any changed byte, another key and another network are refused.
func TestSignature(t *testing.T) {
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
	for _, g := range []Grant{{}, testGrant("", 1, Read), testGrant("n", 1, 0), testGrant("n", 1, 1<<15), {Node: "n", Verbs: Read | Write}, {Node: "n", Verbs: Attach}, {Node: "n", Verbs: Admin}} {
		if _, err := g.Encode(testNetwork, testKey(1)); !errors.Is(err, ErrGrant) {
			t.Errorf("%+v was encoded: %v", g, err)
		}
	}
}

func deletionKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) }

const goldenDeletion = "4d4e44010102000000000000000000000000000005000000000000000900000000000000"

func TestDeletion(t *testing.T) {
	keys := []ed25519.PublicKey{pub(testKey(2)), pub(deletionKey())}
	r := Deletion{Volume: block.VolumeID{1, 2}, Epoch: 5, At: 9}
	b := r.Encode("net", deletionKey())
	if got, want := hex.EncodeToString(b[:deletionBody]), goldenDeletion; got != want {
		t.Errorf("encoding\n%s, want\n%s", got, want)
	}
	if got, err := VerifyDeletion(b, r.Volume, "net", keys); err != nil || got != r {
		t.Fatal(got, err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := VerifyDeletion(bad, r.Volume, "net", keys); !errors.Is(err, ErrDeletion) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	for i := range b {
		if _, err := VerifyDeletion(b[:i], r.Volume, "net", keys); !errors.Is(err, ErrDeletion) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
	if _, err := VerifyDeletion(b, block.VolumeID{2}, "net", keys); !errors.Is(err, ErrDeletion) {
		t.Error("it serves for another volume")
	}
	if _, err := VerifyDeletion(b, r.Volume, "other", keys); !errors.Is(err, ErrDeletion) {
		t.Error("it serves in another network")
	}
}

func FuzzGrant(f *testing.F) {
	b, err := testGrant("n", 1, Read).Encode(testNetwork, testKey(1))
	must(f, err)
	f.Add(b)
	f.Add([]byte(hex.EncodeToString(b)))
	f.Fuzz(func(t *testing.T, in []byte) {
		g, err := DecodeGrant(in)
		if err != nil {
			return
		}
		out, err := g.encode()
		if err != nil || !bytes.HasPrefix(in, out) || len(in) != len(out)+64 {
			t.Fatalf("%x became %x, %v", in, out, err)
		}
	})
}
