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

// unbound names the specs that change a claim before a pod uses it.
const unbound = `volume-modify-stress.*should modify volumes`

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

// apart runs specs on a class of their own if the focus of the suite, whose specs are all given, chooses one of them.
func apart(ctx context.Context, o Options, a Apart, report string, all []spec) ([]spec, error) {
	focus, err := regexp.Compile(o.Focus)
	if err != nil {
		return nil, fmt.Errorf("focus: %w", err)
	}
	mine := regexp.MustCompile(a.Specs)
	if !slices.ContainsFunc(all, func(s spec) bool { return mine.MatchString(s.Name) && focus.MatchString(s.Name) }) {
		return nil, nil
	}
	report = filepath.Join(report, a.Name)
	o.Focus = "External.Storage.*" + a.Specs
	more, ran, err := pass(ctx, o, report, "FromFile: "+filepath.Join(report, "class.yaml"), a.Class)
	if err != nil {
		return nil, err
	}
	if ran != nil && !slices.ContainsFunc(more, func(s spec) bool { return s.Failure != nil }) {
		return nil, fmt.Errorf("%w: on %s: ginkgo: %w", ErrFailed, a.Name, ran)
	}
	return more, nil
}

// together are the specs of a suite and what those that ran apart came to.
func together(all, apart []spec, on string) []spec {
	ran := map[string]bool{}
	for i := range apart {
		if s := apart[i]; s.chosen() {
			ran[s.Name] = true
			s.Name += " (on " + on + ")"
			all = append(all, s)
		}
	}
	return slices.DeleteFunc(all, func(s spec) bool { return ran[s.Name] && !s.chosen() })
}

// OnXFS runs the specs that grow a mounted file system of the default type on XFS, given the suite's StorageClass as JSON: for machines that
// cannot grow a mounted ext4, see GrowsExt4.
func OnXFS(class []byte) (Apart, error) {
	text, err := changed(class, func(c map[string]any) {
		parameters, ok := c["parameters"].(map[string]any)
		if !ok {
			parameters = map[string]any{}
		}
		parameters["csi.storage.k8s.io/fstype"] = "xfs"
		c["parameters"] = parameters
	})
	return Apart{"xfs", growing, text}, err
}

// OnImmediate runs those that change the VolumeAttributesClass of a claim before a pod uses it on a class that does not wait for one: the API
// refuses the change of a claim that is not bound.
func OnImmediate(class []byte) (Apart, error) {
	text, err := changed(class, func(c map[string]any) { c["volumeBindingMode"] = "Immediate" })
	return Apart{"immediate", unbound, text}, err
}

// changed makes of a StorageClass as JSON another one. Its name and metadata are left out: the suite gives it a name.
func changed(class []byte, change func(c map[string]any)) (string, error) {
	var c map[string]any
	if err := json.Unmarshal(class, &c); err != nil {
		return "", fmt.Errorf("StorageClass: %w", err)
	}
	change(c)
	c["metadata"] = map[string]any{"name": "apart"}
	text, err := json.Marshal(c)
	return string(text), err
}
