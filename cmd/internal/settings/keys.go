package settings

import (
	"strings"
	"time"
)

// Key is one setting.
type Key struct {
	Name    string // with dots, as in the file
	Default any    // string, int, bool, time.Duration or []string
	Usage   string
}

// Flag is the name of the key's flag.
func (k Key) Flag() string {
	_, name, ok := strings.Cut(k.Name, ".")
	if !ok {
		return k.Name
	}
	return name
}

// shorthand is the flag's one letter, if it has one.
func (k Key) shorthand() string {
	if k.Name == "output" {
		return "o"
	}
	return ""
}

// Variable is the name of the key's environment variable.
func (k Key) Variable() string {
	return envPrefix + "_" + envReplacer().Replace(strings.ToUpper(k.Name))
}

const envPrefix = "MYNETWORK"

func envReplacer() *strings.Replacer { return strings.NewReplacer(".", "_", "-", "_") }

// Groups of keys: the part before the dot. Client keys have none.
const (
	Client = ""
	Agent  = "agent"
	Holder = "holder"
	Dev    = "dev"
	// Operator is the group of "mynetwork operator".
	Operator = "operator"
	CSI      = "csi"
)

// Group is the part of the key's name before the dot.
func (k Key) Group() string {
	group, _, ok := strings.Cut(k.Name, ".")
	if !ok {
		return Client
	}
	return group
}

// Keys lists all settings.
func Keys() []Key {
	return append([]Key{
		{"dir", "/var/lib/mynetwork/dev", "directory of the network that \"dev up\" makes; client commands find its agents there"},
		{"socket", "", "control socket of the one agent to talk to, instead of those of dir"},
		{"node", "", "node whose agent to talk to (default: the one that has the volume, else the first that answers)"},
		{"output", "table", "how results are written: table, json or yaml"},
		{"timeout", time.Minute, "how long to wait for an answer; scrub, fsck and events wait as long as they need"},

		{"dev.nodes", 3, "number of nodes"},
		{"dev.device", "fuse", "what attach makes by default: fuse (a block device), nbd (an NBD server on a unix socket) or none"},
		{"dev.port", 0, "port of the first node on 127.0.0.1, the others follow; 0 takes free ones. Fixed when the network is made"},
		{"dev.capacity", "0", "bytes that each node's store may use, as 10Gi; 0 is the whole file system. Fixed when the network is made"},
		{"dev.cache", "64MiB", "memory for each agent's cache of pages. Fixed when the network is made"},
		{"dev.patience", 5 * time.Minute, "how long a device waits for a dead agent before its I/O fails. Fixed when the network is made"},

		{"agent.node", "", "name of this node"},
		{"agent.network", "", "uid of the network, as in the certificates"},
		{"agent.members", []string{}, "all nodes of the network: name@host:port, with ;zone=Z and ;weight=W if they differ"},
		{"agent.layout", "", "file with the network's layout, which may be replaced at any time; empty, or missing: that of all members"},
		{"agent.stores", []string{}, "directories of this node's stores, with ;capacity=10Gi if one may not use its whole file system"},
		{"agent.format", false, "make a store in a directory that is empty; without it an empty directory is an error"},
		{"agent.dir", "", "the agent's own directory, devices are mounted below it"},
		{"agent.listen", "", "address of the peer server (default: the one that members has for this node)"},
		{"agent.control", "", "path of the control socket"},
		{"agent.holder", "", "path of the holder's socket; without it devices end with the agent"},
		{"agent.fuse-transport", "", "how requests of block devices travel: ublk (Linux 6.16 with its module loaded, an agent with privilege), devfuse, or io_uring, with which devices end with the agent, also when it is upgraded; empty: chosen"},
		{"agent.registry", "", "directory of the file registry, shared by the agents of a machine"},
		{"agent.tls", "", "directory with tls.crt, tls.key and ca.crt of this node"},
		{"agent.control-key", "", "file with the Ed25519 key (PEM, PKCS 8) that signs grants and deletion records"},
		{"agent.cluster", "", "name of the MyNetwork that this node belongs to; empty: no Kubernetes, the settings say everything"},
		{"agent.namespace", "", "namespace that agents run in; in a cluster only"},
		{"agent.address", "", "address that other nodes reach this one by, without port; in a cluster only (default: that of agent.listen)"},
		{"agent.ca", "", "file with the certificates of the network's authorities; in a cluster only, else agent.tls has it"},
		{"agent.control-listen", "", "address of the control protocol over TLS, for the operator and the CSI controller; in a cluster only"},
		{"agent.control-keys", []string{}, "Ed25519 keys (32 bytes, base64) whose grants and deletion records are accepted; in a cluster only"},
		{"agent.mounter", "", "path of the mounter's socket, that mounts for an agent without privileges; empty: it mounts itself"},
		{"agent.metrics-listen", "", "address that serves metrics: in a cluster over TLS to whom the API server allows it, else in clear on loopback alone; empty: nowhere"},
		{"agent.cache", "64MiB", "memory for the cache of pages; 0 is none"},
		{"agent.ring", "0", "size of a volume's write ring; 0 is the default"},
		{"agent.copy-rate", "", "bytes a second of copies that repairs and layout changes make, all volumes together, as 64MiB; 0 is no limit; empty is 64MiB while a volume of this node is written to, and no limit else"},
		{"agent.probe-interval", 500 * time.Millisecond, "how often members are asked whether they are there"},
		{"agent.scrub-period", 14 * 24 * time.Hour, "within which every byte of the stores is read in the background, and damage repaired from other nodes; 0 is never"},
		{"agent.scrub-limit", 16, "damaged areas in a day after which a disk is not trusted and its data moves away; 0 is no limit"},
		{"agent.grace", 10 * time.Minute, "how long a node may be away before its data is copied elsewhere; in a cluster the network says that"},
		{"agent.caretaker", true, "look after volumes that nobody uses: make copies that are missing, move those that are elsewhere than the layout says"},
		{"agent.log-level", "info", "least level that is logged: debug, info, warn or error"},

		{"holder.socket", "", "path of the holder's socket; its directory is made with mode 0700"},
		{"holder.patience", 5 * time.Minute, "how long a device waits for a dead agent before its I/O fails"},

		{"operator.namespace", "", "namespace of the operator, where agents and holders run too"},
		{"operator.image", "", "image of agents of networks that name none"},
		{"operator.holder-image", "", "image of holders of networks that name none; empty is the agents'"},
		{"operator.guard-image", "registry.k8s.io/pause:3.10", "image of the pods that guard storage nodes in a drain: one that waits until it is told to end"},
		{"operator.metrics-address", "0", "address that serves metrics over TLS to whom the API server allows it, as :8080; 0 is none"},
		{"operator.probe-address", "0", "address that serves /healthz and /readyz, as :8081; 0 is none"},
		{"operator.leader-election", true, "whether several operators may run, of which one leads"},
		{"operator.log-level", "info", "least level that is logged: debug, info, warn or error"},
	}, csiKeys()...)
}
