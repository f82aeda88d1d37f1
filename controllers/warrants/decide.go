package warrants

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
)

// Validity of grants. They are renewed at a third, so an operator may be away for more than four days.
const Validity = 7 * 24 * time.Hour

// User is a pod that mounts the volume, is bound to a node, and has not ended.
type User struct {
	Namespace, Pod, Node string
	Dead                 bool // the node is dead: it is not in the way of who fences the volume, nor of who takes it over
}

// Facts are what a request is held against.
type Facts struct {
	Network  *v1alpha1.MyNetwork   // nil: there is none of the record's uid
	Node     *v1alpha1.StorageNode // of who asks; nil: there is none
	Record   *v1alpha1.VolumeRecord
	Request  *v1alpha1.VolumeRequest
	Volumes  []corev1.PersistentVolume // that have the record's handle
	Users    []User
	Children []string // live records that name the volume as their parent
	Now      time.Time
}

// Decision is what becomes of a request: one of its fields is set.
type Decision struct {
	Grant    *warrant.Grant
	Deletion *warrant.Deletion
	Refused  string // for people: why, and what to do
}

func refuse(format string, args ...any) Decision {
	return Decision{Refused: fmt.Sprintf(format, args...)}
}

// Decide decides about one request.
func Decide(f Facts) Decision {
	id, err := hex.DecodeString(f.Record.Spec.VolumeID)
	switch {
	case err != nil || len(id) != 16:
		return refuse("the record's volumeID %q is none", f.Record.Spec.VolumeID)
	case f.Network == nil:
		return refuse("there is no MyNetwork %s of uid %s", f.Record.Spec.Network, f.Record.Spec.NetworkUID)
	case f.Node == nil:
		return refuse("node %s does not belong to network %s", f.Request.Node, f.Record.Spec.Network)
	case f.Node.DeletionTimestamp != nil:
		return refuse("node %s is leaving network %s", f.Request.Node, f.Record.Spec.Network)
	case f.Request.Deletion != nil && f.Request.Attach:
		return refuse("a request is for one thing")
	case f.Request.Deletion != nil:
		return deletion(f, [16]byte(id))
	case f.Request.Attach:
		return attach(f, [16]byte(id))
	}
	return refuse("the request asks for nothing")
}

func attach(f Facts, id [16]byte) Decision {
	if f.Record.State.Deletion != nil {
		return refuse("the volume is deleted")
	}
	here, elsewhere := false, []string{}
	for _, u := range f.Users {
		switch {
		case u.Node == f.Request.Node:
			here = true
		case !u.Dead:
			elsewhere = append(elsewhere, fmt.Sprintf("pod %s/%s on node %s", u.Namespace, u.Pod, u.Node))
		}
	}
	if !here && len(elsewhere) > 0 {
		if len(elsewhere) > 3 {
			elsewhere = append(elsewhere[:3], fmt.Sprintf("%d more", len(elsewhere)-3))
		}
		return refuse("%s uses the volume, and no pod on node %s does: it can be used there once that pod has ended", strings.Join(elsewhere, ", "), f.Request.Node)
	}
	return Decision{Grant: &warrant.Grant{Volume: id, Node: f.Request.Node, Verbs: warrant.Writer, NotAfter: f.Now.Add(Validity).Unix()}}
}

func deletion(f Facts, id [16]byte) Decision {
	d := f.Request.Deletion
	for i := range f.Volumes {
		if v := &f.Volumes[i]; v.Status.Phase == corev1.VolumeBound {
			claim := ""
			if c := v.Spec.ClaimRef; c != nil {
				claim = fmt.Sprintf(" to claim %s/%s: delete the claim first", c.Namespace, c.Name)
			}
			return refuse("PersistentVolume %s is bound%s", v.Name, claim)
		}
	}
	if len(f.Children) > 0 {
		names := f.Children[:min(len(f.Children), 3)]
		return refuse("%d volumes were cloned from it and still share its data, as %s: delete them first", len(f.Children), strings.Join(names, ", "))
	}
	if d.Epoch < f.Record.Fact.Epoch {
		return refuse("the volume was taken over since: it is at epoch %d, and the deletion has %d. Delete it again", f.Record.Fact.Epoch, d.Epoch)
	}
	return Decision{Deletion: &warrant.Deletion{Volume: id, Epoch: uint64(d.Epoch), At: d.At}}
}
