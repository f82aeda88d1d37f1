package show

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"sigs.k8s.io/yaml"
)

// Format is how results are written.
type Format string

// Formats.
const (
	Table Format = "table"
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// ErrFormat tells of a format that is not there.
var ErrFormat = errors.New("unknown output format; there are table, json and yaml")

// Set reads the flag; Format is a flag's value.
func (f *Format) Set(s string) error {
	switch Format(s) {
	case Table, JSON, YAML:
		*f = Format(s)
		return nil
	case "":
		*f = Table
		return nil
	}
	return fmt.Errorf("%q: %w", s, ErrFormat)
}

// String is the format's name.
func (f *Format) String() string { return string(*f) }

// Type names the flag's kind in the help.
func (f *Format) Type() string { return "format" }

// Printer writes results.
type Printer struct {
	Out    io.Writer
	Format Format
}

// Rows is a table. An empty Head prints rows alone.
type Rows struct {
	Head []string
	Rows [][]string
}

// Add appends a row.
func (r *Rows) Add(cells ...string) { r.Rows = append(r.Rows, cells) }

// Print writes v as JSON or YAML, or what table makes of it.
func (p *Printer) Print(v any, table func(*Rows)) error {
	switch p.Format {
	case JSON:
		enc := json.NewEncoder(p.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case YAML:
		b, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = p.Out.Write(b)
		return err
	}
	var r Rows
	table(&r)
	return r.write(p.Out)
}

// Say writes a line that only a person reads.
func (p *Printer) Say(format string, args ...any) {
	if p.Format == Table || p.Format == "" {
		fmt.Fprintf(p.Out, format+"\n", args...)
	}
}

func (r *Rows) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if len(r.Head) > 0 {
		fmt.Fprintln(w, strings.Join(r.Head, "\t"))
	}
	for _, row := range r.Rows {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = plain(c)
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	return w.Flush()
}

// plain takes from a cell what would move a terminal's cursor or break the table; an empty cell is a dash.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if strings.TrimSpace(s) == "" {
		return "-"
	}
	return s
}
