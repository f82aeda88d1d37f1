// Package cluster is an agent's part in Kubernetes: everything that it hears from there and says there. Below it nobody knows that
// there is a Kubernetes.
//
//	enrol      the node's certificate, by CertificateSigningRequest
//	directory  who is in the network: the MyNetwork's layout, and addresses from the Service's EndpointSlices
//	registry   the registry of volumes, on VolumeRecords
//	mailbox    grants and deletions, signed by the operator
//	report     the StorageNode: what the agent says of the node, and what the node may do
//	follow     lists and watches, without a cache
//
// Join waits until the node has a certificate. Follow starts what tells the agent of the network, from the disk first. Run keeps all
// of it going. Nothing here is needed for what is attached: with the API away an agent serves from what is on its disk, also after a restart.
//
// # Files in the agent's directory
//
//	directory.json, layouts/   see directory, and package layouts
//	grants/                    see mailbox
//	member.grant               the grant for every volume, as it was signed
//
// Concurrency: Node is safe for concurrent use. Run is a Runnable.
package cluster
