package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Parts of "bench space".
const (
	partReturn = "return" // what files leave behind that are removed and trimmed, and a volume that is deleted
	partFull   = "full"   // what writes cost where most of the disk is alive
)

// spaceCommand measures how the space that nobody needs comes back, and what cleaning costs where there is little room.
func spaceCommand(ctx context.Context, w io.Writer, args []string) error {
	fs := flag.NewFlagSet("space", flag.ContinueOnError)
	o := options{targets: []string{fuse}}
	where(fs, &o.program, &o.dir, "it takes up to twelve times the size")
	size := fs.String("size", "1Gi", "of the volume")
	parts := fs.String("parts", partReturn+","+partFull, partReturn+": after removing and trimming, and deleting; "+partFull+": overwrites where most of the room is alive")
	live := fs.Float64("live", .8, "part full: the share of what volumes may fill of each store that the volume is")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := o.load(*size, "1", ""); err != nil {
		return err
	}
	for _, p := range words(*parts) {
		if p != partReturn && p != partFull {
			return fmt.Errorf("part %q: there are %s and %s", p, partReturn, partFull)
		}
	}
	if *live < .1 || *live > .95 {
		return fmt.Errorf("live: %g is not between 0.1 and 0.95", *live)
	}
	if err := preflight(o); err != nil {
		return err
	}
	if slices.Contains(words(*parts), partReturn) {
		if err := returnPart(ctx, w, o); err != nil {
			return err
		}
	}
	if slices.Contains(words(*parts), partFull) {
		return fullPart(ctx, w, o, *live)
	}
	return nil
}

// overwrites is 4 KiB at random, depth 32, as many bytes as the target has.
func (b *bencher) overwrites() workload {
	return workload{name: "overwrite", write: true, args: []string{"--rw=randwrite", "--bs=4k", "--iodepth=32", "--end_fsync=1", fmt.Sprintf("--io_size=%d", b.o.size)}}
}

// returnLooks are the seconds after which it is looked what has come back.
var returnLooks = []int{1, 2, 5, 10, 20, 30, 60}

const volumeDeleted = "the volume is deleted"

// returning is what stores hold at times.
type returning struct {
	before int64
	after  []int64 // of returnLooks
}

// share is how much of what was held beyond base came back by a look.
func (r *returning) share(i int, base int64) float64 {
	return float64(r.before-r.after[i]) / float64(max(r.before-base, 1))
}

// come watches what the stores hold once nothing is needed any more.
func (b *bencher) come(gone func() error) (r returning, err error) {
	if r.before, err = heldBelow(b.net()); err != nil {
		return r, err
	}
	if err := gone(); err != nil {
		return r, err
	}
	begin := time.Now()
	for _, s := range returnLooks {
		if err := b.sleep(time.Until(begin.Add(time.Duration(s) * time.Second))); err != nil {
			return r, err
		}
		held, err := heldBelow(b.net())
		if err != nil {
			return r, err
		}
		r.after = append(r.after, held)
	}
	return r, nil
}

// returnPart fills a file system on a volume, overwrites half of it at random, removes everything, trims, and deletes the volume.
func returnPart(ctx context.Context, w io.Writer, o options) (err error) {
	b := &bencher{ctx: ctx, o: o}
	defer func() { err = errors.Join(err, b.cleanup()) }()
	if err := b.network(3); err != nil {
		return err
	}
	s, err := b.site(fuse)
	defer func() { err = errors.Join(err, s.close(b)) }()
	if err != nil {
		return err
	}
	empty, err := heldBelow(b.net())
	if err != nil {
		return err
	}
	b.o.size = o.size * 3 / 4 / (1 << 20) * (1 << 20) // of the file; the rest is the file system's
	file := filepath.Join(s.mount, "file")
	fmt.Fprintln(os.Stderr, "writing and overwriting a file")
	if _, err := b.fill(fuse, file); err != nil {
		return err
	}
	if _, err := b.fio(b.overwrites(), fuse, file); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "removing it")
	trimmed, err := b.come(func() error {
		if err := os.Remove(file); err != nil {
			return err
		}
		if _, err := b.run("sync", "--file-system", s.mount); err != nil { // blocks that were freed are free once ext4's journal says so
			return err
		}
		_, err := b.run("fstrim", s.mount)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "deleting the volume")
	deleted, err := b.come(func() error {
		err := s.close(b)
		s = nil
		if err == nil {
			_, err = b.my("volume", "detach", fuse)
		}
		if err == nil {
			_, err = b.my("volume", "delete", fuse, "--yes")
		}
		return err
	})
	if err != nil {
		return err
	}
	printReturns(w, b.o.size, empty, map[string]returning{"the file is removed and trimmed": trimmed, volumeDeleted: deleted})
	return nil
}

// printReturns prints how the space came back, of a file of size bytes; empty is what the file system alone holds.
func printReturns(w io.Writer, size, empty int64, of map[string]returning) {
	fmt.Fprintf(w, "| a file of %d MiB, written and then overwritten at random | held before, MiB |", size>>20)
	for _, s := range returnLooks {
		fmt.Fprintf(w, " %d s |", s)
	}
	fmt.Fprintf(w, " back after a minute |\n|---|---|%s---|\n", strings.Repeat("---|", len(returnLooks)))
	for _, what := range sortedKeys(of) {
		r, base := of[what], empty
		if what == volumeDeleted {
			base = 0
		}
		fmt.Fprintf(w, "| %s | %d |", what, r.before>>20)
		for _, n := range r.after {
			fmt.Fprintf(w, " %d |", n>>20)
		}
		fmt.Fprintf(w, " %.1f %% |\n", 100*r.share(len(r.after)-1, base))
	}
	fmt.Fprintf(w, "\nHeld by the extents of three stores. Of a file system that is empty they hold %d MiB, which counts as needed until the volume is deleted.\n\n", empty>>20)
}

// roomFor is how much room a store has to have so that a volume is a share of what volumes may fill of it: users get 92 %, less the store's log.
func roomFor(size int64, live float64) int64 {
	const log = 260 << 20 // with what the store keeps back
	return int64((float64(size)/live + log) / .92)
}

// fullPart overwrites a volume that is most of what each of three stores may use.
func fullPart(ctx context.Context, w io.Writer, o options, live float64) (err error) {
	b := &bencher{ctx: ctx, o: o, room: roomFor(o.size, live)}
	defer func() { err = errors.Join(err, b.cleanup()) }()
	if err := b.setup(); err != nil {
		return err
	}
	if b.paths[fuse] == "" {
		return errors.New(b.why[fuse])
	}
	fmt.Fprintf(w, "| 4 KiB writes at random, depth 32, of %d MiB, which is %.0f %% of what volumes may fill of each store | IOPS | p50 ms | p99 | longest | bytes written, of three copies' | held, of three copies |\n|---|---|---|---|---|---|---|\n", o.size>>20, 100*live)
	for turn := range 3 {
		before, err := b.sample()
		if err != nil {
			return err
		}
		r, err := b.fio(b.overwrites(), fuse, b.paths[fuse])
		if err != nil {
			return fmt.Errorf("overwrite %d: %w", turn+1, err)
		}
		after, err := b.quiet()
		if err != nil {
			return err
		}
		held, err := heldBelow(b.net())
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "| as many bytes as the volume has, time %d | %s | %.2f | %.1f | %.0f | %.2f | %.2f |\n", turn+1, thousands(r.IOPS), r.Latency[0]/1e3, r.Latency[1]/1e3, r.Max/1e3,
			float64(after.written(before))/(3*r.Bytes), float64(held)/float64(3*o.size))
	}
	return nil
}
