package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const sumsFile = "SHA256SUMS"

// sum is the SHA-256 of a file, in hex.
func sum(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// Sums writes SHA256SUMS of all other files of a directory, as sha256sum(1) reads it.
func Sums(dir string) error {
	text, err := list(dir)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, sumsFile), []byte(text), 0o644)
}

func list(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, e := range entries {
		if e.Name() == sumsFile || e.Name() == signature {
			continue
		}
		s, err := sum(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "%s  %s\n", s, e.Name())
	}
	return out.String(), nil
}

// Compare tells which files of two releases differ, by what is in them.
func Compare(a, b string) error {
	files := map[string][]string{}
	for _, dir := range []string{a, b} {
		text, err := list(dir)
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			s, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
			files[name] = append(files[name], s)
		}
	}
	var errs []error
	for name, s := range files {
		if len(s) != 2 || s[0] != s[1] {
			errs = append(errs, fmt.Errorf("%s was made twice and is not the same", name))
		}
	}
	return errors.Join(errs...)
}
