package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func newKey(t *testing.T, kind string) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s (apt-get install openssh-client)", err, out)
	}
	return key
}

// verify does what the README tells people to do.
func verify(t *testing.T, dir, public string) error {
	t.Helper()
	allowed := filepath.Join(t.TempDir(), "allowed")
	if err := os.WriteFile(allowed, []byte("release "+public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sums, err := os.Open(filepath.Join(dir, sumsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer sums.Close()
	cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "release", "-n", signSpace, "-s", filepath.Join(dir, signature))
	cmd.Stdin = sums
	return cmd.Run()
}

func TestSign(t *testing.T) {
	dir, key := t.TempDir(), newKey(t, "ed25519")
	sums := filepath.Join(dir, sumsFile)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(sums, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a  b\n")
	if public, err := Sign(t.Context(), dir, "", ""); err != nil || public != "" {
		t.Fatalf("without a key: %q, %v", public, err)
	}
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range [][2]string{{key, ""}, {"", string(text)}} {
		public, err := Sign(t.Context(), dir, by[0], by[1])
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(t, dir, public); err != nil {
			t.Errorf("the signature does not verify: %v", err)
		}
		other, err := Sign(t.Context(), t.TempDir(), newKey(t, "ed25519"), "")
		if err == nil {
			t.Errorf("a directory without sums was signed by %s", other)
		}
		write("c  b\n")
		if verify(t, dir, public) == nil {
			t.Error("changed sums verify")
		}
		write("a  b\n")
	}
	mine, err := os.ReadFile(newKey(t, "ed25519") + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if verify(t, dir, strings.TrimSpace(string(mine))) == nil {
		t.Error("it verifies by another's key")
	}
	if _, err := Sign(t.Context(), dir, newKey(t, "ecdsa"), ""); !errors.Is(err, errKey) || !strings.Contains(err.Error(), "Ed25519") {
		t.Errorf("another kind of key: %v", err)
	}
	if _, err := Sign(t.Context(), dir, key, "text"); !errors.Is(err, errKey) {
		t.Errorf("two keys: %v", err)
	}
	if l, err := list(dir); err != nil || l != "" {
		t.Errorf("the signature is among the sums: %q, %v", l, err)
	}
}
