package external

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// growing names the specs that grow a mounted file system of the StorageClass's default type.
const growing = `default fs.*(should resize volume when PVC is edited while pod is using it|should support expansion of pvcs created for ephemeral pvcs)`

// GrowsExt4 tells whether a privileged pod of this machine can grow a mounted ext4: the kernel asks for CAP_SYS_RESOURCE, which no
// container has that the machine itself was not given.
func GrowsExt4() (bool, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false, err
	}
	return bounded(string(text), unix.CAP_SYS_RESOURCE)
}

// bounded tells whether a capability is in the bounding set that a process's status tells.
func bounded(status string, capability uint) (bool, error) {
	for line := range strings.Lines(status) {
		if set, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
			return bits&(1<<capability) != 0, err
		}
	}
	return false, fmt.Errorf("no CapBnd in the status of this process")
}

// either is a regular expression for what matches one of two; an empty one matches nothing.
func either(a, b string) string {
	return strings.Trim(a+"|"+b, "|")
}

// grow runs the growing specs on XFS if the focus of the suite, whose specs are all given, chooses one of them.
func grow(ctx context.Context, o Options, report string, all []spec) ([]spec, error) {
	focus, err := regexp.Compile(o.Focus)
	if err != nil {
		return nil, fmt.Errorf("focus: %w", err)
	}
	mine := regexp.MustCompile(growing)
	if !slices.ContainsFunc(all, func(s spec) bool { return mine.MatchString(s.Name) && focus.MatchString(s.Name) }) {
		return nil, nil
	}
	report = filepath.Join(report, "xfs")
	o.Focus = "External.Storage.*" + growing
	more, ran, err := pass(ctx, o, report, "FromFile: "+filepath.Join(report, "class.yaml"))
	if err != nil {
		return nil, err
	}
	if ran != nil && !slices.ContainsFunc(more, func(s spec) bool { return s.Failure != nil }) {
		return nil, fmt.Errorf("%w: on XFS: ginkgo: %w", ErrFailed, ran)
	}
	return more, nil
}

// together are the specs of a suite and what those that ran on XFS came to.
func together(all, onXFS []spec) []spec {
	ran := map[string]bool{}
	for i := range onXFS {
		if s := onXFS[i]; s.chosen() {
			ran[s.Name] = true
			s.Name += " (on XFS)"
			all = append(all, s)
		}
	}
	return slices.DeleteFunc(all, func(s spec) bool { return ran[s.Name] && !s.chosen() })
}

// XFS makes of a StorageClass as JSON one for XFS, as the suite reads it from a file. Its name and metadata are left out: the suite gives
// it a name.
func XFS(class []byte) (string, error) {
	var c map[string]any
	if err := json.Unmarshal(class, &c); err != nil {
		return "", fmt.Errorf("StorageClass: %w", err)
	}
	parameters, ok := c["parameters"].(map[string]any)
	if !ok {
		parameters = map[string]any{}
	}
	parameters["csi.storage.k8s.io/fstype"] = "xfs"
	c["parameters"], c["metadata"] = parameters, map[string]any{"name": "xfs"}
	text, err := json.Marshal(c)
	return string(text), err
}
