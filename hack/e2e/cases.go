package main

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// everything is the suite e2e.
func everything() []testCase {
	return []testCase{
		{name: "install", always: true, limit: 6 * time.Minute, f: install},
		{name: "claim to pod", f: claimToPod},
		{name: "pod moves", f: podRestart},
		{name: "snapshot, restore, clone", f: copies},
		{name: "many readers", limit: 10 * time.Minute, f: readers},
		{name: "changed blocks", f: changedBlocks},
		{name: "expand", f: expand},
		{name: "raw block", f: rawBlock},
		{name: "delete", f: deleted},
		{name: "apply twice", f: applyAgain},
		{name: "agent killed", f: killed("agent", false)},
		{name: "holder killed", f: killed("holder", false)},
		{name: "plugin killed", f: killed("csi-node", false)},
		{name: "operator killed", f: killed("operator", true)},
		{name: "upgrade", limit: 10 * time.Minute, f: upgrade},
		{name: "rollback", limit: 10 * time.Minute, f: rollback},
		{name: "wrong networks", f: wrongNetworks},
		{name: "wrong spec", f: wrongSpec},
		{name: "wrong class", f: wrongClass},
		{name: "network with volumes", f: networkWithVolumes},
		{name: "power off", cluster: true, f: powerOff},
		{name: "a reader's node without power", cluster: true, f: readerDies},
		{name: "partition", cluster: true, f: partition},
		{name: "rolling reboot", cluster: true, limit: 15 * time.Minute, f: rollingReboot},
		{name: "storage drain", cluster: true, limit: 15 * time.Minute, f: drained},
		{name: "node lost for good", cluster: true, limit: 20 * time.Minute, f: nodeOutage},
		{name: "scrub", cluster: true, limit: 10 * time.Minute, f: scrubbed},
		{name: "API server away", cluster: true, limit: 8 * time.Minute, f: apiAway},
		{name: "uninstall", limit: 10 * time.Minute, f: uninstall},
	}
}

// picture shows what a person would look at after a failure.
func (s *suite) picture() string {
	s.ctx = s.all
	var b strings.Builder
	pods, err := s.kube.CoreV1().Pods("").List(s.ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Sprintf("        pods: %v\n", err)
	}
	for _, p := range pods.Items {
		if p.Namespace != s.ns && p.Namespace != s.o.namespace {
			continue
		}
		why := ""
		for _, c := range p.Status.ContainerStatuses {
			if c.State.Waiting != nil {
				why = c.State.Waiting.Reason + " " + c.State.Waiting.Message
			}
		}
		fmt.Fprintf(&b, "        pod %s/%s on %s: %s %s\n", p.Namespace, p.Name, p.Spec.NodeName, p.Status.Phase, why)
	}
	events, err := s.kube.CoreV1().Events("").List(s.ctx, metav1.ListOptions{})
	if err != nil {
		return b.String()
	}
	const last = 25
	for _, e := range events.Items[max(len(events.Items)-last, 0):] {
		if e.Type != "Normal" {
			fmt.Fprintf(&b, "        event %s %s/%s: %s: %s\n", e.LastTimestamp.Format(time.TimeOnly), e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
		}
	}
	var nodes v1alpha1.StorageNodeList
	if err := s.c.List(s.ctx, &nodes); err == nil {
		for _, n := range nodes.Items {
			for _, c := range n.Status.Conditions {
				fmt.Fprintf(&b, "        StorageNode %s: %s %s %s: %s\n", n.Name, c.Type, c.Status, c.Reason, c.Message)
			}
		}
	}
	return b.String()
}
