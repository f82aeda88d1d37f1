package mynetwork

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/controllers/apply"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/controllers/status"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// authorityState gives the network's CA, or says that it has to be made, or what is wrong with it.
func authorityState(s *State) (ca *authority.CA, create bool, wrong *status.Outcome) {
	name := s.Options.Namespace + "/" + authority.SecretName(s.Network.Name)
	if s.Authority == nil {
		if len(s.StorageNodes) == 0 {
			return nil, true, nil
		}
		o := status.OutcomeStalled(v1alpha1.ReasonAuthorityMissing, "the Secret %s is gone, and %d StorageNodes have certificates of it. Agents go on until theirs "+
			"end. Restore the Secret from a backup; a new authority would lock all nodes out. If there is no backup, delete the StorageNodes first", name, len(s.StorageNodes))
		return nil, false, &o
	}
	if s.Authority.Annotations[apply.AnnotationUID] != string(s.Network.UID) {
		o := status.OutcomeStalled(v1alpha1.ReasonAuthorityInvalid, "the Secret %s belongs to another network of this name. Restore that of this network, or delete it", name)
		return nil, false, &o
	}
	ca, err := authority.Load(s.Authority.Data, string(s.Network.UID))
	if err != nil {
		o := status.OutcomeStalled(v1alpha1.ReasonAuthorityInvalid, "the Secret %s can not be used: %v. Restore it from a backup", name, err)
		return nil, false, &o
	}
	return ca, false, nil
}

// authoritySecret is the Secret to create with a new CA's data.
func authoritySecret(s *State, data map[string][]byte) *corev1.Secret {
	labels := componentLabels(s, "authority")
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: authority.SecretName(s.Network.Name), Namespace: s.Options.Namespace, Labels: labels,
			Annotations: map[string]string{apply.AnnotationUID: string(s.Network.UID)}},
		Immutable: new(true),
		Type:      corev1.SecretTypeTLS,
		Data:      data,
	}
}
