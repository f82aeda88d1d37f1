package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"mynetwork.io/mynetwork/hack/bench/plot"
)

// Lines of SCALE.md between which the tables are; all else in it is written by hand.
const (
	tablesBegin = "<!-- Written by \"bench scale\": begin -->\n"
	tablesEnd   = "<!-- Written by \"bench scale\": end -->\n"
)

// document writes the tables into SCALE.md, and the plot beside it.
func document(dir string, f *scaleFigures) error {
	name := filepath.Join(dir, "SCALE.md")
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var tables bytes.Buffer
	scaleTables(&tables, f)
	if text, err = between(text, tables.Bytes()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var drawing bytes.Buffer
	if err := plot.Draw(&drawing, charts(f)); err != nil {
		return err
	}
	if err := os.WriteFile(name, text, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "scale.svg"), drawing.Bytes(), 0o644)
}

// between replaces what is between the two lines.
func between(text, tables []byte) ([]byte, error) {
	head, rest, ok1 := bytes.Cut(text, []byte(tablesBegin))
	_, tail, ok2 := bytes.Cut(rest, []byte(tablesEnd))
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("it has no lines %q and %q", tablesBegin, tablesEnd)
	}
	return bytes.Join([][]byte{head, []byte(tablesBegin), tables, []byte(tablesEnd), tail}, nil), nil
}

// scaleTables writes the figures as tables.
func scaleTables(w io.Writer, f *scaleFigures) {
	if len(f.Agents) > 0 {
		fmt.Fprintf(w, "\n%s:\n\n| agents, one volume attached | idle: first agent, RSS MiB | CPU %% of a core | others, the most of them: RSS MiB | CPU %% | mean of all: CPU %% | 4 KiB writes, depth 32: IOPS | CPU µs | 4 KiB and a flush: p50 µs | p99 |\n|---|---|---|---|---|---|---|---|---|---|\n", f.Taken["agents"])
		for _, r := range f.Agents {
			fmt.Fprintf(w, "| %d | %.1f | %.2f | %.1f | %.2f | %.2f | %s |\n", r.Agents, r.First.RSS, r.First.CPU, r.Others.RSS, r.Others.CPU, r.Mean.CPU, r.cells())
		}
	}
	if len(f.Volumes) > 0 {
		fmt.Fprintf(w, "\n%s:\n\n| attached volumes, three agents | attach ms: mean | p99 | detach ms: mean | idle: first agent, RSS MiB | KiB a volume | CPU %% of a core | others, the most: RSS MiB | KiB a volume | CPU %% | one of them, 4 KiB writes, depth 32: IOPS | CPU µs | 4 KiB and a flush: p50 µs | p99 |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n", f.Taken["volumes"])
		base := f.Volumes[0]
		for _, r := range f.Volumes {
			fmt.Fprintf(w, "| %d | %.1f | %.1f | %.1f | %.1f | %s | %.2f | %.1f | %s | %.2f | %s |\n", r.Volumes, r.AttachMean, r.AttachP99, r.DetachMean,
				r.First.RSS, each1(base.First.RSS, r.First.RSS, r.Volumes-base.Volumes), r.First.CPU,
				r.Others.RSS, each1(base.Others.RSS, r.Others.RSS, r.Volumes-base.Volumes), r.Others.CPU, r.cells())
		}
	}
	if len(f.Sizes) > 0 {
		fmt.Fprintf(w, "\n%s:\n\n| size, holding | attach to the first byte, ms: empty | holding data, after a detach | after a crash | snapshot ms | clone ms: of what was written just now | its first byte, at once | another clone | RSS MiB after the load: first agent | others | 4 KiB reads, depth 1: p50 µs | p99 | 4 KiB writes, depth 32: IOPS | CPU µs | 4 KiB and a flush: p50 µs | p99 |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n", f.Taken["sizes"])
		for _, r := range f.Sizes {
			fmt.Fprintf(w, "| %s, %s | %.0f | %.0f | %.0f | %.1f | %.1f | %.0f | %.1f | %.0f | %.0f | %.0f | %.0f | %s |\n", binary(float64(r.Size)), binary(float64(r.Data)), r.AttachEmpty, r.AttachClean,
				r.AttachCrash, r.Snapshot, r.Clone, r.CloneOpen, r.CloneAgain, r.First, r.Others, r.ReadP50, r.ReadP99, r.cells())
		}
	}
	fmt.Fprintln(w)
}

func (s speeds) cells() string {
	return fmt.Sprintf("%s | %.0f | %.0f | %.0f", thousands(s.IOPS), s.CPU, s.SyncP50, s.SyncP99)
}

// each1 is what one of n more takes, in KiB, of MiB.
func each1(before, after float64, n int) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatFloat((after-before)*1024/float64(n), 'f', 0, 64)
}

// binary writes a number of bytes in its largest unit.
func binary(v float64) string {
	for _, unit := range []string{"", " KiB", " MiB", " GiB"} {
		if v < 1024 {
			return strconv.FormatFloat(v, 'f', -1, 64) + unit
		}
		v /= 1024
	}
	return strconv.FormatFloat(v, 'f', -1, 64) + " TiB"
}

// charts are the plot; of what was not measured there is none.
func charts(f *scaleFigures) (list []plot.Chart) {
	if rows := f.Agents; len(rows) > 0 {
		at := func(r agentsRow) float64 { return float64(r.Agents) }
		level := func(v float64) func(agentsRow) float64 { return func(agentsRow) float64 { return v } }
		list = append(list,
			plot.Chart{Title: "Idle agent: CPU, % of a core", X: "agents", Lines: []plot.Line{
				line("first", rows, at, func(r agentsRow) float64 { return r.First.CPU }), line("others, the most", rows, at, func(r agentsRow) float64 { return r.Others.CPU }), aim(line("aim", rows, at, level(.5)))}},
			plot.Chart{Title: "Idle agent: memory, MiB", X: "agents", Lines: []plot.Line{
				line("first", rows, at, func(r agentsRow) float64 { return r.First.RSS }), line("others, the most", rows, at, func(r agentsRow) float64 { return r.Others.RSS }), aim(line("aim", rows, at, level(60)))}})
	}
	if rows := f.Volumes; len(rows) > 0 {
		at := func(r volumesRow) float64 { return float64(r.Volumes) }
		list = append(list,
			plot.Chart{Title: "Attached, idle: memory, MiB", X: "volumes", Lines: []plot.Line{
				line("first", rows, at, func(r volumesRow) float64 { return r.First.RSS }), line("others", rows, at, func(r volumesRow) float64 { return r.Others.RSS }),
				aim(line("aim: 60 and 1 a volume", rows, at, func(r volumesRow) float64 { return 60 + float64(r.Volumes) }))}},
			plot.Chart{Title: "Attached, idle: CPU, % of a core", X: "volumes", Lines: []plot.Line{
				line("first", rows, at, func(r volumesRow) float64 { return r.First.CPU }), line("others", rows, at, func(r volumesRow) float64 { return r.Others.CPU })}},
			plot.Chart{Title: "Attach, to the first byte, ms", X: "volumes that are attached in the end", Lines: []plot.Line{
				line("mean", rows, at, func(r volumesRow) float64 { return r.AttachMean }), line("p99", rows, at, func(r volumesRow) float64 { return r.AttachP99 })}},
			plot.Chart{Title: "4 KiB on one of them, µs", X: "volumes", Lines: []plot.Line{
				line("write and flush, p50", rows, at, func(r volumesRow) float64 { return r.SyncP50 }), line("CPU of a write, depth 32", rows, at, func(r volumesRow) float64 { return r.CPU })}})
	}
	if rows := f.Sizes; len(rows) > 0 {
		at := func(r sizesRow) float64 { return float64(r.Size) }
		list = append(list,
			plot.Chart{Title: "Attach, to the first byte, ms", X: "size, thin", Ticks: binary, Lines: []plot.Line{
				line("empty", rows, at, func(r sizesRow) float64 { return r.AttachEmpty }), line("clean", rows, at, func(r sizesRow) float64 { return r.AttachClean }), line("after a crash", rows, at, func(r sizesRow) float64 { return r.AttachCrash })}},
			plot.Chart{Title: "Snapshot and clone, ms", X: "size, thin", Ticks: binary, Lines: []plot.Line{
				line("snapshot", rows, at, func(r sizesRow) float64 { return r.Snapshot }), line("clone, just written", rows, at, func(r sizesRow) float64 { return r.Clone }), line("another clone", rows, at, func(r sizesRow) float64 { return r.CloneAgain }),
				aim(line("aim", rows, at, func(sizesRow) float64 { return 50 }))}},
			plot.Chart{Title: "Memory after scattered writes, MiB", X: "size, thin", Ticks: binary, Lines: []plot.Line{
				line("first", rows, at, func(r sizesRow) float64 { return r.First }), line("others", rows, at, func(r sizesRow) float64 { return r.Others })}},
			plot.Chart{Title: "4 KiB latency, p50, µs", X: "size, thin", Ticks: binary, Lines: []plot.Line{
				line("read", rows, at, func(r sizesRow) float64 { return r.ReadP50 }), line("write and flush", rows, at, func(r sizesRow) float64 { return r.SyncP50 })}})
	}
	return list
}

func line[R any](name string, rows []R, x, y func(R) float64) plot.Line {
	l := plot.Line{Name: name}
	for _, r := range rows {
		l.Points = append(l.Points, plot.Point{X: x(r), Y: y(r)})
	}
	return l
}

func aim(l plot.Line) plot.Line {
	l.Aim = true
	return l
}
