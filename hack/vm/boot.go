package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"mynetwork.io/mynetwork/hack/vm/plan"
)

// boot runs the machine until it turns itself off, shows its console, and judges it.
func boot(ctx context.Context, k kernel, image string, p plan.Plan, o options) error {
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", strconv.Itoa(o.memory), "-smp", strconv.Itoa(o.cpus),
		"-nodefaults", "-vga", "none", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", k.image, "-initrd", image,
		"-append", "console=ttyS0 panic=-1 oops=panic quiet nokaslr mitigations=off audit=0 nmi_watchdog=0 tsc=reliable no_timer_check")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = judge(io.TeeReader(out, os.Stdout), p)
	if e := cmd.Wait(); e != nil {
		err = errors.Join(err, fmt.Errorf("the machine was ended: %w", e))
	}
	if e := ctx.Err(); e != nil {
		err = errors.Join(err, fmt.Errorf("after %s: %w", o.limit, e))
	}
	return err
}

// judge reads the console and says what is wrong with what it shows: every program has to end well, and to have run tests, all of them.
func judge(console io.Reader, p plan.Plan) error {
	var wrong []string
	ended, ran := map[string]bool{}, map[string]int{}
	current, done := "", false
	s := bufio.NewScanner(console)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := strings.TrimRight(s.Text(), "\r")
		switch trimmed := strings.TrimSpace(line); {
		case strings.HasPrefix(line, plan.Begins):
			current = strings.TrimSpace(strings.TrimPrefix(line, plan.Begins))
		case strings.HasPrefix(line, plan.Ended):
			name, code, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, plan.Ended)), " ")
			ended[name] = true
			if code != "0" {
				wrong = append(wrong, name+" failed")
			}
		case strings.HasPrefix(line, plan.Done):
			done = true
		case strings.HasPrefix(line, plan.Failed):
			wrong = append(wrong, line)
		case strings.HasPrefix(trimmed, "--- PASS"):
			ran[current]++
		case strings.HasPrefix(trimmed, "--- SKIP"):
			wrong = append(wrong, current+" skipped a test: "+trimmed)
		case strings.HasPrefix(line, "[") && (strings.Contains(line, "BUG:") || strings.Contains(line, "Oops:") || strings.Contains(line, "WARNING: ")):
			wrong = append(wrong, "the kernel complained: "+trimmed)
		}
	}
	for _, c := range p.Programs {
		if !ended[c.Name] {
			wrong = append(wrong, c.Name+" did not run to its end")
		}
		if ran[c.Name] == 0 {
			wrong = append(wrong, c.Name+" passed no test")
		}
	}
	if !done {
		wrong = append(wrong, "the machine did not come to the end of its plan")
	}
	if err := s.Err(); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return errors.New("in the machine:\n  " + strings.Join(wrong, "\n  "))
	}
	fmt.Printf("vm: %v passed\n", ran)
	return nil
}
