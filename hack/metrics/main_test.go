package main

import (
	"os"
	"slices"
	"testing"
)

// TestDocument: docs/metrics.md is what the tables say.
func TestDocument(t *testing.T) {
	have, err := os.ReadFile("../../" + File)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != Document() {
		t.Errorf("%s is not what the components' tables say: go run ./hack/metrics", File)
	}
}

// TestUnique: no two components export one name.
func TestUnique(t *testing.T) {
	names := Names()
	if len(names) < 80 {
		t.Errorf("%d names", len(names))
	}
	if len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Error("a name is there twice")
	}
}
