package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// A failure's table line has the program's own words, and its whole error stands once more below the table.
func TestFailureIsReadable(t *testing.T) {
	s := &suite{ctx: context.Background(), start: time.Now()}
	_, err := s.command("sh", "-c", "echo one; echo two; echo cluster: the cause >&2; exit 4")
	if err == nil {
		t.Fatal("no error of a program that failed")
	}
	first, rest, _ := strings.Cut(err.Error(), "\n")
	if !strings.HasSuffix(first, "exit status 4: cluster: the cause") || rest != "after\none\ntwo" {
		t.Errorf("the error is %q", err)
	}
	if _, err := s.command("sh", "-c", "exit 1"); err == nil || !strings.HasSuffix(err.Error(), "exit status 1: it said nothing") {
		t.Errorf("of a silent program: %v", err)
	}
	if out, err := s.command("echo", "fine"); err != nil || out != "fine" {
		t.Errorf("of a program that did not fail: %q, %v", out, err)
	}
	s.lines = []line{{name: "good", result: "held", state: held}, {name: "bad", result: err.Error(), state: broken},
		{name: "away", result: errors.Join(errNotRun, errors.New("why")).Error(), state: notRun}}
	var out strings.Builder
	if failed := s.print(&out); failed != 1 {
		t.Errorf("%d failed, want 1", failed)
	}
	table, below, ok := strings.Cut(out.String(), "1 failed  1 not run\n")
	if !ok || !strings.Contains(table, "cluster: the cause") || strings.Contains(table, "\ntwo") {
		t.Errorf("the table is\n%s", out.String())
	}
	if !strings.HasPrefix(below, "\nFAILED: bad: ") || !strings.HasSuffix(below, "after\none\ntwo\n") || strings.Contains(below, "why") {
		t.Errorf("below the table stands %q", below)
	}
}
