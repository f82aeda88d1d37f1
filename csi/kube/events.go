package kube

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/csi/node"
)

// Events tells people what happens to their volumes on a node, and what a node lacks. It never blocks. Make one with NewEvents.
type Events struct {
	node     string
	recorder events.EventRecorder
}

// NewEvents makes an Events that writes until ctx ends.
func NewEvents(ctx context.Context, c *rest.Config, nodeName string) (*Events, error) {
	s, err := Scheme()
	if err != nil {
		return nil, fmt.Errorf("kinds of the API: %w", err)
	}
	set, err := kubernetes.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("client of the API: %w", err)
	}
	b := events.NewBroadcaster(&events.EventSinkImpl{Interface: set.EventsV1()})
	if err := b.StartRecordingToSinkWithContext(ctx); err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	context.AfterFunc(ctx, b.Shutdown)
	return &Events{node: nodeName, recorder: b.NewRecorder(s, v1alpha1.DriverName)}, nil
}

// Volume tells of a volume, on its claim. A volume without a claim has nobody to tell.
func (e *Events) Volume(n node.Notice) {
	if n.Claim.Name == "" {
		return
	}
	e.recorder.Eventf(claim(n), nil, corev1.EventTypeWarning, n.Reason, "Stage", "node %s: %s", e.node, n.Message)
}

// claim is what the event is about. The provisioner names volumes by the uid of their claim; without it the claim's description
// does not show the event.
func claim(n node.Notice) *corev1.ObjectReference {
	r := &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: n.Claim.Namespace, Name: n.Claim.Name}
	if uid, ok := strings.CutPrefix(n.Claim.Volume, "pvc-"); ok {
		r.UID = types.UID(uid)
	}
	return r
}

// Network tells what a node lacks, on the network that needs it.
func (e *Events) Network(name, uid, reason, message string) {
	e.recorder.Eventf(&corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion().String(), Kind: "MyNetwork", Name: name, UID: types.UID(uid)}, nil,
		corev1.EventTypeWarning, reason, "Prepare", "node %s: %s", e.node, message)
}
