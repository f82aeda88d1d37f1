package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestFiles: the chart has what boards.go says.
func TestFiles(t *testing.T) {
	files := Files()
	if len(files) != 3 {
		t.Errorf("%d dashboards", len(files))
	}
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join("../..", Dir, name))
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s is not what boards.go says: go run ./hack/dashboards (%v)", name, err)
		}
	}
}
