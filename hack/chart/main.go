// Command chart renders the Helm chart into config/, for kustomize, and checks that what is there is what the chart says.
//
//	chart render      write config/
//	chart verify      fail on a difference
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

// places are where chart and config lie, from this directory.
const (
	chartDir  = "../../charts/mynetwork"
	configDir = "../../config"
)

func run(args []string) error {
	if len(args) != 1 || !slices.Contains([]string{"render", "verify"}, args[0]) {
		return errors.New("usage: chart render|verify, in hack/chart")
	}
	files, err := Config(chartDir)
	if err != nil {
		return err
	}
	if args[0] == "verify" {
		return errors.Join(Differences(configDir, files)...)
	}
	for name, text := range files {
		file := filepath.Join(configDir, name)
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
