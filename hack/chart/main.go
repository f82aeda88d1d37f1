// Command chart renders the Helm chart into config/, for kustomize, and checks that what is there is what the chart says.
//
//	chart render      write config/
//	chart verify      fail on a difference
//
// Helm is run as a program, which hack/tools pins: as a library it would weigh more than all that the operator needs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

// run works from the top of the repository.
func run(ctx context.Context, args []string) error {
	if len(args) != 1 || !slices.Contains([]string{"render", "verify"}, args[0]) {
		return errors.New("usage: chart render|verify, at the top of the repository")
	}
	dir, err := os.MkdirTemp("", "chart")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program, err := Build(ctx, ".", dir)
	if err != nil {
		return err
	}
	files, err := Helm{Program: program, Chart: "charts/mynetwork"}.Config(ctx)
	if err != nil {
		return err
	}
	if args[0] == "verify" {
		return errors.Join(Differences("config", files)...)
	}
	for name, text := range files {
		file := filepath.Join("config", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Differences lists the files of config that are not what they should be.
func Differences(dir string, files map[string]string) (out []error) {
	for name, text := range files {
		have, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			out = append(out, fmt.Errorf("config/%s is missing: run make generate", name))
		case err != nil:
			out = append(out, err)
		case string(have) != text:
			out = append(out, fmt.Errorf("config/%s is not what the chart says: run make generate", name))
		}
	}
	return out
}
