package main

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// stalled makes a network that can not work, and expects the reason in its conditions.
func (s *suite) stalled(name string, spec v1alpha1.MyNetworkSpec, reason string) error {
	n := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	if err := s.c.Create(s.ctx, n); err != nil {
		return err
	}
	s.later(func() { _ = s.remove(n) })
	return s.until("MyNetwork "+name+" says "+reason, func() error {
		if err := s.c.Get(s.ctx, client.ObjectKeyFromObject(n), n); err != nil {
			return err
		}
		c := meta.FindStatusCondition(n.Status.Conditions, v1alpha1.ConditionReady)
		if c == nil || c.Reason != reason || c.Message == "" {
			return fmt.Errorf("its Ready condition is %s", describe(c))
		}
		return nil
	})
}

// wrongNetworks: two over the same path, and one that chooses no node.
func wrongNetworks(s *suite) (string, error) {
	second := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "second"}}
	err := s.c.Create(s.ctx, second)
	if err == nil {
		_ = s.remove(second)
		return "", fmt.Errorf("a second network over the same nodes and path was accepted")
	}
	if !strings.Contains(err.Error(), "storage.path") {
		return "", fmt.Errorf("the refusal does not say what to write: %w", err)
	}
	s.say("%v", err)
	nobody := v1alpha1.NodesSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"no": "node"}}}
	if err := s.stalled("nobody", v1alpha1.MyNetworkSpec{Nodes: nobody}, v1alpha1.ReasonNoNodes); err != nil {
		return "", err
	}
	return "the same path is refused, NoNodes is said; the first network is untouched", s.networkReady()
}

// wrongSpec: what the schema can refuse, it refuses with words that help.
func wrongSpec(s *suite) (string, error) {
	n := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "wrong"}, Spec: v1alpha1.MyNetworkSpec{Volumes: v1alpha1.VolumesSpec{Copies: 2}}}
	err := s.c.Create(s.ctx, n)
	if err == nil {
		_ = s.remove(n)
		return "", fmt.Errorf("two strong copies were accepted")
	}
	if !strings.Contains(err.Error(), "copies: 3") {
		return "", fmt.Errorf("the refusal does not say what to write: %w", err)
	}
	return "two strong copies refused: " + err.Error(), nil
}

// wrongClass: a class that names no network, and a claim that is larger than all disks, get an event that says so.
func wrongClass(s *suite) (string, error) {
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "e2e-nowhere"}, Provisioner: v1alpha1.DriverName, Parameters: map[string]string{"network": "nowhere"}}
	if err := s.c.Create(s.ctx, class); err != nil {
		return "", err
	}
	s.later(func() { _ = s.remove(class) })
	lost := s.claim("lost", "64Mi", false, nil)
	lost.Spec.StorageClassName = new(class.Name)
	if err := s.create(lost); err != nil {
		return "", err
	}
	first, err := s.event(lost.Name, "nowhere")
	if err != nil {
		return "", err
	}
	huge := s.claim("huge", "100Pi", false, nil)
	if err := s.create(huge); err != nil {
		return "", err
	}
	if err := s.create(s.pod("huge", "huge", "true", false)); err != nil {
		return "", err
	}
	second, err := s.event("huge", "")
	return fmt.Sprintf("%q; %q", first, second), err
}

// event waits for a warning about an object, that contains a word.
func (s *suite) event(object, word string) (message string, err error) {
	err = s.until("an event about "+object+" names "+word, func() error {
		list, err := s.kube.CoreV1().Events(s.ns).List(s.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + object})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Type == corev1.EventTypeWarning && strings.Contains(e.Message, word) {
				message = e.Message
				return nil
			}
		}
		return fmt.Errorf("there are %d events, none of them a warning with that word", len(list.Items))
	})
	return message, err
}

// networkWithVolumes: a network that holds volumes is not deleted.
func networkWithVolumes(s *suite) (string, error) {
	if err := s.create(s.claim("holds", "64Mi", false, nil)); err != nil {
		return "", err
	}
	if err := s.create(s.pod("holds", "holds", "true", false)); err != nil {
		return "", err
	}
	if _, err := s.succeeded("holds"); err != nil {
		return "", err
	}
	n := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: s.o.network}}
	err := s.until("the deletion of a network with volumes is refused", func() error {
		err := s.c.Delete(s.ctx, n, client.DryRunAll)
		if err == nil {
			return fmt.Errorf("a dry run of the deletion goes through")
		}
		if !strings.Contains(err.Error(), "volume") {
			return fmt.Errorf("the refusal does not speak of volumes: %w", err)
		}
		return nil
	})
	return "refused", err
}
