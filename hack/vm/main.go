// Command vm runs programs, such as tests, in a virtual machine that has the kernel of a Debian suite: for what the kernel of this machine lacks.
// The processor is emulated, so it needs no privilege and no support of the machine's, and is slow.
//
//	vm [flags] NAME=PROGRAM[ ARGUMENT]...
//
// It fails if a program does, if a test program runs no test or skips one, or if the machine does not come up.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"mynetwork.io/mynetwork/hack/vm/plan"
)

type options struct {
	dir, suite, modules, tools string
	memory, cpus               int
	limit                      time.Duration
	init                       string
	env                        []string
	programs                   []string
}

func main() {
	o := options{}
	flag.StringVar(&o.dir, "dir", "/var/tmp/mynetwork-vm", "where kernels are kept between runs")
	flag.StringVar(&o.suite, "suite", "trixie-backports", "Debian suite whose kernel is taken")
	flag.StringVar(&o.modules, "modules", "ublk_drv,nbd,loop,fuse,ext4", "kernel modules that are loaded, with what they depend on")
	flag.StringVar(&o.tools, "tools", "mkfs.ext4,e2fsck,fio", "programs of this machine that are taken along, with their libraries")
	flag.StringVar(&o.init, "init", "", "the machine's first process: hack/vm/init, built")
	flag.IntVar(&o.memory, "memory", 1400, "MiB")
	flag.IntVar(&o.cpus, "cpus", 1, "processors")
	flag.DurationVar(&o.limit, "limit", 25*time.Minute, "after which the machine is turned off, and has failed")
	flag.Func("env", "`VARIABLE=value` of the programs; may be repeated", func(v string) error { o.env = append(o.env, v); return nil })
	flag.Parse()
	o.programs = flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if len(o.programs) == 0 || o.init == "" {
		return errors.New("nothing to run: give -init, and NAME=PROGRAM for each program")
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	if err := installed(ctx, "qemu-system-x86_64", "qemu-system-x86"); err != nil {
		return err
	}
	k, err := fetchKernel(ctx, o.dir, o.suite)
	if err != nil {
		return err
	}
	fmt.Printf("vm: kernel %s of %s\n", k.release, o.suite)
	image := filepath.Join(o.dir, fmt.Sprintf("initramfs-%d", os.Getpid()))
	defer os.Remove(image)
	p, err := makeImage(image, k, o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	return boot(ctx, k, image, p, o)
}

// makeImage writes the machine's file system and returns what it will do.
func makeImage(path string, k kernel, o options) (p plan.Plan, err error) {
	a, err := create(path)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.copy("init", o.init); err != nil {
		return p, err
	}
	if p.Modules, err = a.addModules(k, strings.Split(o.modules, ",")); err != nil {
		return p, err
	}
	for _, t := range strings.Split(o.tools, ",") {
		if t == "" {
			continue
		}
		if err := a.addTool(t); err != nil {
			return p, err
		}
	}
	for _, arg := range o.programs {
		words := strings.Fields(arg)
		name, file, ok := strings.Cut(words[0], "=")
		if !ok {
			return p, fmt.Errorf("%q is not NAME=PROGRAM", arg)
		}
		at := "programs/" + name
		if err := a.copy(at, file); err != nil {
			return p, err
		}
		p.Programs = append(p.Programs, plan.Program{Name: name, Path: "/" + at, Args: words[1:], Env: o.env})
	}
	return p, a.json(strings.TrimPrefix(plan.Path, "/"), p)
}

// installed installs a Debian package if the program is not there.
func installed(ctx context.Context, program, pkg string) error {
	if _, err := exec.LookPath(program); err == nil {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s is missing: install the package %s", program, pkg)
	}
	fmt.Println("vm: installing", pkg)
	if err := command(ctx, "apt-get", "update", "-q"); err != nil {
		return err
	}
	return command(ctx, "apt-get", "install", "-q", "-y", "--no-install-recommends", pkg)
}

// command runs a program; its output is the error's.
func command(ctx context.Context, name string, args ...string) error {
	_, err := output(ctx, name, args...)
	return err
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	var out, all strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &all
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out.String(), all.String())
	}
	return out.String(), nil
}
