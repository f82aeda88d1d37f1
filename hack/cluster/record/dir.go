package record

import "path/filepath"

// Dir is the directory of a test cluster: programs, images, certificates, disks of nodes, logs and the record.
type Dir string

// Bin is the path of a built program.
func (d Dir) Bin(name string) string { return filepath.Join(string(d), "bin", name) }

// Images is the directory of image archives; every node imports what it finds there when it starts.
func (d Dir) Images() string { return filepath.Join(string(d), "images") }

// PKI is the directory of keys and certificates.
func (d Dir) PKI() string { return filepath.Join(string(d), "pki") }

// Kubeconfig is the administrator's kubeconfig, for programs outside of the cluster.
func (d Dir) Kubeconfig() string { return filepath.Join(string(d), "kubeconfig") }

// Etcd is etcd's data directory.
func (d Dir) Etcd() string { return filepath.Join(string(d), "etcd") }

// Addons is the directory of manifests that are applied to a new cluster.
func (d Dir) Addons() string { return filepath.Join(string(d), "addons") }

// Log is the path of a log: of "etcd", or of "n1/kubelet".
func (d Dir) Log(name string) string { return filepath.Join(string(d), "log", name+".log") }

// Logs is the directory of all logs.
func (d Dir) Logs() string { return filepath.Join(string(d), "log") }

// Node is the directory of a node: its root file system below "root", which outlives a power-off as a disk does.
func (d Dir) Node(name string) string { return filepath.Join(string(d), "nodes", name) }

// Nodes is the directory of all nodes.
func (d Dir) Nodes() string { return filepath.Join(string(d), "nodes") }

func (d Dir) file() string { return filepath.Join(string(d), "run.json") }
