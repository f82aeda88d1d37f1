package mynetwork

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/authority"
)

// Places in the containers.
const (
	configFile = "mynetwork.yaml"
	caFile     = "ca.crt"
	configDir  = "/etc/mynetwork"
	tlsDir     = "/run/mynetwork/tls"
	socketDir  = "/run/mynetwork/sockets"
	dataDir    = "/var/lib/mynetwork"
)

// DefaultCache is the memory of an agent's cache, unless the network says otherwise.
func DefaultCache() resource.Quantity { return resource.MustParse("256Mi") }

func cache(n *v1alpha1.MyNetwork) resource.Quantity {
	if n.Spec.Agent.CacheSize != nil {
		return *n.Spec.Agent.CacheSize
	}
	return DefaultCache()
}

// AgentName is the name of a network's agents' DaemonSet, Service and ConfigMap.
func AgentName(network string) string { return network + "-agent" }

func holderName(n *v1alpha1.MyNetwork) string { return n.Name + "-holder" }

// GuardName is the name of a network's disruption budget, and the beginning of its guard pods'. Package storagenode makes them.
func GuardName(network string) string { return network + "-guard" }

// settings are the agents' and holders' settings, as the file that the program reads. What differs between nodes comes from the
// environment of the pod: the node's name and the pod's address.
func settings(s *State, ca *authority.CA) map[string]any {
	n := s.Network
	size := cache(n)
	store := dataDir + "/store"
	if c := n.Spec.Storage.Capacity; c != nil {
		store += fmt.Sprintf(";capacity=%d", c.Value())
	}
	return map[string]any{
		"agent": map[string]any{
			"cluster":        n.Name,
			"namespace":      s.Options.Namespace,
			"network":        string(n.UID),
			"stores":         []string{store},
			"dir":            dataDir + "/agent",
			"listen":         fmt.Sprintf(":%d", v1alpha1.PortPeers),
			"control":        socketDir + "/" + v1alpha1.PlaceControl,
			"control-listen": fmt.Sprintf(":%d", v1alpha1.PortControl),
			"control-keys":   ca.ControlKeys(),
			"metrics-listen": fmt.Sprintf(":%d", v1alpha1.PortMetrics),
			"holder":         socketDir + "/" + v1alpha1.PlaceHolder,
			"mounter":        socketDir + "/" + v1alpha1.PlaceMounter,
			"tls":            tlsDir,
			"ca":             configDir + "/" + caFile,
			"cache":          fmt.Sprintf("%d", size.Value()),
			"log-level":      or(n.Spec.Agent.LogLevel, "info"),
		},
		"holder": map[string]any{"socket": socketDir + "/" + v1alpha1.PlaceHolder},
	}
}

// configMap has the settings, and the certificates that agents trust.
func configMap(s *State, ca *authority.CA) (*corev1.ConfigMap, error) {
	b, err := yaml.Marshal(settings(s, ca))
	if err != nil {
		return nil, err
	}
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: AgentName(s.Network.Name), Namespace: s.Options.Namespace, Labels: componentLabels(s, "agent")},
		Data:       map[string]string{configFile: string(b), caFile: string(ca.Bundle())},
	}, nil
}

// service gives agents names. It has no address of its own: peers speak to pods, and know them by their certificates.
func service(s *State) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: AgentName(s.Network.Name), Namespace: s.Options.Namespace, Labels: componentLabels(s, "agent")},
		Spec: corev1.ServiceSpec{
			ClusterIP:                corev1.ClusterIPNone,
			PublishNotReadyAddresses: true,
			Selector:                 podLabels(s, "agent"),
			// The target is said although it is the default: it would be 0 in what is wanted and another number in what is there.
			Ports: []corev1.ServicePort{{Name: "peer", Port: v1alpha1.PortPeers, TargetPort: intstr.FromInt32(v1alpha1.PortPeers), Protocol: corev1.ProtocolTCP},
				{Name: "control", Port: v1alpha1.PortControl, TargetPort: intstr.FromInt32(v1alpha1.PortControl), Protocol: corev1.ProtocolTCP}},
		},
	}
}

// podLabels select a component's pods, and never change: a DaemonSet's selector is immutable.
func podLabels(s *State, component string) map[string]string {
	return map[string]string{"app.kubernetes.io/name": "mynetwork", v1alpha1.LabelNetwork: s.Network.Name, v1alpha1.LabelComponent: component}
}

func componentLabels(s *State, component string) map[string]string {
	l := podLabels(s, component)
	l["app.kubernetes.io/managed-by"] = strings.TrimSuffix(v1alpha1.DriverName, ".io") + "-operator"
	return l
}
