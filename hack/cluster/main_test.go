package main

import (
	"errors"
	"fmt"
	"os/exec"
	"testing"
)

// Only a command that was run for the caller ends this program without a word of its own; a tool that fails on the way has to be told of.
func TestWhoHasSpoken(t *testing.T) {
	var code exitCode
	if err := forCaller(exec.Command("sh", "-c", "exit 7")); !errors.As(err, &code) || code != 7 {
		t.Errorf("a caller's command that ended with 7: %v", err)
	}
	if err := forCaller(exec.Command("/does/not/exist")); err == nil || errors.As(err, &code) {
		t.Errorf("a caller's command that could not be started: %v", err)
	}
	if err := fmt.Errorf("ip link add: %w: RTNETLINK answers: File exists", exec.Command("sh", "-c", "exit 1").Run()); errors.As(err, &code) {
		t.Errorf("a tool's failure would not be told: %v", err)
	}
}
