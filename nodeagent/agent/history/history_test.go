package history

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func open(t *testing.T, path string, c *clock) *History {
	t.Helper()
	h, err := Open(path, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestRestart: what was saved is there again; what was not is lost; a file that is no history begins anew.
func TestRestart(t *testing.T) {
	c := &clock{time.Unix(1_700_000_000, 0)}
	path := filepath.Join(t.TempDir(), "history")
	h := open(t, path, c)
	h.Copied(1<<20, 2*time.Second, false)
	h.Copied(7, time.Second, true)
	h.Event("NodeLost")
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	h.Event("Lost")
	h = open(t, path, c)
	s := h.Since(time.Time{})
	if len(s) != 1 || s[0].Copies != 1 || s[0].Failed != 1 || s[0].Bytes != 1<<20 || s[0].Nanos != 2e9 || s[0].Events["NodeLost"] != 1 || s[0].Events["Lost"] != 0 {
		t.Errorf("%+v", s)
	}
	for _, text := range []string{"{", `{"format":99,"slots":[{"start":1}]}`, ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s := open(t, path, c).Since(time.Time{}); len(s) != 0 {
			t.Errorf("%q: %+v", text, s)
		}
	}
}

// TestOld: a day later all is gone, and also when the clock had been wrong.
func TestOld(t *testing.T) {
	c := &clock{time.Unix(1_700_000_000, 0)}
	h := open(t, filepath.Join(t.TempDir(), "history"), c)
	h.Event("A")
	c.at = c.at.Add(Width)
	h.Event("B")
	if s := h.Since(c.at.Add(-Width)); len(s) != 1 && len(s) != 2 {
		t.Errorf("%+v", s)
	}
	c.at = c.at.Add((Slots - 1) * Width)
	if s := h.Since(time.Time{}); len(s) != 1 || s[0].Events["B"] != 1 {
		t.Errorf("a day later: %+v", s)
	}
	future := c.at.Add(1000 * time.Hour)
	now := c.at
	c.at = future
	h.Event("F")
	c.at = now
	h.Event("C")
	if s := h.Since(time.Time{}); len(s) != 2 || s[1].Events["C"] != 1 {
		t.Errorf("after a wrong clock: %+v", s)
	}
}

// TestBounded: the file's size does not depend on what happens.
func TestBounded(t *testing.T) {
	c := &clock{time.Unix(1_700_000_000, 0)}
	path := filepath.Join(t.TempDir(), "history")
	h := open(t, path, c)
	for range 3 * Slots {
		for i := range 100 {
			h.Event(fmt.Sprintf("Reason%0*d", maxReason-6, i))
			h.Copied(1<<40, time.Hour, i%2 == 0)
		}
		c.at = c.at.Add(Width)
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Size() > MaxBytes {
		t.Errorf("%d bytes, %v", st.Size(), err)
	}
	if s := open(t, path, c).Since(time.Time{}); len(s) < Slots-1 || s[0].Events[Other] != 100-MaxReasons {
		t.Errorf("%d slots, first %+v", len(s), s[0])
	}
}
