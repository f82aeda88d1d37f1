package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// metadataService is the chart's Service of changed blocks.
const metadataService = "mynetwork-csi-snapshot-metadata"

// blocks is what snapshot-metadata-lister of the tools image prints for each message of the service.
type blocks struct {
	Capacity int64 `json:"volume_capacity_bytes"`
	List     []struct {
		Offset int64 `json:"byte_offset"`
		Size   int64 `json:"size_bytes"`
	} `json:"block_metadata"`
}

// changedBlocks: a backup program in a pod learns over the cluster's own service which pages a snapshot holds and which were written between
// two, and one whose account may not read snapshots learns nothing.
func changedBlocks(s *suite) (string, error) {
	crd := &unstructured.Unstructured{}
	crd.SetAPIVersion("apiextensions.k8s.io/v1")
	crd.SetKind("CustomResourceDefinition")
	if err := s.c.Get(s.ctx, client.ObjectKey{Name: "snapshotmetadataservices.cbt.storage.k8s.io"}, crd); err != nil {
		return "", fmt.Errorf("%w: it needs the definition of SnapshotMetadataService in the cluster: %w", errNotRun, err)
	}
	if s.o.chart == "" {
		return "", fmt.Errorf("%w: there is no -chart", errNotRun)
	}
	set := s.o.set
	s.o.set = append(set[:len(set):len(set)], "csi.snapshotMetadata.enabled=true")
	err := s.helmInstall(s.o.image)
	s.o.set = set
	s.later(func() { _ = s.helmInstall(s.o.image) })
	if err != nil {
		return "", err
	}
	if err := s.written(); err != nil {
		return "", err
	}
	held, err := s.listed("held", "backup", "second")
	if err != nil {
		return "", err
	}
	changed, err := s.listed("changed", "backup", "second", "first")
	if err != nil {
		return "", err
	}
	// 16 KiB at 1 MiB and 8 KiB at 4 MiB; then 4 KiB of the first again, and 4 KiB at 8 MiB.
	if want := "1048576+16384 4194304+8192 8388608+4096"; held != want {
		return "", fmt.Errorf("the snapshot holds %q, want %q", held, want)
	}
	if want := "1048576+4096 8388608+4096"; changed != want {
		return "", fmt.Errorf("between the snapshots %q changed, want %q", changed, want)
	}
	if out, err := s.listed("stranger", "stranger", "second"); err == nil {
		return "", fmt.Errorf("an account without rights was told %q", out)
	}
	return fmt.Sprintf("a backup program is told what the snapshot holds (%s) and what changed (%s); a stranger is refused", held, changed), nil
}

// written makes two snapshots of a raw volume that was written before and between them, and the accounts.
func (s *suite) written() error {
	if err := s.create(s.claim("cbt", "64Mi", true, nil)); err != nil {
		return err
	}
	put := func(pod, script string) error {
		p := s.pod(pod, "cbt", script, true)
		if err := s.create(p); err != nil {
			return err
		}
		if _, err := s.succeeded(pod); err != nil {
			return err
		}
		return s.remove(p)
	}
	snap := func(name string) error {
		o := s.snapshot(name, "cbt")
		return errors.Join(s.create(o), s.snapshotReady(o))
	}
	const dd = "dd if=/dev/urandom of=/dev/data bs=4096 oflag=direct status=none "
	for _, step := range []func() error{
		func() error { return put("cbt-1", dd+"seek=256 count=4 && "+dd+"seek=1024 count=2") },
		func() error { return snap("first") },
		func() error { return put("cbt-2", dd+"seek=256 count=1 && "+dd+"seek=2048 count=1") },
		func() error { return snap("second") },
		func() error { return s.account("stranger", "") },
		func() error { return s.account("backup", "mynetwork-snapshot-metadata-client") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// account makes a ServiceAccount that may make tokens of its own and, with a ClusterRole, what that lets it.
func (s *suite) account(name, clusterRole string) error {
	subject := []rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: s.ns}}
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, ResourceNames: []string{name}, Verbs: []string{"create"}}}}
	bind := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name}}
	err := errors.Join(s.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}), s.create(role), s.create(bind))
	if err != nil || clusterRole == "" {
		return err
	}
	all := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: s.ns + "-" + name}, Subjects: subject,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: clusterRole}}
	if err := s.c.Create(s.ctx, all); err != nil {
		return err
	}
	s.later(func() { _ = s.remove(all) })
	return nil
}

// listed runs the lister in a pod with an account, and gives the ranges that it was told as "offset+size ...", neighbours joined.
func (s *suite) listed(pod, account string, snapshots ...string) (string, error) {
	svc, err := s.kube.CoreV1().Services(s.o.namespace).Get(s.ctx, metadataService, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: pod}, Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, ServiceAccountName: account,
		// The test cluster has no DNS.
		HostAliases: []corev1.HostAlias{{IP: svc.Spec.ClusterIP, Hostnames: []string{metadataService + "." + s.o.namespace + ".svc"}}},
		Containers: []corev1.Container{{Name: "main", Image: s.o.tools, ImagePullPolicy: corev1.PullIfNotPresent,
			Command: append([]string{"snapshot-metadata-lister", s.ns}, snapshots...)}}}}
	if err := s.create(p); err != nil {
		return "", err
	}
	out, err := s.succeeded(pod)
	if err != nil {
		return "", err
	}
	return ranges(out)
}

// ranges reads what the lister printed.
func ranges(out string) (string, error) {
	var text []string
	start, end := int64(-1), int64(-1)
	flush := func() {
		if start >= 0 {
			text = append(text, fmt.Sprintf("%d+%d", start, end-start))
		}
	}
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var m []blocks
		if err := d.Decode(&m); err != nil {
			return "", fmt.Errorf("the lister printed %q: %w", tail(out, 5), err)
		}
		for i := range m {
			for _, b := range m[i].List {
				if b.Offset != end {
					flush()
					start = b.Offset
				}
				end = b.Offset + b.Size
			}
		}
	}
	flush()
	return strings.Join(text, " "), nil
}
