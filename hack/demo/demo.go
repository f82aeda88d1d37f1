package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// demo is one run of the story.
type demo struct {
	ctx     context.Context
	program string
	source  string
	dir     string // all that is made lies below it
	net     string // the network
	mount   string // where the volume's file system is mounted
	made    bool   // dir was made here
	start   time.Time
	steps   []step
	want    tree // what the volume must hold
}

// newDemo checks what the machine must have.
func newDemo(ctx context.Context, program, source, dir string) (*demo, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("mounting needs root: run it with sudo")
	}
	for _, tool := range []string{"mkfs.ext4", "e2fsck", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%w; apt-get install e2fsprogs mount", err)
		}
	}
	program, err := filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%w; \"make build\" makes it", err)
	}
	if source == "" {
		root, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			return nil, fmt.Errorf("ask the Go toolchain where its source is: %w; name a tree with -source", err)
		}
		source = filepath.Join(strings.TrimSpace(string(root)), "src")
	}
	if st, err := os.Stat(source); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("there is no source tree %s; name one with -source", source)
	}
	d := &demo{ctx: ctx, program: program, source: source, dir: dir, start: time.Now()}
	if dir == "" {
		if d.dir, err = os.MkdirTemp("/var/tmp", "mynetwork-demo-"); err != nil {
			return nil, err
		}
		d.made = true
	} else if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return nil, fmt.Errorf("%s is not empty", dir)
	}
	d.net, d.mount = filepath.Join(d.dir, "net"), filepath.Join(d.dir, "mnt")
	return d, os.MkdirAll(d.mount, 0o700)
}

// do runs one step and notes it. f returns what the report says of it.
func (d *demo) do(name string, f func() (string, error)) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	fmt.Printf("%6.1f  %s\n", time.Since(d.start).Seconds(), name)
	begin := time.Now()
	note, err := f()
	d.steps = append(d.steps, step{name, time.Since(begin), note, err})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if note != "" {
		fmt.Printf("        %s\n", note)
	}
	return nil
}

// commandError is a command that did not end with code 0.
type commandError struct {
	args []string
	code int
	text string
}

func (e *commandError) Error() string {
	return fmt.Sprintf("%s: code %d: %s", strings.Join(e.args, " "), e.code, e.text)
}

// exec runs a command to its end, also when the demo is interrupted: half a mount is worse than a late end.
func (d *demo) exec(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for the demo, which cleans up with these
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s %s: did not end within two minutes: %s", name, strings.Join(args, " "), errOut.String())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.String(), &commandError{append([]string{filepath.Base(name)}, args...), exit.ExitCode(), strings.TrimSpace(errOut.String() + " " + out.String())}
	}
	return strings.TrimSpace(out.String()), err
}

// my runs mynetwork on the demo's network.
func (d *demo) my(args ...string) (string, error) {
	return d.exec(d.program, append(args, "--dir", d.net)...)
}

// codeOf is the exit code of a command that failed; 0 if it did not, -1 if it did not run.
func codeOf(err error) int {
	var c *commandError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &c):
		return c.code
	}
	return -1
}

// cleanup removes everything that the demo made.
func (d *demo) cleanup() error {
	var errs []error
	if mounted(d.mount) {
		if _, err := d.exec("umount", d.mount); err != nil {
			if _, err := d.exec("umount", "-l", d.mount); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(d.net, "network.json")); err == nil {
		if _, err := d.my("dev", "down", "--wipe", "--yes"); err != nil {
			if _, err := d.my("dev", "down", "--wipe", "--yes", "--force"); err != nil {
				return errors.Join(append(errs, err)...) // keep the directory: processes may live in it
			}
		}
	}
	errs = append(errs, os.Remove(d.mount))
	if d.made {
		errs = append(errs, os.Remove(d.dir)) // empty by now, or something is left that a person should see
	}
	return errors.Join(errs...)
}

func mounted(dir string) bool {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == dir {
			return true
		}
	}
	return false
}
