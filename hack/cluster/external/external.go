// Package external runs Kubernetes' own end-to-end suite for storage drivers against csi.mynetwork.io on a cluster that has
// MyNetwork installed, and says what each spec came to.
package external

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed driver.yaml
var driver string

// existing is the line of driver.yaml that says where the StorageClass comes from.
const existing = "StorageClass: {FromExistingClassName: CLASS}"

//go:embed attributes.yaml
var attributes string

// Options are what a run of the suite is told.
type Options struct {
	Bin        string // directory of ginkgo, e2e.test and kubectl
	Kubeconfig string
	Class      string // StorageClass and VolumeSnapshotClass that the tests copy
	Focus      string // regular expression on the names of specs
	Skip       string // more specs that are left out
	Slow       bool   // also specs that Kubernetes calls slow
	Procs      int    // specs at once; most of them wait most of their time
	Timeout    time.Duration
	Report     string // directory of the results
	DryRun     bool   // run nothing, list all
	Apart      []Apart
	Out        io.Writer
}

// Apart are specs that need a StorageClass of their own: they run on it after the others, in a run of their own.
type Apart struct {
	Name  string // of the run: it has its report in a directory of that name, and is told beside the spec
	Specs string // regular expression on their names
	Class string // the StorageClass, as YAML or JSON
}

// inapplicable are specs that no driver's declaration leaves out and that cannot run here: their reasons stand in README.md.
func inapplicable() []string {
	return []string{`\[Feature:Windows\]`, `ntfs`, `\[Disruptive\]`, `SELinux`, `\[Feature:snapshotmetadata\]`, `any volume data source`}
}

// ErrFailed is the error of a suite that ran and in which specs failed, or none ran.
var ErrFailed = errors.New("the external-storage suite has failed")

// Run runs the suite. The report directory gets ginkgo's output, junit.xml, and specs.txt with a line for each spec.
func Run(ctx context.Context, o Options) error {
	report, err := filepath.Abs(o.Report)
	if err != nil {
		return err
	}
	rest := o
	for _, a := range o.Apart {
		rest.Skip = either(rest.Skip, a.Specs)
	}
	specs, ran, err := pass(ctx, rest, report, "FromExistingClassName: "+o.Class, "")
	if err != nil {
		return err
	}
	if o.DryRun { // ginkgo says "passed" of what it would run
		_, err := fmt.Fprintf(o.Out, "%d specs would run, %d are not chosen; none has run\n", len(specs)-unchosen(specs), unchosen(specs))
		return errors.Join(err, ran)
	}
	for _, a := range o.Apart {
		more, err := apart(ctx, o, a, report, specs)
		if err != nil {
			return errors.Join(err, ran)
		}
		specs = together(specs, more, a.Name)
	}
	return conclude(o.Out, report, specs, ran)
}

// pass runs ginkgo once, with a driver whose StorageClass comes from where from says; class is what class.yaml is to hold. ran is how ginkgo ended.
func pass(ctx context.Context, o Options, report, from, class string) (specs []spec, ran, err error) {
	if err := os.MkdirAll(report, 0o755); err != nil {
		return nil, nil, err
	}
	files := map[string]string{"attributes.yaml": attributes, "class.yaml": class,
		"driver.yaml": strings.NewReplacer("ATTRIBUTES", filepath.Join(report, "attributes.yaml"), existing, "StorageClass: {"+from+"}", "CLASS", o.Class).Replace(driver)}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(report, name), []byte(text), 0o644); err != nil {
			return nil, nil, err
		}
	}
	log, err := os.Create(filepath.Join(report, "log.txt"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	if err := os.Remove(filepath.Join(report, "junit.xml")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(o.Bin, "ginkgo"), arguments(o, report)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it cleans up what its specs have made
	cmd.WaitDelay = 2 * time.Minute
	fmt.Fprintf(o.Out, "running; see %s\n", log.Name())
	ran = cmd.Run()
	specs, err = read(filepath.Join(report, "junit.xml"))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: no results (%w): see %s", ErrFailed, errors.Join(ran, err), log.Name())
	}
	return specs, ran, nil
}

func arguments(o Options, report string) []string {
	skip := inapplicable()
	if !o.Slow {
		skip = append(skip, `\[Slow\]`)
	}
	if o.Skip != "" {
		skip = append(skip, o.Skip)
	}
	args := []string{"--no-color", "-v", "--timeout=" + o.Timeout.String(), "--focus=" + o.Focus, "--skip=" + strings.Join(skip, "|")}
	if o.DryRun {
		args = append(args, "--dry-run")
	} else {
		args = append(args, fmt.Sprintf("--procs=%d", o.Procs))
	}
	return append(args, filepath.Join(o.Bin, "e2e.test"), "--", "-kubeconfig="+o.Kubeconfig, "-provider=skeleton",
		"-storage.testdriver="+filepath.Join(report, "driver.yaml"), "-kubectl-path="+filepath.Join(o.Bin, "kubectl"), "-report-dir="+report)
}

// spec is what one spec came to.
type spec struct {
	Name    string  `xml:"name,attr"`
	Status  string  `xml:"status,attr"` // passed, failed, timedout, skipped, ...
	Seconds float64 `xml:"time,attr"`
	Skipped *struct {
		Message string `xml:"message,attr"`
	} `xml:"skipped"`
	Failure *struct {
		Message string `xml:"message,attr"`
	} `xml:"failure"`
}

// chosen tells whether the focus chose the spec: it ran, or found by itself that it does not apply.
func (s spec) chosen() bool { return s.Skipped == nil || s.Skipped.Message != "skipped" }

func unchosen(specs []spec) (n int) {
	for _, s := range specs {
		if !s.chosen() {
			n++
		}
	}
	return n
}

// reason is why the spec was skipped or failed, in one line of at most 400 bytes: the log has the whole text.
func (s spec) reason() string {
	text := ""
	if s.Skipped != nil {
		text = s.Skipped.Message
	}
	if s.Failure != nil {
		text = s.Failure.Message
	}
	line := strings.Join(strings.Fields(text), " ")
	if len(line) > 400 {
		line = strings.ToValidUTF8(line[:400], "") + "..."
	}
	return line
}

// read reads junit.xml as ginkgo writes it.
func read(file string) ([]spec, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var suites struct {
		Specs []spec `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return slices.DeleteFunc(suites.Specs, func(s spec) bool { return !strings.HasPrefix(s.Name, "[It]") }), nil
}

// skipped is a table of the specs that found by themselves that they do not apply, by reason, those of most specs first.
func skipped(specs []spec) string {
	by := map[string][]string{}
	for _, s := range specs {
		if s.Status == "skipped" && s.chosen() {
			why, _, _ := strings.Cut(strings.TrimPrefix(s.reason(), "skipped - "), " - skipping")
			by[why] = append(by[why], strings.TrimSpace(strings.TrimPrefix(s.Name, "[It]")))
		}
	}
	reasons := slices.SortedFunc(maps.Keys(by), func(a, b string) int { return cmp.Or(cmp.Compare(len(by[b]), len(by[a])), cmp.Compare(a, b)) })
	var out strings.Builder
	out.WriteString("| Reason | Specs | One of them |\n|---|---|---|\n")
	for _, r := range reasons {
		fmt.Fprintf(&out, "| %s | %d | %s |\n", strings.ReplaceAll(r, "|", "/"), len(by[r]), strings.ReplaceAll(slices.Min(by[r]), "|", "/"))
	}
	return out.String()
}

// conclude writes specs.txt and skipped.md, prints what failed and how many specs came to what, and judges.
func conclude(out io.Writer, report string, specs []spec, ran error) error {
	slices.SortStableFunc(specs, func(a, b spec) int { return strings.Compare(a.Status, b.Status) })
	var lines strings.Builder
	count := map[string]int{}
	for _, s := range specs {
		if !s.chosen() {
			count["not chosen"]++
			continue
		}
		count[s.Status]++
		fmt.Fprintf(&lines, "%-8s %6.1f s  %s", s.Status, s.Seconds, s.Name)
		if r := s.reason(); r != "" {
			fmt.Fprintf(&lines, "  -- %s", r)
		}
		fmt.Fprintln(&lines)
		if s.Failure != nil {
			fmt.Fprintf(out, "%s: %s\n    %s\n", s.Status, s.Name, s.reason())
		}
	}
	file := filepath.Join(report, "specs.txt")
	if err := os.WriteFile(file, []byte(lines.String()), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(report, "skipped.md"), []byte(skipped(specs)), 0o644); err != nil {
		return err
	}
	failed := 0
	for status, n := range count {
		if status != "passed" && status != "skipped" && status != "not chosen" {
			failed += n
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped, %d not chosen: see %s\n", count["passed"], failed, count["skipped"], count["not chosen"], file)
	switch {
	case failed > 0:
		return fmt.Errorf("%w: %d specs", ErrFailed, failed)
	case count["passed"] == 0:
		return fmt.Errorf("%w: no spec has run: see %s", ErrFailed, filepath.Join(report, "log.txt"))
	case ran != nil:
		return fmt.Errorf("%w: ginkgo: %w", ErrFailed, ran)
	}
	return nil
}
