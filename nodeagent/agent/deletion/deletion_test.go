package deletion

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

func key() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) }

const golden = "4d4e44010102000000000000000000000000000005000000000000000900000000000000"

func TestVerify(t *testing.T) {
	pub := key().Public().(ed25519.PublicKey)
	r := Record{Volume: block.VolumeID{1, 2}, Epoch: 5, At: 9}
	b := r.Sign("net", key())
	if got, want := hex.EncodeToString(b[:bodySize]), golden; got != want {
		t.Errorf("encoding\n%s, want\n%s", got, want)
	}
	if got, err := Verify(b, r.Volume, "net", pub); err != nil || got != r {
		t.Fatal(got, err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := Verify(bad, r.Volume, "net", pub); !errors.Is(err, ErrDeletion) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	for i := range b {
		if _, err := Verify(b[:i], r.Volume, "net", pub); !errors.Is(err, ErrDeletion) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
	if _, err := Verify(b, block.VolumeID{2}, "net", pub); !errors.Is(err, ErrDeletion) {
		t.Error("it serves for another volume")
	}
	if _, err := Verify(b, r.Volume, "other", pub); !errors.Is(err, ErrDeletion) {
		t.Error("it serves in another network")
	}
}
