// Package apiserver runs a real kube-apiserver and etcd with what config/ installs, for tests of the operator and to measure it.
//
// The programs lie in the directory that KUBEBUILDER_ASSETS names; hack/cluster builds them. Nothing else of Kubernetes runs: no
// scheduler, no controller, no kubelet. Package fleet plays the nodes.
//
// A Tap stands between a client and the server: it counts what is asked, and fails what a test says.
//
// Server and Tap may be used from any goroutine.
package apiserver
