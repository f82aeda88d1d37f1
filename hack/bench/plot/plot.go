// Package plot draws small line charts side by side as one SVG, for documents: no dependency, no font, no script. Drawing the same
// figures gives the same bytes.
package plot

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strings"
)

// Point is one measurement.
type Point struct {
	X float64 // > 0: the axis is logarithmic
	Y float64 // >= 0: the axis begins at 0
}

// Line is a row of points, by ascending X. A line that is an Aim is drawn with dashes.
type Line struct {
	Name   string
	Points []Point
	Aim    bool
}

// Chart is one diagram.
type Chart struct {
	Title string
	X     string               // what X is
	Ticks func(float64) string // names a value of X; nil writes the number
	Lines []Line
}

// Size of a chart, and of the part of it that has the lines, in pixels.
const (
	width, height            = 430, 270
	left, right, top, bottom = 58, 26, 34, 42
	columns                  = 2
)

// colours are told apart by people who see few, too.
func colours() []string { return []string{"#0b62a4", "#c2410c", "#15803d", "#7c3aed"} }

// Draw writes the charts, two in a row.
func Draw(w io.Writer, charts []Chart) error {
	rows := (len(charts) + columns - 1) / columns
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n",
		columns*width, rows*height, columns*width, rows*height)
	fmt.Fprint(&b, `<rect width="100%" height="100%" fill="#ffffff"/>`+"\n")
	for i := range charts {
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", i%columns*width, i/columns*height)
		if err := charts[i].draw(&b); err != nil {
			return fmt.Errorf("chart %q: %w", charts[i].Title, err)
		}
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	_, err := w.Write(b.Bytes())
	return err
}

// draw writes one chart at the origin.
func (c *Chart) draw(b *bytes.Buffer) error {
	var xs []float64
	most := 0.0
	for _, l := range c.Lines {
		for _, p := range l.Points {
			if !(p.X > 0) || !(p.Y >= 0) || math.IsInf(p.X, 0) || math.IsInf(p.Y, 0) {
				return fmt.Errorf("%s has the point %v", l.Name, p)
			}
			xs = append(xs, p.X)
			most = max(most, p.Y)
		}
	}
	if len(xs) == 0 {
		return fmt.Errorf("there is nothing to draw")
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	step := niceStep(most)
	end := max(math.Ceil(most/step), 1) * step
	x := func(v float64) float64 {
		if len(xs) == 1 {
			return (left + width - right) / 2
		}
		return left + (width-left-right)*math.Log(v/xs[0])/math.Log(xs[len(xs)-1]/xs[0])
	}
	y := func(v float64) float64 { return height - bottom - (height-top-bottom)*v/end }
	fmt.Fprintf(b, `<text x="%d" y="16" font-size="13" font-weight="bold">%s</text>`+"\n", left, html.EscapeString(c.Title))
	for i := range int(math.Round(end/step)) + 1 {
		v := float64(i) * step
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#dddddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, width-right, y(v), y(v), left-6, y(v)+4, number(v))
	}
	for _, v := range xs {
		name := number(v)
		if c.Ticks != nil {
			name = c.Ticks(v)
		}
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(v), height-bottom+15, html.EscapeString(name))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle" fill="#444444">%s</text>`+"\n", (left+width-right)/2, height-bottom+31, html.EscapeString(c.X))
	at := left + 4
	for i, l := range c.Lines {
		colour, dash := colours()[i%len(colours())], ""
		if l.Aim {
			colour, dash = "#777777", ` stroke-dasharray="5 4"`
		}
		l.draw(b, x, y, colour, dash)
		fmt.Fprintf(b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", at, top-6, colour, html.EscapeString(l.Name))
		at += 6*len([]rune(l.Name)) + 12
	}
	return nil
}

func (l *Line) draw(b *bytes.Buffer, x, y func(float64) float64, colour, dash string) {
	var path []string
	for _, p := range l.Points {
		path = append(path, fmt.Sprintf("%.1f,%.1f", x(p.X), y(p.Y)))
		if !l.Aim {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(p.X), y(p.Y), colour)
		}
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.6"%s/>`+"\n", strings.Join(path, " "), colour, dash)
}

// niceStep is 1, 2 or 5 times a power of ten, so that three to seven of it reach most.
func niceStep(most float64) float64 {
	if most <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(most)))
	for _, f := range []float64{.2, .5, 1, 2, 5} {
		if most/(f*power) <= 6 {
			return f * power
		}
	}
	return 10 * power
}

// number writes a value as short as it can be.
func number(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", v), "0"), ".")
}
