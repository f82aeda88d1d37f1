package agent

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/metrics/scrape"
	"mynetwork.io/mynetwork/nodeagent/agent/caretaker"
	"mynetwork.io/mynetwork/nodeagent/agent/scrub"
	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/export/device"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

// ErrConfig is returned for a configuration that cannot work.
var ErrConfig = errors.New("agent configuration")

// Config is what an agent is made with. New fills the fields whose default is named, and validates.
type Config struct {
	Node    string // this node's name; without a cluster Members must have it
	Network string // uid of the network, as in the certificates
	Version string // of the binary, for people; default "dev"

	// Stores are the directories, or mount points, of this node's stores.
	Stores []StoreConfig
	// Format allows to make a store in a directory that is empty. Without it an empty directory is an error: a disk that
	// was not mounted must not look like a new one.
	Format bool

	// Dir is the agent's own directory: devices are mounted below it. It may be emptied while the agent is down.
	Dir string
	// Listen is the address of the peer server. Default: the address that Members has for Node.
	Listen string
	// Control is the path of the control socket; its directory is made with mode 0700.
	Control string
	// Holder is the path of the holder's socket. Empty: rings and devices end with this process.
	Holder string
	// Mounter is the path of the mounter's socket, which does what takes privilege. Empty: this process does it.
	Mounter string
	// FuseTransport is how requests of FUSE devices travel: fuse.DevFuse, or fuse.Uring, with which they end with this process
	// although there is a holder. Empty: chosen.
	FuseTransport fuse.Transport

	// What follows is that of a network on one machine, where the settings say everything. It is empty in a cluster.

	// Registry is the directory of the file registry, shared by all agents of this machine.
	Registry string
	// Members are all nodes of the network, this one included.
	Members []Member
	// Layout is a file with the network's layout, encoded by core/placement, that may be replaced at any time. Empty, or
	// while there is none: the layout of all members, with equal weights.
	Layout string
	// Credentials are this node's for mutual TLS.
	Credentials *identity.Credentials
	// ControlKey signs grants and deletion records. A single machine's agents share it.
	ControlKey ed25519.PrivateKey

	// Cluster is that of a network in Kubernetes; nil: this is none.
	Cluster *Cluster

	// Metrics is the address that metrics are served on. Without a host it is the address of the pod; without a cluster it has to be a
	// loopback address. Empty: nowhere.
	Metrics string
	// CacheBytes bounds the cache of pages; 0 is the default of 64 MiB, below 0 there is none.
	CacheBytes int64
	// RingBytes is the size of a volume's write ring; 0 is ring.DefaultSize.
	RingBytes int
	// CopyRate bounds the copies that this agent's volumes make because of repairs and layouts, bytes a second over all of them;
	// 0 is pace.DefaultRate beside writes and no limit without, below 0 there is no limit. The last copy of anything is copied without waiting.
	CopyRate int64
	// ProbeInterval is how often members are asked whether they are there. Default: 500 ms.
	ProbeInterval time.Duration
	// ScrubPeriod is the time within which every byte of the stores is read and checked, and mended if it is damaged. 0 is
	// scrub.DefaultPeriod, below 0 nothing is.
	ScrubPeriod time.Duration
	// ScrubLimit is how many bad areas in a day make a disk suspected: its data moves away. 0 is scrub.DefaultLimit, below 0 none do.
	ScrubLimit int
	// Grace is how long a node may be away before its copies are made anew elsewhere, where no operator decides that, and how long nothing
	// has to be heard of the writer of a volume before it is looked after as one that nobody uses. 0 is caretaker.DefaultGrace.
	Grace time.Duration
	// Quiet is how long nothing has to have happened to a volume before it is opened to look after it. 0 is caretaker.DefaultQuiet.
	Quiet time.Duration
	// Survey is how often stores are asked what they hold, and the registry what volumes are to have, where nothing has changed. 0 is caretaker.DefaultEvery.
	Survey time.Duration
	// Adaptive says when volumes that have bounds for it gain and lose copies by how much they are read. Zero is adaptive.Default.
	Adaptive adaptive.Rules
	// AdaptiveEvery is how often that is looked at. 0 is demand.Every.
	AdaptiveEvery time.Duration
	// Clearing says when a store is short of space and gets it back sooner than usual. Zero is clearing.Default.
	Clearing clearing.Rules
	// ClearingEvery is how often that is looked at. 0 is space.Every.
	ClearingEvery time.Duration
	// NoCaretaker leaves volumes alone that nobody uses.
	NoCaretaker bool
	// Log takes what happens. Default: slog.Default().
	Log *slog.Logger
}

// Cluster says which network of Kubernetes a node belongs to, and what of it does not come from there.
type Cluster struct {
	Name      string // of the MyNetwork
	Namespace string // of the agents
	Address   string // that other nodes reach this one by, without port
	CA        string // file with the certificates of the network's authorities
	TLS       string // directory of this node's key and certificate
	// ControlListen is the address of the control protocol over TLS.
	ControlListen string
	// ControlKeys are those whose grants and deletion records are accepted.
	ControlKeys []ed25519.PublicKey
	// API is the client; nil: that of the cluster that this process runs in.
	API client.WithWatch
	// Reviews says who may read metrics; nil: the API server of the cluster that this process runs in.
	Reviews scrape.API
}

// StoreConfig is one store of this node.
type StoreConfig struct {
	Path     string
	Capacity int64 // bytes it may use; 0 is the whole file system
	Log      int64 // bytes of its write-ahead log, when it is made; 0 is 256 MiB
	// Wrap makes what the store sees of its directory, for who measures or tests what a bad disk does. Nil: the directory itself.
	Wrap func(disk.FS) disk.FS `json:"-"`
}

// Member is a node of the network.
type Member struct {
	Node    string
	Address string // host:port of its peer server
	Zone    string // failure domain; empty: one for all
	Weight  uint64 // share of the data; 0 is 1
}

// WithDefaults fills what is empty.
func (c Config) WithDefaults() Config {
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 64 << 20
	}
	if c.ProbeInterval == 0 {
		c.ProbeInterval = 500 * time.Millisecond
	}
	if c.ScrubPeriod == 0 {
		c.ScrubPeriod = scrub.DefaultPeriod
	}
	if c.Grace == 0 {
		c.Grace = caretaker.DefaultGrace
	}
	if c.Listen == "" {
		for _, m := range c.Members {
			if m.Node == c.Node {
				c.Listen = m.Address
			}
		}
	}
	return c
}

// Validate checks a configuration whose defaults are filled in.
func (c Config) Validate() error {
	switch {
	case c.Node == "" || c.Network == "":
		return fmt.Errorf("%w: node %q of network %q: both need a name", ErrConfig, c.Node, c.Network)
	case c.Dir == "" || !filepath.IsAbs(c.Dir):
		return fmt.Errorf("%w: directory %q is not an absolute path", ErrConfig, c.Dir)
	case c.Control == "":
		return fmt.Errorf("%w: no path for the control socket", ErrConfig)
	case c.RingBytes != 0 && c.RingBytes < 1<<20:
		return fmt.Errorf("%w: a ring of %d bytes, at least 1 MiB is needed", ErrConfig, c.RingBytes)
	}
	if c.Adaptive != (adaptive.Rules{}) {
		if err := c.Adaptive.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	if _, port, err := net.SplitHostPort(c.Metrics); c.Metrics != "" && (err != nil || !number(port)) {
		return fmt.Errorf("%w: metrics on %q: that is no address with a port", ErrConfig, c.Metrics)
	}
	if c.Cluster != nil {
		return c.validateCluster()
	}
	return c.validateMachine()
}

func number(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// validateCluster checks what a node of Kubernetes needs.
func (c Config) validateCluster() error {
	k := c.Cluster
	switch {
	case c.Registry != "" || c.Layout != "" || len(c.Members) > 0 || c.Credentials != nil || c.ControlKey != nil || c.Format:
		return fmt.Errorf("%w: registry, members, credentials, control key and format are for networks without Kubernetes; network %s has a cluster", ErrConfig, k.Name)
	case k.Name == "" || k.Namespace == "" || k.Address == "" || k.CA == "" || k.TLS == "" || k.ControlListen == "":
		return fmt.Errorf("%w: a node of a cluster needs a network's name, a namespace, its own address, a file of authorities, a directory for its certificate "+
			"and an address for control; it has %q, %q, %q, %q, %q and %q", ErrConfig, k.Name, k.Namespace, k.Address, k.CA, k.TLS, k.ControlListen)
	case len(k.ControlKeys) == 0:
		return fmt.Errorf("%w: without control keys no grant is accepted", ErrConfig)
	}
	for _, key := range k.ControlKeys {
		if len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: a control key has %d bytes, an Ed25519 key %d", ErrConfig, len(key), ed25519.PublicKeySize)
		}
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("%w: address of the peer server: %w", ErrConfig, err)
	}
	return nil
}

// validateMachine checks what a node without Kubernetes needs.
func (c Config) validateMachine() error {
	switch {
	case c.Registry == "":
		return fmt.Errorf("%w: no directory for the registry", ErrConfig)
	case c.Credentials == nil || len(c.ControlKey) != ed25519.PrivateKeySize:
		return fmt.Errorf("%w: credentials or control key are missing", ErrConfig)
	case c.Credentials.Self().Node != c.Node || c.Credentials.Self().Network != c.Network:
		return fmt.Errorf("%w: credentials are for %s, this is node %s of network %s", ErrConfig, c.Credentials.Self().URI(), c.Node, c.Network)
	case c.FuseTransport != "" && c.FuseTransport != fuse.DevFuse && c.FuseTransport != fuse.Uring && c.FuseTransport != device.Ublk:
		return fmt.Errorf("%w: transport %q for block devices: it is %s, %s or %s", ErrConfig, c.FuseTransport, device.Ublk, fuse.DevFuse, fuse.Uring)
	}
	seen := map[string]bool{}
	for _, m := range c.Members {
		if m.Node == "" || m.Address == "" || seen[m.Node] {
			return fmt.Errorf("%w: member %q at %q has no name, no address, or is named twice", ErrConfig, m.Node, m.Address)
		}
		seen[m.Node] = true
	}
	if !seen[c.Node] {
		return fmt.Errorf("%w: node %s is not among the members", ErrConfig, c.Node)
	}
	return nil
}
