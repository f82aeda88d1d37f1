package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// fioLoad writes at random with checks, reads everything back, and does so until it is told to end.
const fioLoad = `
end=$((SECONDS+%d)); n=0
while [ $SECONDS -lt $end ]; do
  fio --name=v --directory=/data --rw=randwrite --bs=4k --size=48M --direct=1 --ioengine=libaio --iodepth=8 --verify=crc32c --do_verify=1 --fsync=32 --time_based=0 --output=/tmp/o || { cat /tmp/o; dmesg 2>/dev/null | tail -5; exit 1; }
  n=$((n+1)); echo "round $n"
done
echo "rounds $n"`

// underLoad runs f while fio writes and verifies in a pod, which must not see an error.
func (s *suite) underLoad(name string, seconds int, f func(node string) (string, error)) (string, error) {
	if err := s.create(s.claim(name, "256Mi", false, nil)); err != nil {
		return "", err
	}
	if err := s.create(s.pod(name, name, fmt.Sprintf(fioLoad, seconds), false)); err != nil {
		return "", err
	}
	node, err := s.running(name)
	if err != nil {
		return "", err
	}
	result, err := f(node)
	if err != nil {
		return "", err
	}
	out, err := s.succeeded(name)
	if err != nil {
		return "", err
	}
	return result + "; fio saw no error: " + tail(out, 1), nil
}

// component lists the pods of a component, on one node or, with "", on all.
func (s *suite) component(name, node string) ([]corev1.Pod, error) {
	list, err := s.kube.CoreV1().Pods(s.o.namespace).List(s.ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelComponent + "=" + name})
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return node != "" && p.Spec.NodeName != node })
	if len(out) == 0 {
		return nil, fmt.Errorf("there is no pod of component %s on node %q", name, node)
	}
	return out, nil
}

// killComponent deletes pods of a component without a grace period, and waits until others are ready in their place.
func (s *suite) killComponent(name, node string) error {
	pods, err := s.component(name, node)
	if err != nil {
		return err
	}
	gone := map[types.UID]bool{}
	for _, p := range pods {
		gone[p.UID] = true
		if err := s.kube.CoreV1().Pods(p.Namespace).Delete(s.ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
			return err
		}
	}
	return s.until(name+" is ready again", func() error {
		now, err := s.component(name, node)
		if err != nil {
			return err
		}
		ready := 0
		for _, p := range now {
			if !gone[p.UID] && podReady(&p) {
				ready++
			}
		}
		if ready < len(pods) {
			return fmt.Errorf("%d of %d pods are ready", ready, len(pods))
		}
		return nil
	})
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
}

// killed is the case of one component that is killed thrice under load.
func killed(component string, everywhere bool) func(*suite) (string, error) {
	return func(s *suite) (string, error) {
		return s.underLoad("kill-"+component, 25, func(node string) (string, error) {
			if everywhere {
				node = ""
			}
			for range 3 {
				if err := s.killComponent(component, node); err != nil {
					return "", err
				}
			}
			return component + " killed 3 times", nil
		})
	}
}

// upgrade rolls operator, plugin and agents to another image under load.
func upgrade(s *suite) (string, error) {
	image := s.o.image2
	if image == "" {
		image = s.o.image
	}
	return s.rolled("upgrade", image, s.o.image2 == "")
}

// rollback rolls them back to the image before.
func rollback(s *suite) (string, error) {
	if s.o.image2 == "" {
		return "", fmt.Errorf("%w: there is no -image2 to roll back from", errNotRun)
	}
	return s.rolled("rollback", s.o.image, false)
}

// rolled has operator, plugin and agents run an image, under load; they may run it already.
func (s *suite) rolled(name, image string, same bool) (string, error) {
	return s.underLoad(name, 60, func(string) (string, error) {
		if err := s.helmInstall(image); err != nil {
			return "", err
		}
		if same { // the agents are replaced by hand, one after the other
			err := errors.Join(s.killComponent("operator", ""), s.killComponent("csi-controller", ""), s.killComponent("csi-node", ""))
			pods, perr := s.component("agent", "")
			err = errors.Join(err, perr)
			for _, p := range pods {
				err = errors.Join(err, s.killComponent("agent", p.Spec.NodeName))
			}
			return "the same image, every process replaced", err
		}
		err := s.until("all agents run the new image", func() error {
			d, err := s.kube.AppsV1().DaemonSets(s.o.namespace).Get(s.ctx, s.o.network+"-agent", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if got := d.Spec.Template.Spec.Containers[0].Image; got != image {
				return fmt.Errorf("the DaemonSet has image %s", got)
			}
			if st := d.Status; st.ObservedGeneration != d.Generation || st.UpdatedNumberScheduled != st.DesiredNumberScheduled || st.NumberReady != st.DesiredNumberScheduled {
				return fmt.Errorf("%d of %d are new, %d ready", st.UpdatedNumberScheduled, st.DesiredNumberScheduled, st.NumberReady)
			}
			return nil
		})
		return "operator, plugin and agents run " + image, err
	})
}

// failoverWithin is the promise: a pod's volume serves on another node within this time of the node's death.
const failoverWithin = 30 * time.Second

// powerOff kills a node while a StatefulSet writes on it.
func powerOff(s *suite) (string, error) {
	before, node, err := s.startWriter("failover")
	if err != nil {
		return "", err
	}
	start := time.Now()
	if err := s.powerOff(node); err != nil {
		return "", err
	}
	after, to, took, err := s.takenOver("failover", node, start)
	if err != nil {
		return "", err
	}
	acked, resumed, err := nothingLost(before, after)
	if err != nil {
		return "", err
	}
	if took > failoverWithin {
		return "", fmt.Errorf("the volume served on %s only %.1f s after the death of %s, promised are %s", to, took.Seconds(), node, failoverWithin)
	}
	return fmt.Sprintf("%s died; serving on %s after %.1f s; %d lines acknowledged, %d found", node, to, took.Seconds(), acked, resumed), nil
}

// takenOver waits until the writer writes on another node.
func (s *suite) takenOver(name, from string, start time.Time) (after *writer, to string, took time.Duration, err error) {
	err = s.until("the pod is on another node than "+from, func() error {
		p, err := s.kube.CoreV1().Pods(s.ns).Get(s.ctx, name+"-0", metav1.GetOptions{})
		switch {
		case err != nil:
			return err
		case p.Spec.NodeName == from || p.Spec.NodeName == "":
			return fmt.Errorf("it is on %q, phase %s", p.Spec.NodeName, p.Status.Phase)
		}
		return nil
	})
	if err != nil {
		return nil, "", 0, err
	}
	after, to, err = s.watchWriter(name)
	return after, to, time.Since(start), err
}

// powerOff takes a node's power away until the case has ended. It comes back also if this fails: the node may be off by then.
func (s *suite) powerOff(node string) error {
	s.later(func() { s.nodeBack(node) })
	return s.machine("node", "poweroff", node)
}

// nodeBack starts a node again and waits until the network is whole.
func (s *suite) nodeBack(node string) {
	if err := errors.Join(s.machine("node", "start", node), s.networkReady()); err != nil {
		s.say("node %s is not back: %v", node, err)
	}
}

// partition cuts a node off whose writer lives on: the new writer finds everything, and is not disturbed when the old one is back. That
// the old one gets EIO is shown where its process can be looked at: make demo, and TestFence of the agent.
func partition(s *suite) (string, error) {
	before, node, err := s.startWriter("fenced")
	if err != nil {
		return "", err
	}
	start := time.Now()
	if err := s.machine("node", "partition", node); err != nil {
		return "", err
	}
	healed := false
	s.later(func() {
		if !healed {
			_ = s.machine("node", "heal", node)
		}
	})
	after, to, took, err := s.takenOver("fenced", node, start)
	if err != nil {
		return "", err
	}
	if err := s.machine("node", "heal", node); err != nil {
		return "", err
	}
	healed = true
	if err := s.networkReady(); err != nil {
		return "", err
	}
	acked, resumed, err := nothingLost(before, after)
	if err != nil {
		return "", err
	}
	// The pod on the other side may have gone on writing for a moment; what it was told is durable must be there.
	now, _, _ := after.state()
	err = s.until("the new writer goes on after the old one is back", func() error {
		if a, _, failed := after.state(); failed || a <= now {
			return fmt.Errorf("acked %d, failed %t", a, failed)
		}
		return nil
	})
	return fmt.Sprintf("%s cut off; serving on %s after %.1f s; %d lines acknowledged before, %d found; the new writer goes on now that %s is back", node, to, took.Seconds(), acked, resumed, node), err
}

// apiAway: running volumes do not notice that the API server is away.
func apiAway(s *suite) (string, error) {
	w, node, err := s.startWriter("apiaway")
	if err != nil {
		return "", err
	}
	before, _, _ := w.state()
	if err := s.machine("apiserver", "stop"); err != nil {
		return "", err
	}
	const away = 2 * time.Minute
	select {
	case <-time.After(away):
	case <-s.ctx.Done():
	}
	if err := s.machine("apiserver", "start"); err != nil {
		return "", err
	}
	if _, err := s.running("apiaway-0"); err != nil {
		return "", err
	}
	out, err := s.logs("apiaway-0")
	if err != nil {
		return "", err
	}
	all := newWriter()
	for _, l := range strings.Split(out, "\n") {
		all.line(l)
	}
	after, _, failed := all.state()
	if failed || after < before+500 {
		return "", fmt.Errorf("while the API server was away for %s the pod on %s wrote only %d lines, failed %t", away, node, after-before, failed)
	}
	return fmt.Sprintf("API server away for %s: the pod on %s wrote %d synced lines meanwhile", away, node, after-before), nil
}
