package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	r := Release{Top: ".", Targets: Targets()}
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.StringVar(&r.Version, "version", "", "SemVer, as v1.2.3; programs, image and chart have it without the v")
	flags.StringVar(&r.Helm, "helm", "bin/helm", "the helm program, made by make helm; empty: no chart")
	flags.StringVar(&r.Image, "image", "bin/image", "the image program; empty: no image")
	dir := flags.String("out", "out/release", "directory for the release; what is there is deleted")
	key := flags.String("key", "", "file with the Ed25519 key in OpenSSH's format that signs the sums; or "+keyVariable+" has the key; neither: not signed")
	twice := flags.Bool("twice", false, "make all again with an empty build cache, and compare")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if r.Version, err = plain(r.Version); err != nil {
		return err
	}
	if r.Date, err = date(ctx, os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return err
	}
	if err := r.Make(ctx, *dir); err != nil {
		return err
	}
	if *twice {
		if err := again(ctx, r, *dir); err != nil {
			return err
		}
		fmt.Fprintln(out, "made twice, the same bytes")
	}
	public, err := Sign(ctx, *dir, *key, os.Getenv(keyVariable))
	if err != nil {
		return err
	}
	if public != "" {
		fmt.Fprintf(out, "signed by %s\n", public)
	}
	sums, err := os.ReadFile(filepath.Join(*dir, sumsFile))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s is in %s:\n%s", r.Version, *dir, sums)
	return err
}

// date is that of the sources: SOURCE_DATE_EPOCH if it is set, in seconds since 1970, else the commit's.
func date(ctx context.Context, epoch string) (time.Time, error) {
	if epoch == "" {
		b, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("the commit's date: %w: outside a repository, set SOURCE_DATE_EPOCH", err)
		}
		epoch = strings.TrimSpace(string(b))
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// again makes the release in another directory with an empty cache and compares it to that in dir.
func again(ctx context.Context, r Release, dir string) (err error) {
	other, err := os.MkdirTemp("", "release")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(other)) }()
	r.Cache = filepath.Join(other, "cache")
	if err := r.Make(ctx, filepath.Join(other, "release")); err != nil {
		return err
	}
	return Compare(dir, filepath.Join(other, "release"))
}
