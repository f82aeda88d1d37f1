package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// healNodes is how many storage nodes a cluster needs for a node's copies to go elsewhere: one more than copies.
const healNodes = 4

// storageNodes lists the nodes of the network by name. On a cluster with fewer than three and one more, a case that asks is not run.
func (s *suite) storageNodes() ([]v1alpha1.StorageNode, error) {
	var list v1alpha1.StorageNodeList
	if err := s.c.List(s.ctx, &list); err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(list.Items, func(n v1alpha1.StorageNode) bool { return n.Spec.Network != s.o.network })
	if len(out) < healNodes {
		return nil, fmt.Errorf("%w: copies of a node that goes need another one, so %d nodes: this cluster has %d (cluster down, cluster up --nodes %d)", errNotRun, healNodes, len(out), healNodes)
	}
	slices.SortFunc(out, func(a, b v1alpha1.StorageNode) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// storageNode is the one of a Kubernetes node.
func (s *suite) storageNode(node string) (*v1alpha1.StorageNode, error) {
	var n v1alpha1.StorageNode
	err := s.c.Get(s.ctx, client.ObjectKey{Name: s.o.network + "." + node}, &n)
	return &n, err
}

// schedule says whether data is placed on a node.
func (s *suite) schedule(node string, how v1alpha1.Scheduling) error {
	n, err := s.storageNode(node)
	if err != nil {
		return err
	}
	before := n.DeepCopy()
	n.Spec.Scheduling = how
	return s.c.Patch(s.ctx, n, client.MergeFrom(before))
}

// scheduled says so, and waits until a layout has it.
func (s *suite) scheduled(node string, how v1alpha1.Scheduling) error {
	before, err := s.present()
	if err != nil {
		return err
	}
	if err := s.schedule(node, how); err != nil {
		return err
	}
	return s.newLayout(before)
}

// newLayout waits for a newer layout than that of a MyNetwork as it was.
func (s *suite) newLayout(before *v1alpha1.MyNetwork) error {
	return s.until("a layout is published", func() error {
		now, err := s.present()
		if err == nil && now.Status.Layout.Version <= before.Status.Layout.Version {
			err = fmt.Errorf("it is still %d", now.Status.Layout.Version)
		}
		return err
	})
}

// present is the MyNetwork as it is now.
func (s *suite) present() (*v1alpha1.MyNetwork, error) {
	var n v1alpha1.MyNetwork
	err := s.c.Get(s.ctx, client.ObjectKey{Name: s.o.network}, &n)
	return &n, err
}

// is asks for a condition of a list.
func is(list []metav1.Condition, kind string, want metav1.ConditionStatus) error {
	c := meta.FindStatusCondition(list, kind)
	if c == nil || c.Status != want {
		return fmt.Errorf("%s is %s", kind, describe(c))
	}
	return nil
}

// whole waits until the network is Ready, and every copy of everything where the layout wants it, as all agents say.
func (s *suite) whole() error {
	return s.until("MyNetwork "+s.o.network+" is Ready with all copies", func() error {
		n, err := s.present()
		if err != nil {
			return err
		}
		c := n.Status.Conditions
		err = errors.Join(is(c, v1alpha1.ConditionReady, metav1.ConditionTrue), is(c, v1alpha1.ConditionDegraded, metav1.ConditionFalse), is(c, v1alpha1.ConditionRebalancing, metav1.ConditionFalse))
		if n.Status.ObservedGeneration != n.Generation {
			err = errors.Join(err, errors.New("its spec is not acted on yet"))
		}
		var nodes v1alpha1.StorageNodeList
		if lerr := s.c.List(s.ctx, &nodes); lerr != nil {
			return lerr
		}
		for _, o := range nodes.Items {
			switch a := o.Status.Agent; {
			case a == nil || !a.Ready:
				err = errors.Join(err, fmt.Errorf("the agent of %s is not ready", o.Spec.NodeName))
			case o.Status.Fencing != nil:
				err = errors.Join(err, fmt.Errorf("%s is taken for dead", o.Spec.NodeName))
			case a.MissingCopies > 0 || n.Status.Layout == nil || a.SyncedVersion < n.Status.Layout.Version:
				err = errors.Join(err, fmt.Errorf("%s waits for %d copies and holds all of layout %d", o.Spec.NodeName, a.MissingCopies, a.SyncedVersion))
			}
		}
		return err
	})
}

// agentSays runs the program in the agent's pod of a node, and gives what it printed.
func (s *suite) agentSays(node string, args ...string) (string, error) {
	pods, err := s.component("agent", node)
	if err != nil {
		return "", err
	}
	all := append([]string{"kubectl", "exec", "-n", s.o.namespace, pods[0].Name, "--", "/mynetwork"}, args...)
	return s.command(s.o.cluster, append(all, "--socket", "/run/mynetwork/sockets/"+v1alpha1.PlaceControl)...)
}

// metric sums up a family of the agent's metrics of a node.
func (s *suite) metric(node, family string) (sum float64, err error) {
	out, err := s.agentSays(node, "metrics")
	if err != nil {
		return 0, err
	}
	found := false
	for line := range strings.Lines(out) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if at := strings.IndexByte(name, '{'); at >= 0 {
			name, value = name[:at], line[strings.LastIndexByte(strings.TrimSpace(line), ' ')+1:]
		}
		if !ok || name != family {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return 0, fmt.Errorf("metrics of %s: %q: %w", node, line, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("the agent of %s exports no %s", node, family)
	}
	return sum, nil
}

// record is the VolumeRecord of a claim.
func (s *suite) record(claim string) (*v1alpha1.VolumeRecord, error) {
	var list v1alpha1.VolumeRecordList
	if err := s.c.List(s.ctx, &list); err != nil {
		return nil, err
	}
	for i := range list.Items {
		if c := list.Items[i].Spec.Claim; c != nil && c.Namespace == s.ns && c.Name == claim {
			return &list.Items[i], nil
		}
	}
	return nil, fmt.Errorf("no VolumeRecord is of claim %s/%s", s.ns, claim)
}

// volumeID is the id of a claim's volume, as files are named by it.
func (s *suite) volumeID(claim string) (string, error) {
	r, err := s.record(claim)
	if err != nil {
		return "", err
	}
	return r.Spec.VolumeID, nil
}

// checked is what a scrub or fsck of a volume says.
type checked struct{ Errors, Repaired int }

// fsck has every block and reference of every volume checked on every replica, by the agent of a node.
func (s *suite) fsck(node string) (c checked, err error) {
	out, err := s.agentSays(node, "fsck", "-o", "json")
	if jerr := json.Unmarshal([]byte(out[max(strings.IndexByte(out, '{'), 0):]), &c); jerr != nil {
		return c, errors.Join(err, fmt.Errorf("fsck says %q: %w", out, jerr))
	}
	if c.Errors == 0 {
		return c, err
	}
	return c, nil
}

// scrub has every byte of a claim's volume read on every replica, by the agent of a node, and mended.
func (s *suite) scrub(node, claim string) (c checked, err error) {
	r, err := s.record(claim)
	if err != nil {
		return c, err
	}
	out, err := s.agentSays(node, "volume", "scrub", r.Spec.Name, "-o", "json")
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal([]byte(out[max(strings.IndexByte(out, '{'), 0):]), &c); err != nil {
		return c, fmt.Errorf("scrub of %s says %q: %w", claim, out, err)
	}
	return c, nil
}
