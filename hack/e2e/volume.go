package main

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// claimToPod measures the time from a claim and a pod to the running pod, three times.
func claimToPod(s *suite) (string, error) {
	var took []string
	for i := range 3 {
		name := fmt.Sprintf("quick%d", i)
		start := time.Now()
		if err := s.create(s.claim(name, "128Mi", false, nil)); err != nil {
			return "", err
		}
		if err := s.create(s.pod(name, name, "echo here; sleep infinity", false)); err != nil {
			return "", err
		}
		if _, err := s.running(name); err != nil {
			return "", err
		}
		took = append(took, fmt.Sprintf("%.1f", time.Since(start).Seconds()))
	}
	return "claim to running pod in " + strings.Join(took, ", ") + " s", nil
}

// podRestart: what a pod wrote, another one reads, also on another node.
func podRestart(s *suite) (string, error) {
	if err := s.create(s.claim("moved", "256Mi", false, nil)); err != nil {
		return "", err
	}
	first := s.pod("first", "moved", "head -c 50M /dev/urandom > /data/f; sync; sha256sum /data/f", false)
	if err := s.create(first); err != nil {
		return "", err
	}
	want, err := s.succeeded("first")
	if err != nil {
		return "", err
	}
	if err := s.c.Get(s.ctx, client.ObjectKeyFromObject(first), first); err != nil {
		return "", err
	}
	from := first.Spec.NodeName
	if err := s.remove(first); err != nil {
		return "", err
	}
	second := s.pod("second", "moved", "sha256sum /data/f", false)
	second.Spec.Affinity = notOn(from)
	if err := s.create(second); err != nil {
		return "", err
	}
	got, err := s.succeeded("second")
	if err != nil {
		return "", err
	}
	if got != want {
		return "", fmt.Errorf("the second pod reads %q, the first wrote %q", got, want)
	}
	return "50 MB read back on another node than " + from, nil
}

// notOn keeps a pod from a node.
func notOn(node string) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
			{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpNotIn, Values: []string{node}}}}}}}}
}

// copies: a snapshot, its restore and a clone show their moment, and go their own ways.
func copies(s *suite) (string, error) {
	if err := s.create(s.claim("origin", "256Mi", false, nil)); err != nil {
		return "", err
	}
	if err := s.create(s.pod("origin", "origin", "echo before > /data/f; sync; until [ -e /data/go ]; do sleep 0.1; done", false)); err != nil {
		return "", err
	}
	if _, err := s.running("origin"); err != nil {
		return "", err
	}
	start := time.Now()
	snap := s.snapshot("moment", "origin")
	if err := s.create(snap); err != nil {
		return "", err
	}
	if err := s.snapshotReady(snap); err != nil {
		return "", err
	}
	took := time.Since(start)
	for _, c := range []struct{ name, kind, from string }{{"restored", "VolumeSnapshot", "moment"}, {"cloned", "PersistentVolumeClaim", "origin"}} {
		if err := s.create(s.claim(c.name, "256Mi", false, source(c.kind, c.from))); err != nil {
			return "", err
		}
		if err := s.create(s.pod(c.name, c.name, "cat /data/f; echo changed > /data/f; sync", false)); err != nil {
			return "", err
		}
		out, err := s.succeeded(c.name)
		if err != nil {
			return "", err
		}
		if strings.TrimSpace(out) != "before" {
			return "", fmt.Errorf("%s holds %q, want what was there before", c.name, out)
		}
	}
	if err := s.create(s.pod("reader", "restored", "cat /data/f", false)); err != nil {
		return "", err
	}
	if out, err := s.succeeded("reader"); err != nil || strings.TrimSpace(out) != "changed" {
		return "", fmt.Errorf("the restored volume holds %q after its change: %w", out, err)
	}
	return fmt.Sprintf("snapshot of a mounted volume ready in %.1f s; restore and clone read it, and change alone", took.Seconds()), nil
}

// expand: a mounted volume grows while it is written.
func expand(s *suite) (string, error) {
	class, err := s.xfsClass()
	if err != nil {
		return "", err
	}
	c := s.claim("grows", "512Mi", false, nil)
	c.Spec.StorageClassName = &class
	if err := s.create(c); err != nil {
		return "", err
	}
	script := `df -B1 --output=size /data | tail -1; until [ $(df -B1 --output=size /data | tail -1) -gt 900000000 ]; do date > /data/t; sync; sleep 0.1; done; df -B1 --output=size /data | tail -1`
	if err := s.create(s.pod("grows", "grows", script, false)); err != nil {
		return "", err
	}
	if _, err := s.running("grows"); err != nil {
		return "", err
	}
	start := time.Now()
	if err := s.c.Get(s.ctx, client.ObjectKeyFromObject(c), c); err != nil {
		return "", err
	}
	before := c.DeepCopy()
	c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("1Gi")
	if err := s.c.Patch(s.ctx, c, client.MergeFrom(before)); err != nil {
		return "", err
	}
	out, err := s.succeeded("grows")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("a mounted file system grew in %.1f s (%s bytes)", time.Since(start).Seconds(), strings.Join(strings.Fields(out), " to ")), nil
}

// rawBlock: a volume as a device, with fio's own verification.
func rawBlock(s *suite) (string, error) {
	if err := s.create(s.claim("raw", "256Mi", true, nil)); err != nil {
		return "", err
	}
	script := "fio --name=v --filename=/dev/data --rw=randwrite --bs=4k --size=64M --direct=1 --ioengine=libaio --iodepth=16 --verify=crc32c --do_verify=1 --fsync=64 --output-format=terse && blockdev --getsize64 /dev/data"
	if err := s.create(s.pod("raw", "raw", script, true)); err != nil {
		return "", err
	}
	out, err := s.succeeded("raw")
	if err != nil {
		return "", err
	}
	return "fio wrote and verified 64 MiB on a device of " + tail(out, 1) + " bytes", nil
}

// deleted: when claims are gone, so are their volumes.
func deleted(s *suite) (string, error) {
	c := s.claim("short", "64Mi", false, nil)
	if err := s.create(c); err != nil {
		return "", err
	}
	if err := s.create(s.pod("short", "short", "true", false)); err != nil {
		return "", err
	}
	if _, err := s.succeeded("short"); err != nil {
		return "", err
	}
	if err := s.c.Get(s.ctx, client.ObjectKeyFromObject(c), c); err != nil {
		return "", err
	}
	volume := c.Spec.VolumeName
	if err := s.remove(s.pod("short", "short", "", false)); err != nil {
		return "", err
	}
	start := time.Now()
	if err := s.remove(c); err != nil {
		return "", err
	}
	err := s.until("the PersistentVolume is gone", func() error {
		_, err := s.kube.CoreV1().PersistentVolumes().Get(s.ctx, volume, metav1.GetOptions{})
		if err == nil {
			return fmt.Errorf("PersistentVolume %s is still there", volume)
		}
		return client.IgnoreNotFound(err)
	})
	return fmt.Sprintf("claim and volume gone in %.1f s", time.Since(start).Seconds()), err
}
