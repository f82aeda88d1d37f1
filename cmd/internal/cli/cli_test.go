package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/cmd/internal/devnet"
	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/cmd/internal/show"
)

func TestExitCodes(t *testing.T) {
	for code, errs := range map[int][]error{
		ExitOK:          {nil},
		ExitFailure:     {errors.New("x"), control.Say(status.Error(codes.Internal, "x"))},
		ExitUsage:       {usage("x"), settings.ErrFile, control.Say(status.Error(codes.InvalidArgument, "x"))},
		ExitUnhealthy:   {ErrUnhealthy, control.Say(status.Error(codes.DataLoss, "x"))},
		ExitNotFound:    {devnet.ErrNone, devnet.ErrNode, control.Say(status.Error(codes.NotFound, "x"))},
		ExitRefused:     {control.Say(status.Error(codes.FailedPrecondition, "x")), control.Say(status.Error(codes.AlreadyExists, "x"))},
		ExitUnavailable: {control.ErrNoAgent, control.Say(status.Error(codes.Unavailable, "x")), control.Say(status.Error(codes.Aborted, "x"))},
		ExitNoSpace:     {control.Say(status.Error(codes.ResourceExhausted, "x"))},
		ExitInterrupted: {context.Canceled, control.Say(status.Error(codes.Canceled, "x"))},
	} {
		for _, err := range errs {
			if err != nil {
				err = fmt.Errorf("do something: %w", err)
			}
			if got := Exit(err); got != code {
				t.Errorf("%v: %d, want %d", err, got, code)
			}
			if code < ExitInterrupted && !strings.Contains(exitHelp, fmt.Sprintf("\n    %d ", code)) {
				t.Errorf("code %d is not documented", code)
			}
		}
	}
	if err := control.Say(status.Error(codes.NotFound, "volume x: not found")); err.Error() != "volume x: not found" {
		t.Errorf("a person reads %q", err)
	}
}

// TestVersionFlag: who asks a program for its version asks with the flag.
func TestVersionFlag(t *testing.T) {
	for _, root := range []*cobra.Command{Mynetwork("1.2.3"), Kubectl("1.2.3")} {
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs([]string{"--version"})
		if err := root.Execute(); err != nil || out.String() != "mynetwork 1.2.3\n" {
			t.Errorf("%s --version: %v, %q", root.Name(), err, out.String())
		}
	}
}

// TestEveryCommandIsDocumented walks both programs.
func TestEveryCommandIsDocumented(t *testing.T) {
	root, plugin := Mynetwork("test"), Kubectl("test")
	for _, path := range []string{
		"agent", "holder", "operator", "operator uninstall-check", "dev up", "dev down", "dev status", "volume create", "volume list", "volume inspect", "volume attach", "volume detach",
		"volume resize", "volume snapshot", "volume clone", "volume rollback", "volume delete", "volume scrub", "volume tails", "volume modify", "volume orphans", "volume adopt", "node list", "node kill", "node start", "fsck", "version",
	} {
		c, _, err := root.Find(strings.Fields(path))
		if err != nil || c.CommandPath() != "mynetwork "+path || c.Short == "" || !c.Runnable() {
			t.Errorf("%s: %v, found %q", path, err, c.CommandPath())
		}
	}
	for _, path := range []string{"volume attach", "node list", "fsck", "version"} {
		if c, _, err := plugin.Find(strings.Fields(path)); err != nil || !strings.HasPrefix(c.CommandPath(), "kubectl mynetwork ") {
			t.Errorf("kubectl-mynetwork %s: %v", path, err)
		}
	}
	for _, path := range []string{"agent", "operator", "dev"} {
		if c, _, err := plugin.Find([]string{path}); err == nil && c != plugin {
			t.Errorf("the plug-in has the server's command %s", path)
		}
	}
	for _, k := range settings.Keys() {
		if !strings.Contains(configurationHelp(), k.Variable()) {
			t.Errorf("%s is not in the help", k.Variable())
		}
	}
}

func TestCompletionWithoutNetwork(t *testing.T) {
	root := Mynetwork("test")
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(io.Discard)
	root.SetArgs([]string{"__complete", "volume", "inspect", "--dir", t.TempDir(), ""})
	if err := root.Execute(); err != nil || strings.TrimSpace(out.String()) != ":4" { // 4: no file names
		t.Errorf("%q, %v", out.String(), err)
	}
}

// played is a check that an agent plays.
type played []any

func (p *played) Recv() (*agentv1.Progress, error) {
	if len(*p) == 0 {
		return nil, io.EOF
	}
	next := (*p)[0]
	*p = (*p)[1:]
	if err, ok := next.(error); ok {
		return nil, err
	}
	return next.(*agentv1.Progress), nil
}

func TestChecksEndWithTheRightCode(t *testing.T) {
	bad := &agentv1.Finding{Kind: "leaf", Volume: "v", Node: "n3", Offset: 4096, Length: 4096, Problem: "wrong hash"}
	part := &agentv1.Progress{Stage: "scrub", Bytes: 1, Total: 2, Findings: []*agentv1.Finding{bad}, Errors: 1}
	for name, c := range map[string]struct {
		stream played
		code   int
		says   string
	}{
		"clean":     {played{&agentv1.Progress{Bytes: 2, Done: true}}, ExitOK, "0 errors"},
		"repaired":  {played{part, &agentv1.Progress{Bytes: 2, Errors: 1, Repaired: 1, Done: true}}, ExitOK, "1 repaired"},
		"left":      {played{part, &agentv1.Progress{Bytes: 2, Errors: 1, Done: true}}, ExitUnhealthy, "wrong hash"},
		"cut":       {played{part}, ExitFailure, ""},
		"broken":    {played{status.Error(codes.Unavailable, "no quorum")}, ExitUnavailable, ""},
		"data loss": {played{status.Error(codes.DataLoss, "lost")}, ExitUnhealthy, ""},
	} {
		var out bytes.Buffer
		a := newApp("test")
		a.out, a.print = &out, show.Printer{Out: &out, Format: show.Table}
		result, err := a.follow(&c.stream)
		if err == nil {
			err = a.conclude("scrub", result)
		}
		if Exit(err) != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: code %d (%v), want %d\n%s", name, Exit(err), err, c.code, out.String())
		}
	}
}
