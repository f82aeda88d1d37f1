package settings

import "log/slog"

// Logger writes to standard error from the level that the settings name.
func (c *CSIValues) Logger() (*slog.Logger, error) { return logger("csi.log-level", c.LogLevel) }

func csiKeys() []Key {
	return []Key{
		{"csi.node", "", "name of the Kubernetes node that this process is on"},
		{"csi.namespace", "mynetwork-system", "namespace that agents run in"},
		{"csi.kubelet", "/var/lib/kubelet", "the kubelet's directory, the same path here as on the node"},
		{"csi.run", "/run/mynetwork", "directory of sockets and mounts, shared with the node in both directions"},
		{"csi.root", "/host", "the node's root directory: data directories are made below it"},
		{"csi.max-volumes", 0, "how many volumes a node may have at most; 0 is no limit"},
		{"csi.socket", "/csi/csi.sock", "path of the driver's socket: the controller's for its sidecars, or the one to probe"},
		{"csi.control", "/etc/mynetwork/control", "directory with certificates, keys and authorities of all networks, by which agents are reached"},
		{"csi.metrics-address", "", "address that serves the controller's metrics over TLS to whom the API server allows it, as :8080; empty: nowhere"},
		{"csi.log-level", "info", "least level that is logged: debug, info, warn or error"},
	}
}
