package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// create makes an object, and deletes it when the case has ended.
func (s *suite) create(o client.Object) error {
	o.SetNamespace(s.ns)
	if err := s.c.Create(s.ctx, o); err != nil {
		return fmt.Errorf("create %T %s: %w", o, o.GetName(), err)
	}
	s.later(func() { _ = s.remove(o) })
	return nil
}

// removeWithin bounds how long a deletion may take before it is reported.
const removeWithin = 2 * time.Minute

// remove deletes an object and waits until it is gone.
func (s *suite) remove(o client.Object) error {
	ctx, cancel := context.WithTimeout(s.all, removeWithin)
	defer cancel()
	if namespaced, err := s.c.IsObjectNamespaced(o); err != nil {
		return err
	} else if namespaced {
		o.SetNamespace(s.ns)
	}
	if err := s.c.Delete(ctx, o, client.PropagationPolicy(metav1.DeletePropagationForeground), client.GracePeriodSeconds(1)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %T %s: %w", o, o.GetName(), err)
	}
	for {
		err := s.c.Get(ctx, client.ObjectKeyFromObject(o), o)
		if apierrors.IsNotFound(err) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%T %s is not gone after %s (finalizers %v)", o, o.GetName(), removeWithin, o.GetFinalizers())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// className is the StorageClass of the network.
func (s *suite) className() string { return "mynetwork-" + s.o.network }

// xfsClass is the network's class, but for XFS, whose growth while it is mounted needs no CAP_SYS_RESOURCE, as that of ext4 does: root
// lacks it on some machines.
func (s *suite) xfsClass() (string, error) {
	var class storagev1.StorageClass
	if err := s.c.Get(s.ctx, client.ObjectKey{Name: s.className()}, &class); err != nil {
		return "", err
	}
	xfs := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: s.ns + "-xfs"}, Provisioner: class.Provisioner, Parameters: class.Parameters,
		ReclaimPolicy: class.ReclaimPolicy, VolumeBindingMode: class.VolumeBindingMode, AllowVolumeExpansion: class.AllowVolumeExpansion}
	xfs.Parameters["csi.storage.k8s.io/fstype"] = "xfs"
	if err := s.c.Create(s.ctx, xfs); err != nil {
		return "", err
	}
	s.later(func() { _ = s.remove(xfs) })
	return xfs.Name, nil
}

// claim is a PersistentVolumeClaim; from may be nil.
func (s *suite) claim(name, size string, block bool, from *corev1.TypedLocalObjectReference) *corev1.PersistentVolumeClaim {
	mode := corev1.PersistentVolumeFilesystem
	if block {
		mode = corev1.PersistentVolumeBlock
	}
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeMode: &mode, StorageClassName: new(s.className()), DataSource: from,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}},
		},
	}
}

// podSpec runs a script of bash with a claim: at /data, or as the device /dev/data.
func (s *suite) podSpec(claim, script string, block bool) corev1.PodSpec {
	c := corev1.Container{Name: "main", Image: s.o.tools, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"bash", "-c", script}}
	if block {
		c.VolumeDevices = []corev1.VolumeDevice{{Name: "data", DevicePath: "/dev/data"}}
	} else {
		c.VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	}
	return corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(1)), RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{c},
		Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}},
	}
}

func (s *suite) pod(name, claim, script string, block bool) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: s.podSpec(claim, script, block)}
}

// set is a StatefulSet of one pod, NAME-0, that runs for ever.
func (s *suite) set(name, claim, script string) *appsv1.StatefulSet {
	labels := map[string]string{"app": name}
	spec := s.podSpec(claim, script, false)
	spec.RestartPolicy = corev1.RestartPolicyAlways
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.StatefulSetSpec{Replicas: new(int32(1)), ServiceName: name, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec}},
	}
}

// running waits until a pod runs, and tells on which node.
func (s *suite) running(name string) (node string, err error) {
	err = s.until("pod "+name+" runs", func() error {
		p, err := s.kube.CoreV1().Pods(s.ns).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		node = p.Spec.NodeName
		for _, c := range p.Status.ContainerStatuses {
			if c.State.Running != nil && p.DeletionTimestamp == nil {
				return nil
			}
		}
		return fmt.Errorf("its phase is %s on node %q", p.Status.Phase, node)
	})
	return node, err
}

// succeeded waits until the program in a pod has ended with 0, and gives what it printed.
func (s *suite) succeeded(name string) (out string, err error) {
	failed := false
	err = s.until("pod "+name+" has ended", func() error {
		p, err := s.kube.CoreV1().Pods(s.ns).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		failed = p.Status.Phase == corev1.PodFailed
		if failed || p.Status.Phase == corev1.PodSucceeded {
			return nil
		}
		return fmt.Errorf("its phase is %s on node %q", p.Status.Phase, p.Spec.NodeName)
	})
	if err != nil {
		return "", err
	}
	out, err = s.logs(name)
	if failed {
		err = errors.Join(fmt.Errorf("the program in pod %s failed; it printed:\n%s", name, tail(out, 20)), err)
	}
	return out, err
}

// logs gives what a pod has printed so far.
func (s *suite) logs(name string) (string, error) {
	b, err := s.kube.CoreV1().Pods(s.ns).GetLogs(name, &corev1.PodLogOptions{}).DoRaw(s.ctx)
	return string(b), err
}

// follow calls line for what a pod prints until it ends, or its node does.
func (s *suite) follow(name string, line func(string)) error {
	r, err := s.kube.CoreV1().Pods(s.ns).GetLogs(name, &corev1.PodLogOptions{Follow: true}).Stream(s.ctx)
	if err != nil {
		return fmt.Errorf("logs of pod %s: %w", name, err)
	}
	go func() {
		defer r.Close()
		for sc := bufio.NewScanner(io.Reader(r)); sc.Scan(); {
			line(sc.Text())
		}
	}()
	return nil
}

// tail gives the last n lines.
func tail(text string, n int) string {
	l := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(l[max(len(l)-n, 0):], "\n")
}

// networkReady waits until the network says that it is Ready.
func (s *suite) networkReady() error {
	return s.until("MyNetwork "+s.o.network+" is Ready", func() error {
		var n v1alpha1.MyNetwork
		if err := s.c.Get(s.ctx, client.ObjectKey{Name: s.o.network}, &n); err != nil {
			return err
		}
		c := meta.FindStatusCondition(n.Status.Conditions, v1alpha1.ConditionReady)
		if c == nil || c.Status != metav1.ConditionTrue || n.Status.ObservedGeneration != n.Generation {
			return fmt.Errorf("its Ready condition is %s", describe(c))
		}
		return nil
	})
}

func describe(c *metav1.Condition) string {
	if c == nil {
		return "absent"
	}
	return fmt.Sprintf("%s, %s: %s", c.Status, c.Reason, c.Message)
}

// snapshot is a VolumeSnapshot of a claim.
func (s *suite) snapshot(name, claim string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"volumeSnapshotClassName": s.className(), "source": map[string]any{"persistentVolumeClaimName": claim}},
	}}
}

// snapshotReady waits until a snapshot can be restored.
func (s *suite) snapshotReady(o *unstructured.Unstructured) error {
	return s.until("snapshot "+o.GetName()+" is ready", func() error {
		if err := s.c.Get(s.ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if ready, _, _ := unstructured.NestedBool(o.Object, "status", "readyToUse"); ready {
			return nil
		}
		msg, _, _ := unstructured.NestedString(o.Object, "status", "error", "message")
		return fmt.Errorf("it is not: %s", msg)
	})
}

// source names what a claim is made from.
func source(kind, name string) *corev1.TypedLocalObjectReference {
	r := &corev1.TypedLocalObjectReference{Kind: kind, Name: name}
	if kind == "VolumeSnapshot" {
		r.APIGroup = new("snapshot.storage.k8s.io")
	}
	return r
}

// ignoreExists takes for made what was made before: an answer may have been lost.
func ignoreExists(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
