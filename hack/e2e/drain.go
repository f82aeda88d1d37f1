package main

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// rollingReboot drains every storage node, takes its power, and brings it back, one after the other, while a StatefulSet writes. Nothing else is
// done by hand: the drain of the next node waits by itself until copies are whole again, and while a node is away no other can be drained.
func rollingReboot(s *suite) (string, error) {
	last, on, err := s.startWriter("rolling")
	if err != nil {
		return "", err
	}
	var nodes v1alpha1.StorageNodeList
	if err := s.c.List(s.ctx, &nodes); err != nil {
		return "", err
	}
	moves, story := 0, ""
	for i := range nodes.Items {
		node := nodes.Items[i].Spec.NodeName
		start := time.Now()
		if err := s.drain(node); err != nil {
			return "", err
		}
		if on == node {
			next, to, took, err := s.takenOver("rolling", node, start)
			if err != nil {
				return "", err
			}
			if _, _, err := nothingLost(last, next); err != nil {
				return "", fmt.Errorf("drain of %s: %w", node, err)
			}
			s.say("%s drained: the pod serves on %s after %.1f s", node, to, took.Seconds())
			last, on, moves = next, to, moves+1
		}
		if err := s.powerOff(node); err != nil {
			return "", err
		}
		other := nodes.Items[(i+1)%len(nodes.Items)].Spec.NodeName
		if err := s.guarded(other); err != nil {
			return "", fmt.Errorf("while %s is away: %w", node, err)
		}
		before, _, _ := last.state()
		if err := errors.Join(s.machine("node", "start", node), s.schedulable(node, true), s.networkReady()); err != nil {
			return "", err
		}
		if after, _, failed := last.state(); failed || after <= before {
			return "", fmt.Errorf("while %s was away the pod on %s wrote nothing: acked %d, then %d, failed %t", node, on, before, after, failed)
		}
		story += fmt.Sprintf("%s %.0f s, ", node, time.Since(start).Seconds())
	}
	acked, _, _ := last.state()
	return fmt.Sprintf("%sthe pod moved %d times; %d lines acknowledged, none lost", story, moves, acked), nil
}

// schedulable cordons or uncordons a node.
func (s *suite) schedulable(node string, yes bool) error {
	_, err := s.kube.CoreV1().Nodes().Patch(s.ctx, node, types.StrategicMergePatchType, fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, !yes), metav1.PatchOptions{})
	return err
}

// drain does what kubectl drain --ignore-daemonsets --delete-emptydir-data does.
func (s *suite) drain(node string) error {
	if err := s.schedulable(node, false); err != nil {
		return err
	}
	s.later(func() { _ = s.schedulable(node, true) })
	return s.until("node "+node+" is drained", func() error {
		pods, err := s.evictable(node)
		if err != nil {
			return err
		}
		for _, p := range pods {
			err = errors.Join(err, s.evict(&p, false))
		}
		return errors.Join(err, remaining(pods))
	})
}

func remaining(pods []corev1.Pod) error {
	if len(pods) == 0 {
		return nil
	}
	return fmt.Errorf("%d pods are still there, one is %s/%s", len(pods), pods[0].Namespace, pods[0].Name)
}

// evictable lists the pods of a node that a drain evicts.
func (s *suite) evictable(node string) (out []corev1.Pod, err error) {
	list, err := s.kube.CoreV1().Pods("").List(s.ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return nil, err
	}
	for _, p := range list.Items {
		owner := metav1.GetControllerOf(&p)
		if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; !mirror && (owner == nil || owner.Kind != "DaemonSet") {
			out = append(out, p)
		}
	}
	return out, nil
}

// evict asks for the eviction of a pod; try only asks whether it would be granted.
func (s *suite) evict(p *corev1.Pod, try bool) error {
	o := metav1.DeleteOptions{}
	if try {
		o.DryRun = []string{metav1.DryRunAll}
	}
	err := s.kube.PolicyV1().Evictions(p.Namespace).Evict(s.ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace}, DeleteOptions: &o})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// guarded waits until a drain of a node would be held up by its guard.
func (s *suite) guarded(node string) error {
	return s.until("the guard of "+node+" holds up a drain", func() error {
		pods, err := s.component("guard", node)
		if err != nil {
			return err
		}
		switch err := s.evict(&pods[0], true); {
		case err == nil:
			return fmt.Errorf("pod %s may be evicted", pods[0].Name)
		case !apierrors.IsTooManyRequests(err):
			return err
		}
		return nil
	})
}
