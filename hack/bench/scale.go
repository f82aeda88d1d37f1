package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scaleFigures are what "bench scale" measured: results/scale.json. A part that was not measured keeps what was there.
type scaleFigures struct {
	Agents  []agentsRow  `json:"agents"`
	Volumes []volumesRow `json:"volumes"`
	Sizes   []sizesRow   `json:"sizes"`
	// Of each part: the day and the commit that it was measured on.
	Taken map[string]string `json:"taken"`
}

// idle is what an agent uses while nothing is asked of it.
type idle struct {
	RSS float64 `json:"rss_mib"`
	CPU float64 `json:"cpu_percent"` // of a core
}

// speeds are of 4 KiB writes at depth 32, and of 4 KiB writes and a flush at depth 1.
type speeds struct {
	IOPS    float64 `json:"iops"`
	CPU     float64 `json:"cpu_us_per_op"`
	SyncP50 float64 `json:"sync_p50_us"`
	SyncP99 float64 `json:"sync_p99_us"`
}

// agentsRow is of a network of so many agents, one volume attached.
type agentsRow struct {
	Agents int  `json:"agents"`
	First  idle `json:"first"`  // has the volume
	Others idle `json:"others"` // the most of them
	Mean   idle `json:"mean"`
	speeds
}

// volumesRow is of three agents and so many volumes attached to the first one.
type volumesRow struct {
	Volumes    int     `json:"volumes"`
	AttachMean float64 `json:"attach_mean_ms"`
	AttachP99  float64 `json:"attach_p99_ms"`
	DetachMean float64 `json:"detach_mean_ms"`
	First      idle    `json:"first"`
	Others     idle    `json:"others"`
	speeds
}

// sizesRow is of one thin volume of that size, holding some data.
type sizesRow struct {
	Size        int64   `json:"size"`
	Data        int64   `json:"data"`
	AttachEmpty float64 `json:"attach_empty_ms"`
	AttachClean float64 `json:"attach_clean_ms"`
	AttachCrash float64 `json:"attach_crash_ms"`
	Snapshot    float64 `json:"snapshot_ms"`
	Clone       float64 `json:"clone_ms"`       // of what was written just now
	CloneOpen   float64 `json:"clone_open_ms"`  // its first attach, to the first byte, right away: with the checkpoint that it waits for
	CloneAgain  float64 `json:"clone_again_ms"` // another clone, once that is made
	ReadP50     float64 `json:"read_p50_us"`
	ReadP99     float64 `json:"read_p99_us"`
	First       float64 `json:"first_rss_mib"`
	Others      float64 `json:"others_rss_mib"`
	speeds
}

// scaling is the command line of "bench scale".
type scaling struct {
	options
	ctx                    context.Context
	rest                   time.Duration
	data                   int64
	agents, volumes, sizes []int64
	parts                  []string
	figures                scaleFigures
}

// Parts of the measurement, in order.
func allParts() []string { return []string{"agents", "volumes", "sizes"} }

// scaleCommand measures how things grow with the number of agents, of volumes, and with the size of a volume.
func scaleCommand(ctx context.Context, w io.Writer, args []string) error {
	s, docs, err := parseScale(ctx, args)
	if err == nil && len(s.parts) > 0 {
		err = preflight(s.options)
	}
	if err != nil {
		return err
	}
	file := filepath.Join(docs, "results", "scale.json")
	if docs != "" {
		if err := s.figures.read(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	err = s.measure()
	scaleTables(w, &s.figures)
	if docs == "" {
		return err
	}
	return errors.Join(err, s.figures.write(file), document(docs, &s.figures)) // what was measured before an error was measured
}

// write keeps the figures in a file.
func (f *scaleFigures) write(file string) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// read takes the figures of a file.
func (f *scaleFigures) read(file string) error {
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, f)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func parseScale(ctx context.Context, args []string) (s *scaling, docs string, err error) {
	fs := flag.NewFlagSet("scale", flag.ContinueOnError)
	s = &scaling{ctx: ctx, figures: scaleFigures{Taken: map[string]string{}}}
	where(fs, &s.program, &s.dir, "it takes six times the data")
	fs.StringVar(&docs, "docs", "", "directory whose SCALE.md, scale.svg and results/scale.json take the figures; empty: they are only printed")
	fs.DurationVar(&s.rest, "rest", 20*time.Second, "how long agents are watched while they are idle")
	parts := fs.String("parts", strings.Join(allParts(), ","), "those to measure; none: only writes the documents again")
	agents := fs.String("agents", "3,6,12", "numbers of agents")
	volumes := fs.String("volumes", "1,10,100,500", "numbers of attached volumes")
	sizes := fs.String("sizes", "1Gi,64Gi,1Ti,16Ti", "sizes of volumes")
	data := fs.String("data", "1Gi", "what a volume of any size holds; 64 MiB of single pages all over it come to that")
	if err := fs.Parse(args); err != nil {
		return nil, "", err
	}
	if *parts != "none" {
		s.parts = words(*parts)
	}
	for _, p := range s.parts {
		if !slices.Contains(allParts(), p) {
			return nil, "", fmt.Errorf("part %q: there are %s", p, strings.Join(allParts(), ", "))
		}
	}
	number := func(text string) (int64, error) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 || n > 4000 {
			return 0, fmt.Errorf("%q is no number from 1 to 4000", text)
		}
		return n, nil
	}
	for _, list := range []struct {
		text  string
		to    *[]int64
		parse func(string) (int64, error)
	}{{*agents, &s.agents, number}, {*volumes, &s.volumes, number}, {*sizes, &s.sizes, parseSize}} {
		for _, text := range words(list.text) {
			n, err := list.parse(text)
			if err != nil {
				return nil, "", err
			}
			*list.to = append(*list.to, n)
		}
	}
	if len(s.agents) > 0 && slices.Min(s.agents) < 3 {
		return nil, "", errors.New("a volume has three copies: there are at least 3 agents")
	}
	s.data, err = parseSize(*data)
	return s, docs, err
}

// measure measures the parts that were asked for.
func (s *scaling) measure() (err error) {
	taken := time.Now().Format("2 January 2006") + ", commit " + commit()
	for _, part := range s.parts {
		s.figures.Taken[part] = taken
		switch f := &s.figures; part {
		case "agents":
			f.Agents, err = each(f.Agents, s.agents, s.agentsOf, func(r agentsRow) int64 { return int64(r.Agents) })
		case "volumes":
			f.Volumes, err = each(f.Volumes, s.volumes, s.volumesOf, func(r volumesRow) int64 { return int64(r.Volumes) })
		case "sizes":
			f.Sizes, err = each(f.Sizes, s.sizes, s.sizesOf, func(r sizesRow) int64 { return r.Size })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// each measures a row for each number, in place of the one that there was.
func each[R any](rows []R, list []int64, measure func(n int64) (R, error), number func(R) int64) ([]R, error) {
	for _, n := range list {
		begin := time.Now()
		r, err := measure(n)
		if err != nil {
			return rows, err
		}
		fmt.Fprintf(os.Stderr, "%+v, in %s\n", r, time.Since(begin).Round(time.Second))
		i, there := slices.BinarySearchFunc(rows, n, func(r R, n int64) int { return cmp.Compare(number(r), n) })
		if there {
			rows[i] = r
		} else {
			rows = slices.Insert(rows, i, r)
		}
	}
	return rows, nil
}

// commit is that of the source.
func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
