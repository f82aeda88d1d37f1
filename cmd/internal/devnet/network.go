package devnet

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/cmd/internal/control"
)

// Errors of networks.
var (
	ErrNone    = errors.New("no network here: make one with \"mynetwork dev up\"")
	ErrForeign = errors.New("the directory holds something else")
	ErrLocked  = errors.New("another command is starting or stopping this network; try again when it has ended")
	ErrNode    = errors.New("no such node")
	ErrCorrupt = errors.New("network.json cannot be used")
)

// version of network.json; it only climbs.
const version = 1

// MaxNodes bounds a network on one machine.
const MaxNodes = 64

// Node is one node of the network.
type Node struct {
	Name    string `json:"name"`
	Address string `json:"address"` // of its peer server
}

// Network is what network.json says.
type Network struct {
	Version  int           `json:"version"`
	UID      string        `json:"uid"`
	Created  time.Time     `json:"created"`
	Device   string        `json:"device"`
	Capacity int64         `json:"capacity"` // bytes of each store; 0: the whole file system
	Cache    int64         `json:"cache"`    // bytes of each agent's cache
	Patience time.Duration `json:"patience"` // of the holders, in nanoseconds
	Nodes    []Node        `json:"nodes"`

	// Via, for tests that put something between nodes, has under "n1>n2" the address by which n1 reaches n2, if it is not n2's own.
	Via map[string]string `json:"via,omitempty"`
	// Agent are settings of all agents, by the names that "mynetwork help configuration" lists below agent, beside those that this package sets.
	Agent map[string]any `json:"agent,omitempty"`

	dir string
}

// Dir is the network's directory, absolute.
func (n *Network) Dir() string { return n.dir }

func (n *Network) path(elem ...string) string {
	return filepath.Join(append([]string{n.dir}, elem...)...)
}

// AgentSocket is the path of a node's control socket.
func (n *Network) AgentSocket(node string) string { return n.path(node, "run", "agent.sock") }

// HolderSocket is the path of the socket of a node's holder.
func (n *Network) HolderSocket(node string) string { return n.path(node, "run", "holder.sock") }

// Store is the directory of a node's store.
func (n *Network) Store(node string) string { return n.path(node, "store") }

// Registry is the directory of the file registry.
func (n *Network) Registry() string { return n.path("registry") }

// Log is the path of a process's log; kind is "agent" or "holder".
func (n *Network) Log(node, kind string) string { return n.path(node, kind+".log") }

// AgentFile is the path of the settings of a node's agent.
func (n *Network) AgentFile(node string) string { return n.path(node, "agent.yaml") }

// Lock keeps other commands from starting or stopping the network's processes. Errors: ErrLocked.
func (n *Network) Lock() (unlock func(), err error) { return lock(n.dir, lockWithin) }

// Running lists the nodes whose agents run.
func (n *Network) Running() (nodes []string) {
	for _, m := range n.Nodes {
		if p, ok := recorded(n.pidFile(m.Name, "agent")); ok && p.alive() {
			nodes = append(nodes, m.Name)
		}
	}
	return nodes
}

func (n *Network) pidFile(node, kind string) string { return n.path(node, kind+".pid") }

// Node finds a node by name.
func (n *Network) Node(name string) (Node, error) {
	i := slices.IndexFunc(n.Nodes, func(m Node) bool { return m.Name == name })
	if i < 0 {
		var names []string
		for _, m := range n.Nodes {
			names = append(names, m.Name)
		}
		return Node{}, fmt.Errorf("%w: %q; there are %s", ErrNode, name, strings.Join(names, ", "))
	}
	return n.Nodes[i], nil
}

// Load reads the network of a directory. Errors: ErrNone, ErrForeign, ErrCorrupt.
func Load(dir string) (*Network, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	b, err := os.ReadFile(filepath.Join(dir, "network.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, absent(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	n := &Network{dir: dir}
	if err := json.Unmarshal(b, n); err != nil {
		return nil, fmt.Errorf("%w: %s: %w; restore it, or move the directory away and start anew", ErrCorrupt, dir, err)
	}
	if n.Version != version {
		return nil, fmt.Errorf("%w: %s is of version %d, this program knows %d", ErrCorrupt, dir, n.Version, version)
	}
	return n, n.check()
}

// absent says why a directory has no network.
func absent(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	for _, e := range list {
		if e.Name() != "lock" {
			return fmt.Errorf("%w: %s has %s and no network.json; choose another with --dir", ErrForeign, dir, e.Name())
		}
	}
	return fmt.Errorf("%s: %w", dir, ErrNone)
}

// check refuses what would lead out of the directory.
func (n *Network) check() error {
	if len(n.Nodes) == 0 || len(n.Nodes) > MaxNodes {
		return fmt.Errorf("%w: %d nodes, 1 to %d are possible", ErrCorrupt, len(n.Nodes), MaxNodes)
	}
	at := 0
	for i, m := range n.Nodes { // in order, and some may have been removed
		for at < MaxNodes && m.Name != nodeName(at) {
			at++
		}
		if at == MaxNodes || m.Address == "" {
			return fmt.Errorf("%w: node %d is called %q at %q", ErrCorrupt, i+1, m.Name, m.Address)
		}
		at++
	}
	return nil
}

func nodeName(i int) string { return fmt.Sprintf("n%d", i+1) }

// newNetwork plans a network in a directory that holds nothing else. Nothing is written.
func newNetwork(dir string, o UpOptions) (*Network, error) {
	if o.Nodes < 1 || o.Nodes > MaxNodes {
		return nil, fmt.Errorf("%d nodes, 1 to %d are possible", o.Nodes, MaxNodes)
	}
	uid := make([]byte, 8)
	_, _ = rand.Read(uid) // never fails
	n := &Network{
		Version: version, UID: "dev-" + hex.EncodeToString(uid), Created: time.Now().UTC().Truncate(time.Second), Device: o.Device,
		Capacity: o.Capacity, Cache: o.Cache, Patience: o.Patience, dir: dir,
	}
	addresses, err := addresses(o.Nodes, o.Port)
	if err != nil {
		return nil, err
	}
	for i, a := range addresses {
		n.Nodes = append(n.Nodes, Node{Name: nodeName(i), Address: a})
	}
	if s := n.HolderSocket(nodeName(o.Nodes - 1)); len(s) > control.MaxSocket {
		return nil, fmt.Errorf("the path of a unix socket would be longer than %d bytes: %s; choose a shorter --dir", control.MaxSocket, s)
	}
	return n, nil
}

// save writes network.json, whole or not at all.
func (n *Network) save() error {
	b, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(n.path("network.json"), append(b, '\n'), 0o600)
}

// writeFile replaces a file, whole or not at all.
func writeFile(name string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// lockWithin is how long a command waits for another one that works on the same network.
const lockWithin = 20 * time.Second

// lock takes the directory for this process.
func lock(dir string, within time.Duration) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the network: %w", err)
	}
	for end := time.Now().Add(within); ; time.Sleep(poll) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(end) {
			_ = f.Close()
			return nil, fmt.Errorf("%s: %w", dir, ErrLocked)
		}
	}
}
