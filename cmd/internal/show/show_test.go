package show

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type thing struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

func TestPrint(t *testing.T) {
	rows := func(r *Rows) {
		r.Head = []string{"NAME", "SIZE", "NOTE"}
		r.Add("a", "4 KiB", "")
		r.Add("longer\x1b[2J\n", "1 GiB", "x")
	}
	for format, want := range map[Format]string{
		Table: "NAME         SIZE   NOTE\na            4 KiB  -\nlonger [2J   1 GiB  x\n",
		JSON:  "{\n  \"name\": \"a\",\n  \"size\": 4096\n}\n",
		YAML:  "name: a\nsize: 4096\n",
	} {
		var b bytes.Buffer
		p := Printer{Out: &b, Format: format}
		if err := p.Print(thing{"a", 4096}, rows); err != nil {
			t.Fatal(err)
		}
		p.Say("for %s", "people")
		if format == Table {
			want += "for people\n"
		}
		if b.String() != want {
			t.Errorf("%s:\n%q, want\n%q", format, b.String(), want)
		}
	}
	var f Format
	if err := f.Set("xml"); !errors.Is(err, ErrFormat) {
		t.Errorf("xml: %v", err)
	}
}

func TestMeterShowsRateAndTimeLeft(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(0, 0)
	m := newMeter(&b, func() time.Time { return now })
	now = now.Add(2 * time.Second)
	m.Update("scrub", 2<<20, 10<<20, 0)
	if got := b.String(); got != "\rscrub  2 MiB of 10 MiB  20%  1 MiB/s  8s left" {
		t.Errorf("%q", got)
	}
	b.Reset()
	now = now.Add(redraw / 2)
	m.Update("scrub", 3<<20, 10<<20, 0)
	if b.Len() != 0 {
		t.Errorf("drawn again after half the pause: %q", b.String())
	}
	m.Clear()
	if got := b.String(); !strings.HasSuffix(got, "\r") || strings.TrimSpace(got) != "" {
		t.Errorf("cleared with %q", got)
	}
}

func TestMeterIsSilentWithoutTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := NewMeter(f)
	m.Update("scrub", 1, 2, 3)
	m.Clear()
	if st, err := f.Stat(); err != nil || st.Size() != 0 {
		t.Errorf("%d bytes written to a file", st.Size())
	}
}
