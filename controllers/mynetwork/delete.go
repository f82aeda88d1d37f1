package mynetwork

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/controllers/status"
)

// refused tells whether a deleted network has to stay, and says why. It goes on serving.
func refused(s *State, p *Plan) bool {
	switch {
	case len(s.Records) > 0:
		p.Outcome = status.OutcomeStalled(v1alpha1.ReasonVolumesRemain, "the network is deleted and still has %d volumes, so it goes on serving: %s. "+
			"Delete their claims, and volumes that were retained; then the network goes by itself", len(s.Records), few(s.Records))
		return true
	case p.Status.LastCopies > 0:
		p.Outcome = status.OutcomeStalled(v1alpha1.ReasonLastCopies, "the network is deleted, and %d of its nodes hold data that has no other copy and that no volume names. "+
			"Look at it with \"mynetwork fsck\"; adopt or delete it. To leave it on the disks, remove the finalizer %s", p.Status.LastCopies, v1alpha1.Finalizer)
		return true
	}
	return false
}

// end plans the end of a network that is empty: first what makes new volumes, then agents, holders, nodes, and the authority last.
func end(s *State, p *Plan) {
	n, ns := s.Network, s.Options.Namespace
	p.Delete = append(p.Delete, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: className(n)}})
	p.Delete = append(p.Delete, snapshotClasses(s)...)
	p.Delete = append(p.Delete,
		&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: AgentName(n.Name), Namespace: ns}},
		&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: holderName(n), Namespace: ns}})
	for i := range s.StorageNodes {
		p.Delete = append(p.Delete, &v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: s.StorageNodes[i].Name}})
	}
	p.Delete = append(p.Delete,
		&policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: GuardName(n.Name), Namespace: ns}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: AgentName(n.Name), Namespace: ns}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: AgentName(n.Name), Namespace: ns}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: authority.SecretName(n.Name), Namespace: ns}})
	p.RemoveFinalizer = true
	p.Outcome = status.OutcomeProgressing(v1alpha1.ReasonDeleting, "no volume is left: agents, nodes and at last the certificates' authority are removed. "+
		"The directories on the nodes stay")
}
