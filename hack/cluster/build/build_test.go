package build

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

func TestOnceUntilSourcesChange(t *testing.T) {
	source := t.TempDir()
	if err := os.Mkdir(filepath.Join(source, "m"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(source, "m", "main.go"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := Builder{Source: source, Dir: record.Dir(t.TempDir()), Out: io.Discard}
	built := 0
	once := func(result error) {
		t.Helper()
		if err := b.once("m", func(string) error { built++; return result }, "m"); !errors.Is(err, result) {
			t.Fatalf("once: %v, want %v", err, result)
		}
	}
	write("1")
	broken := errors.New("broken")
	for i, step := range []struct {
		text   string
		result error
		want   int
	}{{"1", broken, 1}, {"1", nil, 2}, {"1", nil, 2}, {"2", nil, 3}, {"2", nil, 3}} {
		write(step.text)
		once(step.result)
		if built != step.want {
			t.Errorf("step %d: built %d times, want %d", i, built, step.want)
		}
	}
}

func TestSourceIsFoundFromHere(t *testing.T) {
	source, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(source, "sidecars", "go.mod")); err != nil {
		t.Error(err)
	}
	t.Chdir("/")
	if _, err := Source(); err == nil {
		t.Error("found outside of the repository")
	}
}
