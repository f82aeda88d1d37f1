// Package plane is the control plane of a test cluster and the settings of its nodes: keys and certificates, etcd, the API
// server, the controller manager, the scheduler, and how a kubelet, containerd and kube-proxy are told to run.
//
// Everything that decides how long a failure takes to be noticed is Kubernetes' default, unless the cluster was started
// with Quick. What differs from the defaults otherwise is said where it is set.
//
// Concurrency: callers hold the record's lock.
package plane
