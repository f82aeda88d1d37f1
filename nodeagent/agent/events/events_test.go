package events

import (
	"context"
	"errors"
	"log/slog"
	"testing"
)

func TestRing(t *testing.T) {
	l := New(4, slog.New(slog.DiscardHandler))
	for i := range 10 {
		l.Info("Counted", "v", "event %d", i)
	}
	got, _ := l.Since(0)
	if len(got) != 4 || got[0].Number != 7 || got[3].Message != "event 9" {
		t.Fatalf("%+v", got)
	}
	if got, _ := l.Since(10); len(got) != 1 || got[0].Number != 10 {
		t.Fatalf("%+v", got)
	}
}

func TestFollow(t *testing.T) {
	l := New(4, slog.New(slog.DiscardHandler))
	l.Info("A", "", "first")
	stop := errors.New("stop")
	n := uint64(0)
	err := l.Follow(context.Background(), 1, func(e Event) error {
		if n++; e.Number != n {
			t.Errorf("event %d after %d", e.Number, n-1)
		}
		if n == 3 {
			return stop
		}
		l.Warn("B", "", "another")
		return nil
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
}
