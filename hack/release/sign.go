package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	signature = sumsFile + ".sig"
	// signSpace is the namespace of signatures: one that was made for something else is not taken for one of a release.
	signSpace = "mynetwork-release"
	// keyVariable has the private key itself, for machines that keep no files.
	keyVariable = "MYNETWORK_RELEASE_KEY"
)

// errKey tells that a key can not sign releases.
var errKey = errors.New("key of releases")

// Sign writes SHA256SUMS.sig beside the sums: an OpenSSH signature (PROTOCOL.sshsig) by an Ed25519 key, made by OpenSSH's own program. The key is
// in file, or is text, without a passphrase. Without both nothing is signed. It tells the public key.
func Sign(ctx context.Context, dir, file, text string) (public string, err error) {
	switch {
	case file == "" && text == "":
		return "", nil
	case file != "" && text != "":
		return "", fmt.Errorf("%w: -key and %s are both given", errKey, keyVariable)
	case text != "":
		tmp, err := os.MkdirTemp("", "key")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(tmp)
		file = filepath.Join(tmp, "key")
		if err := os.WriteFile(file, []byte(strings.TrimSpace(text)+"\n"), 0o600); err != nil {
			return "", err
		}
	}
	if public, err = keygen(ctx, "-y", "-P", "", "-f", file); err != nil {
		return "", err
	}
	if !strings.HasPrefix(public, "ssh-ed25519 ") {
		kind, _, _ := strings.Cut(public, " ")
		return "", fmt.Errorf("%w: it is %s, it has to be Ed25519: ssh-keygen -t ed25519", errKey, kind)
	}
	if err := os.Remove(filepath.Join(dir, signature)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	_, err = keygen(ctx, "-Y", "sign", "-f", file, "-n", signSpace, filepath.Join(dir, sumsFile))
	return strings.TrimSpace(public), err
}

func keygen(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "ssh-keygen", args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%w: ssh-keygen is not there: apt-get install openssh-client", errKey)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w: %s", errKey, err, strings.TrimSpace(said.String()))
	}
	return string(out), nil
}
