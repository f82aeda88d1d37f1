// Package e2e is Kubernetes' own end-to-end suite for storage drivers, as one test program: what of k8s.io/kubernetes/test/e2e
// tests an external driver, which a file describes (-storage.testdriver). Run it by `make e2e-external`.
package e2e
