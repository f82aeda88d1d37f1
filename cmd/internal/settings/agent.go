package settings

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"mynetwork.io/mynetwork/cmd/internal/size"
	"mynetwork.io/mynetwork/nodeagent/agent"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

// ErrValue tells that a setting has a value that it cannot have.
var ErrValue = errors.New("setting")

// Config turns the values into an agent's configuration: it reads the certificates and the control key that they name.
func (a *AgentValues) Config(version string, log *slog.Logger) (agent.Config, error) {
	c := agent.Config{
		Node: a.Node, Network: a.Network, Version: version, Format: a.Format, Dir: a.Dir, Listen: a.Listen, Control: a.Control,
		Holder: a.Holder, Mounter: a.Mounter, Registry: a.Registry, Layout: a.Layout, ProbeInterval: a.ProbeInterval, Log: log,
		FuseTransport: fuse.Transport(a.FuseTransport), Metrics: a.MetricsListen, ScrubPeriod: a.ScrubPeriod, ScrubLimit: a.ScrubLimit, Grace: a.Grace, NoCaretaker: !a.Caretaker,
	}
	if c.ScrubPeriod == 0 {
		c.ScrubPeriod = -1
	}
	if c.ScrubLimit == 0 {
		c.ScrubLimit = -1
	}
	var err error
	if c.Members, err = Members(a.Members); err != nil {
		return c, err
	}
	if c.Stores, err = stores(a.Stores); err != nil {
		return c, err
	}
	if c.CacheBytes, err = size.Parse(a.Cache); err != nil {
		return c, fmt.Errorf("%w agent.cache: %w", ErrValue, err)
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = -1
	}
	ring, err := size.Parse(a.Ring)
	if err != nil {
		return c, fmt.Errorf("%w agent.ring: %w", ErrValue, err)
	}
	c.RingBytes = int(ring)
	if a.CopyRate != "" {
		if c.CopyRate, err = size.Parse(a.CopyRate); err != nil {
			return c, fmt.Errorf("%w agent.copy-rate: %w", ErrValue, err)
		}
		if c.CopyRate == 0 {
			c.CopyRate = -1
		}
	}
	if a.Cluster != "" {
		c.Cluster, err = a.cluster()
		return c, err
	}
	if a.TLS == "" || a.ControlKey == "" {
		return c, fmt.Errorf("%w agent.tls and agent.control-key name this node's certificates and key; there is no mode without them", ErrValue)
	}
	if c.Credentials, err = identity.LoadCredentials(a.tlsFile("tls.crt"), a.tlsFile("tls.key"), a.tlsFile("ca.crt"), identity.CredentialOptions{}); err != nil {
		return c, fmt.Errorf("%w agent.tls: %w", ErrValue, err)
	}
	c.ControlKey, err = ReadControlKey(a.ControlKey)
	return c, err
}

// cluster is what a node of Kubernetes is told.
func (a *AgentValues) cluster() (*agent.Cluster, error) {
	k := &agent.Cluster{Name: a.Cluster, Namespace: a.Namespace, Address: a.Address, CA: a.CA, TLS: a.TLS, ControlListen: a.ControlListen}
	for _, text := range a.ControlKeys {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w agent.control-keys: %q is no Ed25519 key of %d bytes in base64", ErrValue, text, ed25519.PublicKeySize)
		}
		k.ControlKeys = append(k.ControlKeys, key)
	}
	if a.ControlKey != "" {
		return nil, fmt.Errorf("%w agent.control-key: in a cluster only the operator has it; take it away", ErrValue)
	}
	return k, nil
}

// Members reads name@host:port;zone=Z;weight=W.
func Members(list []string) (out []agent.Member, err error) {
	for _, s := range list {
		head, opt, err := split(s, "zone", "weight")
		if err != nil {
			return nil, fmt.Errorf("%w agent.members: %w", ErrValue, err)
		}
		node, address, ok := strings.Cut(head, "@")
		if !ok || node == "" || address == "" {
			return nil, fmt.Errorf("%w agent.members: %q is not name@host:port", ErrValue, s)
		}
		m := agent.Member{Node: node, Address: address, Zone: opt["zone"]}
		if w, ok := opt["weight"]; ok {
			if m.Weight, err = strconv.ParseUint(w, 10, 32); err != nil || m.Weight == 0 {
				return nil, fmt.Errorf("%w agent.members: weight %q of %s is not a whole number above 0", ErrValue, w, node)
			}
		}
		out = append(out, m)
	}
	return out, nil
}

func stores(list []string) (out []agent.StoreConfig, err error) {
	for _, s := range list {
		path, opt, err := split(s, "capacity")
		if err != nil {
			return nil, fmt.Errorf("%w agent.stores: %w", ErrValue, err)
		}
		st := agent.StoreConfig{Path: path}
		if c, ok := opt["capacity"]; ok {
			if st.Capacity, err = size.Parse(c); err != nil {
				return nil, fmt.Errorf("%w agent.stores: capacity of %s: %w", ErrValue, path, err)
			}
		}
		out = append(out, st)
	}
	return out, nil
}

// ReadControlKey reads an Ed25519 key in PEM, PKCS 8.
func ReadControlKey(name string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%w agent.control-key: %w", ErrValue, err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%w agent.control-key: %s is no PEM", ErrValue, name)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w agent.control-key: %s: %w", ErrValue, name, err)
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w agent.control-key: %s is not an Ed25519 key", ErrValue, name)
	}
	return key, nil
}

// Logger writes to standard error from the level that the settings name.
func (a *AgentValues) Logger() (*slog.Logger, error) { return logger("agent.log-level", a.LogLevel) }

func (a *AgentValues) tlsFile(name string) string { return filepath.Join(a.TLS, name) }
