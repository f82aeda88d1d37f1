// Package command runs programs for those that try a network of this machine out: torture and thrash.
//
// # Invariants
//
//  1. What runs sees no settings of the caller's: no variable MYNETWORK_*, no configuration file. (TestRun)
//  2. It runs to its end or its limit, also when the caller is interrupted: what is to be cleaned up is known then.
//
// # Concurrency
//
// Run is safe for concurrent use.
package command

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Output is how a command ended.
type Output struct {
	Args           []string // the program's base name first
	Stdout, Stderr string
	Code           int // -1: it did not start, or was killed
}

// Err is nil for code 0.
func (o Output) Err() error {
	if o.Code == 0 {
		return nil
	}
	return fmt.Errorf("%s: code %d: %s", strings.Join(o.Args, " "), o.Code, strings.TrimSpace(o.Stderr+o.Stdout))
}

// Run runs a command in a directory ("" is the caller's), for as long as limit at most. The end of ctx does not end it.
func Run(ctx context.Context, dir string, limit time.Duration, name string, args ...string) Output {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for the caller
	cmd.WaitDelay = 5 * time.Second
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MYNETWORK_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "MYNETWORK_CONFIG="+os.DevNull)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	o := Output{append([]string{filepath.Base(name)}, args...), out.String(), errOut.String(), 0}
	if err != nil {
		o.Code = cmd.ProcessState.ExitCode()
		if o.Code <= 0 {
			o.Code, o.Stderr = -1, o.Stderr+err.Error()
		}
		if ctx.Err() != nil {
			o.Stderr += fmt.Sprintf(" (ended after %v)", limit)
		}
	}
	return o
}
