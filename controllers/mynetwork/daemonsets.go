package mynetwork

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// User that agents and holders run as. The mounter makes the data directory for it.
const runAs = v1alpha1.AgentUser

func image(s *State) string { return or(s.Network.Spec.Agent.Image, s.Options.Image) }
func holderImage(s *State) string {
	return or(s.Options.HolderImage, s.Options.Image)
}

// agents is the DaemonSet of the agents. A changed setting rolls them: they are replaced under live I/O.
func agents(s *State, config *corev1.ConfigMap) *appsv1.DaemonSet {
	sum := sha256.Sum256([]byte(config.Data[configFile]))
	c := container("agent", image(s), agentResources(s.Network))
	c.Env = append(c.Env, fieldEnv("MYNETWORK_AGENT_ADDRESS", "status.podIP"))
	c.Ports = []corev1.ContainerPort{{Name: "peer", ContainerPort: v1alpha1.PortPeers, Protocol: corev1.ProtocolTCP},
		{Name: "control", ContainerPort: v1alpha1.PortControl, Protocol: corev1.ProtocolTCP},
		{Name: "metrics", ContainerPort: v1alpha1.PortMetrics, Protocol: corev1.ProtocolTCP}}
	c.ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("control")}}, // a peer server logs who does not speak
		PeriodSeconds: 2,
	}
	c.VolumeMounts = append(c.VolumeMounts,
		corev1.VolumeMount{Name: "data", MountPath: dataDir},
		corev1.VolumeMount{Name: "tls", MountPath: tlsDir})
	d := daemonSet(s, "agent", s.Options.agentAccount(), c)
	d.Spec.Template.Annotations = map[string]string{"storage.mynetwork.io/settings": hex.EncodeToString(sum[:8])}
	d.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: new(intstr.FromInt32(1)), MaxSurge: new(intstr.FromInt32(0))}}
	pod := &d.Spec.Template.Spec
	pod.PriorityClassName = "system-node-critical"
	pod.Volumes = append(pod.Volumes,
		hostPath("data", path(s.Network)+"/"+string(s.Network.UID)),
		// The agent makes its key here and asks for a certificate; nothing of it outlives the pod.
		corev1.Volume{Name: "tls", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory,
			SizeLimit: new(resource.MustParse("1Mi"))}}})
	return d
}

// holders is the DaemonSet of the holders. They are replaced only when somebody deletes their pods, have no liveness probe, and
// memory that is guaranteed: a holder that ends takes devices with it.
func holders(s *State) *appsv1.DaemonSet {
	fixed := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("256Mi")}
	c := container("holder", holderImage(s), corev1.ResourceRequirements{Requests: fixed, Limits: fixed})
	d := daemonSet(s, "holder", s.Options.holderAccount(), c)
	d.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
	d.Spec.Template.Spec.PriorityClassName = "system-node-critical"
	return d
}

// container is what both have in common: the program, its settings, the sockets, and no rights.
func container(command, image string, r corev1.ResourceRequirements) corev1.Container {
	return corev1.Container{
		Name:      command,
		Image:     image,
		Args:      []string{command, "--config", configDir + "/" + configFile}, // of the image's entry point
		Env:       []corev1.EnvVar{fieldEnv("MYNETWORK_AGENT_NODE", "spec.nodeName")},
		Resources: r,
		VolumeMounts: []corev1.VolumeMount{
			{Name: "config", MountPath: configDir, ReadOnly: true},
			{Name: "sockets", MountPath: socketDir},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
}

// fieldEnv is a variable that has a field of the pod.
func fieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
}

func daemonSet(s *State, component, account string, c corev1.Container) *appsv1.DaemonSet {
	n := s.Network
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name + "-" + component, Namespace: s.Options.Namespace, Labels: componentLabels(s, component)},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: podLabels(s, component)},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: componentLabels(s, component)},
				Spec: corev1.PodSpec{
					ServiceAccountName:            account,
					TerminationGracePeriodSeconds: new(int64(30)),
					Affinity:                      affinity(n.Spec.Nodes.Selector),
					Tolerations:                   append(daemonTolerations()[:1], n.Spec.Nodes.Tolerations...),
					SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), RunAsUser: new(int64(runAs)), RunAsGroup: new(int64(runAs)),
						SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
					Containers: []corev1.Container{c},
					Volumes: []corev1.Volume{
						{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
							LocalObjectReference: corev1.LocalObjectReference{Name: AgentName(n.Name)}}}},
						hostPath("sockets", v1alpha1.PlaceRun+"/"+string(n.UID)),
					},
				},
			},
		},
	}
}

// hostPath is a directory that the mounter made, with owner, mode and label; without it the pod waits.
func hostPath(name, path string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: new(corev1.HostPathDirectory)}}}
}

func agentResources(n *v1alpha1.MyNetwork) corev1.ResourceRequirements {
	if n.Spec.Agent.Resources != nil {
		return *n.Spec.Agent.Resources.DeepCopy()
	}
	memory := cache(n)
	memory.Add(resource.MustParse("512Mi"))
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: memory}}
}

// affinity is a label selector as pods express it. nil chooses all nodes.
func affinity(s *metav1.LabelSelector) *corev1.Affinity {
	if s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		return nil
	}
	var terms []corev1.NodeSelectorRequirement
	for k, v := range s.MatchLabels {
		terms = append(terms, corev1.NodeSelectorRequirement{Key: k, Operator: corev1.NodeSelectorOpIn, Values: []string{v}})
	}
	slices.SortFunc(terms, func(a, b corev1.NodeSelectorRequirement) int { return strings.Compare(a.Key, b.Key) })
	for _, e := range s.MatchExpressions {
		terms = append(terms, corev1.NodeSelectorRequirement{Key: e.Key, Operator: corev1.NodeSelectorOperator(e.Operator), Values: e.Values})
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: terms}}}}}
}
