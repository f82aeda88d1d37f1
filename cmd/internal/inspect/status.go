package inspect

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// Network is how a network is, in a few words.
type Network struct {
	Name     string `json:"name"`
	Ready    string `json:"ready"`
	Activity string `json:"activity"`
	Nodes    string `json:"nodes"`
	Capacity string `json:"capacity"`
	Volumes  int    `json:"volumes"`
	Layout   int64  `json:"layout"`
}

// Node is how a node of a network is.
type Node struct {
	Network  string `json:"network"`
	Name     string `json:"name"`
	Zone     string `json:"zone,omitempty"`
	Ready    string `json:"ready"`
	Used     string `json:"used"`
	Copies   int64  `json:"copies"`
	Missing  int64  `json:"missingCopies"`
	Pressure string `json:"pressure,omitempty"`
	Note     string `json:"note,omitempty"`
}

// Status is how everything is.
type Status struct {
	Networks []Network `json:"networks"`
	Nodes    []Node    `json:"nodes"`
	Findings []Finding `json:"findings"` // all that is bad, of networks, nodes and volumes
	Hidden   []string  `json:"hidden,omitempty"`
}

// Healthy tells whether nothing bad is known.
func (s *Status) Healthy() bool { return len(s.Findings) == 0 }

// Status sums everything up.
func (f *Facts) Status() Status {
	s := Status{Networks: []Network{}, Nodes: []Node{}, Findings: []Finding{}, Hidden: f.Hidden}
	for i := range f.Networks {
		n := &f.Networks[i]
		v := Network{Name: n.Name, Ready: ready(n.Status.Conditions), Activity: n.Status.Activity, Nodes: n.Status.Nodes.Summary, Capacity: n.Status.Capacity.Summary, Volumes: int(n.Status.Volumes)}
		if n.Status.Layout != nil {
			v.Layout = n.Status.Layout.Version
		}
		s.Networks = append(s.Networks, v)
		s.Findings = append(s.Findings, conditions("mynet/"+n.Name, n.Status.Conditions)...)
	}
	for i := range f.Nodes {
		n := &f.Nodes[i]
		v := Node{Network: n.Spec.Network, Name: n.Spec.NodeName, Zone: n.Status.Zone, Ready: ready(n.Status.Conditions), Used: n.Status.Summary}
		if a := n.Status.Agent; a != nil {
			v.Copies, v.Missing, v.Pressure = a.Copies, a.MissingCopies, strings.Join(a.Pressure, ",")
		}
		if c := meta.FindStatusCondition(n.Status.Conditions, v1alpha1.ConditionReady); c != nil && c.Status != "True" {
			v.Note = c.Message
		}
		s.Nodes = append(s.Nodes, v)
		s.Findings = append(s.Findings, conditions("snode/"+n.Name, n.Status.Conditions)...)
	}
	for i := range f.Records {
		for _, x := range f.explainVolumeAlone(&f.Records[i]) {
			if x.Bad {
				s.Findings = append(s.Findings, x)
			}
		}
	}
	return s
}

// explainVolumeAlone is what is said of a volume without what is said of its network and nodes anyway.
func (f *Facts) explainVolumeAlone(r *v1alpha1.VolumeRecord) []Finding {
	if r.State.Deletion != nil {
		return nil
	}
	l := &list{object: "volume/" + r.Spec.Name}
	f.holder(l, r)
	f.grants(l, r)
	if r.State.Copies > 0 && r.State.Copies < r.Spec.Copies {
		l.bad("kubectl mynetwork explain "+r.Spec.Name, "part of it has %d of %d copies", r.State.Copies, r.Spec.Copies)
	}
	return l.out
}

func ready(list []condition) string {
	c := meta.FindStatusCondition(list, v1alpha1.ConditionReady)
	if c == nil {
		return "Unknown"
	}
	return string(c.Status)
}

// conditions are the bad ones of an object.
func conditions(object string, all []condition) []Finding {
	l := &list{object: object}
	for _, c := range all {
		switch {
		case c.Type == v1alpha1.ConditionReady && c.Status != "True" && !meta.IsStatusConditionTrue(all, v1alpha1.ConditionStalled):
			l.bad("it goes on by itself; see the message", "%s: %s", c.Reason, c.Message)
		case c.Status == "True" && (c.Type == v1alpha1.ConditionStalled || c.Type == v1alpha1.ConditionDegraded || c.Type == v1alpha1.ConditionCapacityLow || c.Type == v1alpha1.ConditionUnderPressure):
			l.bad("do what the message says; docs/runbooks.md has more", "%s (%s): %s", c.Type, c.Reason, c.Message)
		}
	}
	return l.out
}

// Story are the events of MyNetwork's objects, of its pods, and of claims and pods that have warnings of ours, oldest first.
func (f *Facts) Story() (out []*corev1.Event) {
	for i := range f.Events {
		e := &f.Events[i]
		o := &e.InvolvedObject
		ours := strings.HasPrefix(o.APIVersion, v1alpha1.GroupVersion().Group+"/") || o.Namespace == f.System || strings.Contains(e.ReportingController+e.Source.Component, "mynetwork")
		if ours {
			out = append(out, e)
		}
	}
	return out
}

// Line is an event for a person.
func Line(e *corev1.Event) (at, kind, object, text string) {
	o := &e.InvolvedObject
	name := strings.ToLower(o.Kind) + "/" + o.Name
	if o.Namespace != "" && o.Namespace != "default" {
		name = o.Namespace + " " + name
	}
	return when(e).UTC().Format("2006-01-02 15:04:05"), e.Type, name, fmt.Sprintf("%s: %s", e.Reason, e.Message)
}
