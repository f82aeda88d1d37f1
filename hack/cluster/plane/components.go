package plane

import (
	"path/filepath"

	"mynetwork.io/mynetwork/hack/cluster/machine"
	"mynetwork.io/mynetwork/hack/cluster/record"
)

func etcdArgs(r *record.Record) []string {
	return []string{r.Dir().Bin(etcd), "--name=cluster", "--data-dir=" + r.Dir().Etcd(),
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=cluster=http://127.0.0.1:2380",
		"--unsafe-no-fsync", // a crash of the real machine ends the cluster anyway; a loaded disk must not
		"--log-level=warn"}
}

func apiServerArgs(r *record.Record) []string {
	pki := func(f string) string { return filepath.Join(r.Dir().PKI(), f) }
	args := []string{r.Dir().Bin(apiServer), "--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=" + machine.APIAddress, "--advertise-address=" + machine.APIAddress, "--secure-port=6443",
		"--client-ca-file=" + pki("ca.crt"), "--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + pki("sa.pub"), "--service-account-signing-key-file=" + pki("sa.key"),
		"--service-cluster-ip-range=" + serviceNet, "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--kubelet-client-certificate=" + pki("kubelet-client.crt"), "--kubelet-client-key=" + pki("kubelet-client.key"),
		"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP,Hostname",
		"--requestheader-client-ca-file=" + pki("ca.crt"), "--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + pki("front-proxy.crt"), "--proxy-client-key-file=" + pki("front-proxy.key"),
		"--enable-aggregator-routing=true", // no kube-proxy here: webhooks are reached at their pods
		"--profiling=false"}
	if r.Settings.Quick {
		args = append(args, "--default-not-ready-toleration-seconds=5", "--default-unreachable-toleration-seconds=5")
	}
	return args
}

func controllerArgs(r *record.Record) []string {
	pki := func(f string) string { return filepath.Join(r.Dir().PKI(), f) }
	args := []string{r.Dir().Bin(controller), "--kubeconfig=" + pki(controller+".kubeconfig"), "--bind-address=127.0.0.1",
		"--service-account-private-key-file=" + pki("sa.key"), "--root-ca-file=" + pki("ca.crt"),
		"--cluster-signing-cert-file=" + pki("ca.crt"), "--cluster-signing-key-file=" + pki("ca.key"),
		"--use-service-account-credentials=true", "--leader-elect=false"}
	if r.Settings.Quick {
		args = append(args, "--node-monitor-period=1s", "--node-monitor-grace-period=12s",
			"--node-eviction-rate=10", "--secondary-node-eviction-rate=10")
	}
	return args
}

func schedulerArgs(r *record.Record) []string {
	return []string{r.Dir().Bin(scheduler), "--kubeconfig=" + filepath.Join(r.Dir().PKI(), scheduler+".kubeconfig"),
		"--bind-address=127.0.0.1", "--leader-elect=false"}
}

func snapshotArgs(r *record.Record) []string {
	return []string{r.Dir().Bin(snapshots), "--kubeconfig=" + filepath.Join(r.Dir().PKI(), "snapshots.kubeconfig"),
		"--feature-gates=CSIVolumeGroupSnapshot=true", "--leader-election=false"}
}
