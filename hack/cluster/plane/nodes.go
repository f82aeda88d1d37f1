package plane

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mynetwork.io/mynetwork/hack/cluster/machine"
	"mynetwork.io/mynetwork/hack/cluster/record"
)

// NodeConfig writes the settings of a node's services and answers what its pid 1 is told.
func NodeConfig(r *record.Record, node string) (machine.Config, error) {
	number, err := machine.Number(r, node)
	if err != nil {
		return machine.Config{}, err
	}
	settings := filepath.Join(r.Dir().Node(node), "settings")
	files, err := nodeFiles(r, node, number)
	if err != nil {
		return machine.Config{}, err
	}
	if err := os.MkdirAll(filepath.Join(settings, "cni"), 0o700); err != nil {
		return machine.Config{}, err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(settings, name), text, 0o600); err != nil {
			return machine.Config{}, err
		}
	}
	const etc, bin = "/opt/cluster/etc/", "/opt/cluster/bin/"
	return machine.Config{
		Name: node, Disk: r.Dir(), OwnDisk: r.Settings.Disk, Settings: settings,
		Services: []machine.Service{
			{Name: "containerd", Argv: []string{"/usr/bin/containerd", "--config", etc + "containerd.toml"},
				Socket: "/run/containerd/containerd.sock", Import: true},
			{Name: "kubelet", Argv: []string{bin + "kubelet", "--config=" + etc + "kubelet.yaml", "--kubeconfig=" + etc + "kubelet.kubeconfig",
				"--node-ip=" + machine.Address(number), "--root-dir=/var/lib/kubelet", "--cert-dir=/var/lib/kubelet/pki",
				"--node-labels=topology.kubernetes.io/zone=zone-" + node, "-v=2"}},
			{Name: "kube-proxy", Argv: []string{bin + "kube-proxy", "--config=" + etc + "kube-proxy.yaml"}},
		},
	}, nil
}

// nodeFiles are the files below a node's /opt/cluster/etc.
func nodeFiles(r *record.Record, node string, number int) (map[string][]byte, error) {
	heartbeat := ""
	if r.Settings.Quick {
		heartbeat = "nodeStatusUpdateFrequency: 2s\nnodeLeaseDurationSeconds: 8\n"
	}
	files := map[string][]byte{
		"containerd.toml":         []byte(containerdTOML),
		"cni/10-cluster.conflist": fmt.Appendf(nil, cniConflist, machine.PodSubnet(number)),
		"kubelet.yaml":            fmt.Appendf(nil, kubeletYAML, machine.Address(number), heartbeat),
		"kube-proxy.yaml":         fmt.Appendf(nil, kubeProxyYAML, machine.PodNet, node),
	}
	for to, from := range map[string]string{"ca.crt": "ca.crt", "kubelet.crt": "node-" + node + ".crt", "kubelet.key": "node-" + node + ".key",
		"kubelet.kubeconfig": "node-" + node + ".kubeconfig", "kube-proxy.kubeconfig": "kube-proxy.kubeconfig"} {
		b, err := os.ReadFile(filepath.Join(r.Dir().PKI(), from))
		if err != nil {
			return nil, err
		}
		files[to] = b
	}
	return files, nil
}

// WaitNodes waits until the nodes have told the API after since that they are Ready: what they said before may be of
// before a power-off. It names those that are not ready after the given time.
func WaitNodes(r *record.Record, nodes []string, since time.Time, most time.Duration) error {
	for end := time.Now().Add(most); ; time.Sleep(200 * time.Millisecond) {
		states, err := Nodes(r)
		var waiting []string
		for _, n := range nodes {
			if states[n].Ready != "True" || states[n].Heartbeat.Before(since.Truncate(time.Second)) {
				waiting = append(waiting, n)
			}
		}
		if err == nil && len(waiting) == 0 {
			return nil
		}
		if time.Now().After(end) {
			if err != nil {
				return err
			}
			return fmt.Errorf("not ready after %v: %v: see the logs %s", most, waiting, r.Dir().Log(waiting[0]+"/*"))
		}
	}
}
