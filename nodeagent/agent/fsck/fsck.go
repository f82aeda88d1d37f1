package fsck

import (
	"context"
	"crypto/ed25519"
	"errors"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// Options are what a Checker works with.
type Options struct {
	Node       string
	Network    string
	ControlKey ed25519.PublicKey
	Registry   registry.Store
	Members    *members.Table
	Transport  replica.Transport
	Grants     volumes.Granter
	Volumes    *volumes.Manager
	Stores     *stores.Set
}

// Checker checks. The zero value is not usable: see New.
type Checker struct {
	opt Options
}

// New makes a checker.
func New(o Options) *Checker { return &Checker{opt: o} }

var errNotYet = errors.New("not implemented yet")

// Scrub implements control.Checker.
func (c *Checker) Scrub(context.Context, string, []byte, func(*agentv1.Progress) error) error {
	return errNotYet
}

// Fsck implements control.Checker.
func (c *Checker) Fsck(context.Context, *agentv1.FsckRequest, func(*agentv1.Progress) error) error {
	return errNotYet
}

// ScrubStores implements control.Checker.
func (c *Checker) ScrubStores(context.Context, []string, func(*agentv1.Progress) error) error {
	return errNotYet
}

// Rebuild implements control.Checker.
func (c *Checker) Rebuild(context.Context, bool) ([]*agentv1.Rebuilt, error) { return nil, errNotYet }
