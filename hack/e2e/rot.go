package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// flips is how many bits are inverted at once: fewer than a disk may have in a day before it is given up.
const flips = 5

// scrubbed: bits of a disk flip under a reading pod. A scrub of the volume, and one of all that the disks hold, find and repair them, and say so.
func scrubbed(s *suite) (string, error) {
	nodes, err := s.storageNodes()
	if err != nil {
		return "", err
	}
	if err := errors.Join(s.create(s.claim("rots", "256Mi", false, nil)), s.create(s.set("rots", "rots", steadyScript))); err != nil {
		return "", err
	}
	on, err := s.running("rots-0")
	if err != nil {
		return "", err
	}
	steady := newWriter()
	if err := errors.Join(s.follow("rots-0", steady.line), s.goesOn("the reader", steady), s.whole()); err != nil {
		return "", err
	}
	volume, err := s.volumeID("rots")
	if err != nil {
		return "", err
	}
	bad := "" // a node that has closed extents of it, and is not the one that reads
	for i := range nodes {
		if name := nodes[i].Spec.NodeName; name != on && len(s.closed(name, volume)) > 0 {
			bad = name
		}
	}
	if bad == "" {
		return "", fmt.Errorf("no other node than %s has a closed extent of volume %s", on, volume)
	}
	asked, err := s.scrubAsked(on, bad, volume)
	if err != nil {
		return "", err
	}
	alone, err := s.scrubAlone(bad, volume)
	if err != nil {
		return asked, err
	}
	if err := s.goesOn("the reader", steady); err != nil {
		return "", err
	}
	verified, _, _ := steady.state()
	return fmt.Sprintf("%s; %s; %d readings of 64 MiB right meanwhile", asked, alone, verified), nil
}

// scrubAsked flips bits and has the volume scrubbed.
func (s *suite) scrubAsked(on, bad, volume string) (string, error) {
	found, repaired, _, err := s.damage(bad)
	if err != nil {
		return "", err
	}
	n, err := s.flip(bad, volume, flips)
	if err != nil {
		return "", err
	}
	first, err := s.scrub(on, "rots")
	if err != nil {
		return "", err
	}
	second, err := s.scrub(on, "rots")
	if err != nil {
		return "", err
	}
	if first.Errors < 1 || first.Repaired < first.Errors || second.Errors > 0 {
		return "", fmt.Errorf("%d bits were flipped on %s; scrub found %d and repaired %d, and a second one found %d", n, bad, first.Errors, first.Repaired, second.Errors)
	}
	err = s.until("the status of "+bad+" tells of the errors", func() error {
		f, r, _, err := s.damage(bad)
		if err == nil && (f <= found || r < f-found) {
			err = fmt.Errorf("found %d, repaired %d; before %d, %d", f, r, found, repaired)
		}
		return err
	})
	return fmt.Sprintf("%d bits flipped on %s: a scrub of the volume found %d and repaired %d, a second one none", n, bad, first.Errors, first.Repaired), err
}

// scrubAlone flips bits, asks for all of the node's disks to be read, as kubectl annotate snode does, and waits for what the status says.
func (s *suite) scrubAlone(bad, volume string) (string, error) {
	found, repaired, _, err := s.damage(bad)
	if err != nil {
		return "", err
	}
	n, err := s.flip(bad, volume, flips)
	if err != nil {
		return "", err
	}
	o, err := s.storageNode(bad)
	if err != nil {
		return "", err
	}
	start, before := time.Now(), o.DeepCopy()
	o.Annotations = map[string]string{v1alpha1.AnnotationScrub: start.UTC().Format(time.RFC3339)}
	if err := s.c.Patch(s.ctx, o, client.MergeFrom(before)); err != nil {
		return "", err
	}
	var f, r int64
	err = s.until("the scrub of all disks of "+bad+" has found and repaired", func() error {
		var at time.Time
		if f, r, at, err = s.damage(bad); err == nil && (f <= found || r-repaired < f-found || at.Before(start.Truncate(time.Second))) {
			err = fmt.Errorf("found %d, repaired %d, last scrubbed %s; before %d, %d", f, r, at.Format(time.TimeOnly), found, repaired)
		}
		return err
	})
	return fmt.Sprintf("%d more flipped: the node's own scrub of all that its disks hold found %d and repaired %d, and its status said so after %.0f s", n, f-found, r-repaired, time.Since(start).Seconds()), err
}

// damage is what a node's status says of errors, over all its stores, and when the last of them was scrubbed whole.
func (s *suite) damage(node string) (found, repaired int64, last time.Time, err error) {
	n, err := s.storageNode(node)
	if err != nil {
		return 0, 0, last, err
	}
	if n.Status.Agent == nil {
		return 0, 0, last, fmt.Errorf("the agent of %s has not reported", node)
	}
	for _, st := range n.Status.Agent.Stores {
		found, repaired = found+st.ErrorsFound, repaired+st.ErrorsRepaired
		if last.IsZero() || st.LastScrubbed.Time.Before(last) {
			last = st.LastScrubbed.Time
		}
	}
	return found, repaired, last, nil
}

// closed lists the data files of closed extents of a volume on a node that is on; "" is of all volumes.
func (s *suite) closed(node, volume string) (out []string) {
	root, err := s.command(s.o.cluster, "node", "root", node)
	if err != nil {
		return nil
	}
	footers, err := filepath.Glob(filepath.Join(root, "var/lib/mynetwork/*/store/ext/*", volume+"*.ftr"))
	if err != nil {
		return nil
	}
	for _, f := range footers {
		out = append(out, strings.TrimSuffix(f, "ftr")+"dat")
	}
	return out
}

// flip inverts a bit at n places of closed extents of a volume on a node's disk.
func (s *suite) flip(node, volume string, n int) (done int, err error) {
	files := s.closed(node, volume)
	if len(files) == 0 {
		return 0, fmt.Errorf("%s has no closed extent of volume %q to spoil", node, volume)
	}
	for range 200 * n {
		if done == n {
			break
		}
		if ok, err := invert(files[rand.IntN(len(files))]); err == nil && ok {
			done++
		}
	}
	if done == 0 {
		err = fmt.Errorf("found no data to spoil on %s", node)
	}
	return done, err
}

// invert flips a bit of a file, unless the byte that chance chooses is empty.
func invert(name string) (bool, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return false, err // it was freed
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return false, err
	}
	at, b := rand.Int64N(st.Size()), []byte{0}
	if _, err := f.ReadAt(b, at); err != nil || b[0] == 0 {
		return false, err
	}
	b[0] ^= 1 << rand.IntN(8)
	_, err = f.WriteAt(b, at)
	return err == nil, err
}

// spoilAll inverts a bit in every page of a file that is not empty there.
func spoilAll(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil // it was freed
	}
	defer f.Close()
	b := []byte{0}
	for at := int64(100); ; at += 4096 {
		if _, err := f.ReadAt(b, at); err != nil {
			return nil // its end
		}
		if b[0] != 0 {
			b[0] ^= 4
			if _, err := f.WriteAt(b, at); err != nil {
				return err
			}
		}
	}
}
