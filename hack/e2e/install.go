package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// release is the chart's release.
const release = "mynetwork"

// helmInstall installs or upgrades the chart.
func (s *suite) helmInstall(image string) error {
	if s.o.chart == "" {
		return nil
	}
	repository, tag, ok := cutTag(image)
	if !ok {
		return fmt.Errorf("image %q has no tag", image)
	}
	args := []string{"upgrade", "--install", release, s.o.chart, "--namespace", s.o.namespace, "--create-namespace", "--wait", "--timeout", "4m",
		"--set", "image.repository=" + repository, "--set", "image.tag=" + tag}
	for _, v := range s.o.set {
		args = append(args, "--set", v)
	}
	if s.o.kubeconfig != "" {
		args = append(args, "--kubeconfig", s.o.kubeconfig)
	}
	_, err := s.command(s.o.helm, args...)
	return err
}

func cutTag(image string) (repository, tag string, ok bool) {
	i := strings.LastIndexByte(image, ':')
	if i < 0 || strings.ContainsRune(image[i:], '/') {
		return image, "", false
	}
	return image[:i], image[i+1:], true
}

// install brings everything up from nothing: chart, network, namespace of the cases.
func install(s *suite) (string, error) {
	start := time.Now()
	if err := s.helmInstall(s.o.image); err != nil {
		return "", err
	}
	chart := time.Since(start)
	n := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: s.o.network}}
	if err := s.c.Create(s.ctx, n); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("create MyNetwork %s: %w", s.o.network, err)
	}
	if err := s.networkReady(); err != nil {
		return "", err
	}
	if err := s.c.Create(s.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.ns}}); err != nil {
		return "", err
	}
	return fmt.Sprintf("chart in %.1f s, three-line MyNetwork Ready after %.1f s", chart.Seconds(), (time.Since(start) - chart).Seconds()), nil
}

// applyAgain: what was applied once is not changed by applying it again.
func applyAgain(s *suite) (string, error) {
	before, err := s.versions()
	if err != nil {
		return "", err
	}
	if err := s.helmInstall(s.o.image); err != nil {
		return "", err
	}
	patch := client.RawPatch("application/apply-patch+yaml", fmt.Appendf(nil, `{"apiVersion":%q,"kind":"MyNetwork","metadata":{"name":%q}}`, v1alpha1.GroupVersion().String(), s.o.network))
	n := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: s.o.network}}
	for range 2 {
		if err := s.c.Patch(s.ctx, n, patch, client.FieldOwner("e2e"), client.ForceOwnership); err != nil {
			return "", err
		}
	}
	select { // for whoever would react
	case <-time.After(5 * time.Second):
	case <-s.ctx.Done():
	}
	after, err := s.versions()
	if err != nil {
		return "", err
	}
	for name, v := range after {
		if before[name] != v {
			err = errors.Join(err, fmt.Errorf("%s has another generation: %d, it was %d", name, v, before[name]))
		}
	}
	return fmt.Sprintf("%d objects keep their generation", len(after)), err
}

// versions gives the generation of each object that a change of settings would change.
func (s *suite) versions() (map[string]int64, error) {
	out := map[string]int64{}
	ds, err := s.kube.AppsV1().DaemonSets(s.o.namespace).List(s.ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, d := range ds.Items {
		out["DaemonSet "+d.Name] = d.Generation
	}
	dep, err := s.kube.AppsV1().Deployments(s.o.namespace).List(s.ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, d := range dep.Items {
		out["Deployment "+d.Name] = d.Generation
	}
	var nodes v1alpha1.StorageNodeList
	if err := s.c.List(s.ctx, &nodes); err != nil {
		return nil, err
	}
	for _, n := range nodes.Items {
		out["StorageNode "+n.Name] = n.Generation
	}
	return out, nil
}

// uninstall: while volumes are attached it is refused; afterwards it leaves the data and the definitions.
func uninstall(s *suite) (string, error) {
	if s.o.chart == "" {
		return "", fmt.Errorf("%w: there is no -chart", errNotRun)
	}
	if err := errors.Join(s.create(s.claim("stays", "64Mi", false, nil)), s.create(s.pod("stays", "stays", "echo kept > /data/f; sync; sleep infinity", false))); err != nil {
		return "", err
	}
	if _, err := s.running("stays"); err != nil {
		return "", err
	}
	args := []string{"uninstall", release, "--namespace", s.o.namespace, "--timeout", "2m"}
	out, err := s.command(s.o.helm, args...)
	if err == nil {
		return "", fmt.Errorf("helm uninstall went through while a volume was attached: %s", out)
	}
	if p, perr := s.running("stays"); perr != nil {
		return "", fmt.Errorf("after the refused uninstall the pod does not run (on %s): %w", p, perr)
	}
	if err := s.remove(s.pod("stays", "stays", "", false)); err != nil {
		return "", err
	}
	if _, err := s.command(s.o.helm, args...); err != nil {
		return "", fmt.Errorf("nothing is attached, and helm uninstall fails: %w", err)
	}
	var records v1alpha1.VolumeRecordList
	if err := s.c.List(s.ctx, &records); err != nil {
		return "", fmt.Errorf("the records are gone with the chart: %w", err)
	}
	if err := s.helmInstall(s.o.image); err != nil {
		return "", fmt.Errorf("install again: %w", err)
	}
	if err := s.networkReady(); err != nil {
		return "", err
	}
	if err := s.create(s.pod("again", "stays", "cat /data/f", false)); err != nil {
		return "", err
	}
	if out, err = s.succeeded("again"); err != nil || strings.TrimSpace(out) != "kept" {
		return "", fmt.Errorf("after uninstall and install the volume holds %q: %w", out, err)
	}
	return fmt.Sprintf("refused while attached, then gone; %d records stayed, and the volume is read after a new install", len(records.Items)), nil
}
