package mailbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
)

const suffix = ".grant"

func (b *Box) path(v block.VolumeID) string { return filepath.Join(b.opt.Dir, v.String()+suffix) }

// load reads the grants that are on disk, and removes what is of no use.
func (b *Box) load() error {
	entries, err := os.ReadDir(b.opt.Dir)
	if err != nil {
		return fmt.Errorf("grants on disk: %w", err)
	}
	for _, e := range entries {
		base, ours := strings.CutSuffix(e.Name(), suffix)
		if !ours {
			continue
		}
		name := filepath.Join(b.opt.Dir, e.Name())
		k, err := b.readFile(name, base)
		if err != nil {
			b.opt.Log.Info("a grant on disk is of no use and removed", "file", name, "why", err)
			if err := os.Remove(name); err != nil {
				return fmt.Errorf("grants on disk: %w", err)
			}
			continue
		}
		b.kept[k.grant.Volume] = k
	}
	return nil
}

func (b *Box) readFile(name, volume string) (k keptGrant, err error) {
	if k.encoded, err = os.ReadFile(name); err != nil {
		return k, err
	}
	st, err := os.Stat(name)
	if err != nil {
		return k, err
	}
	k.since = st.ModTime()
	if k.grant, err = warrant.VerifyGrant(k.encoded, b.opt.Network, b.opt.Keys()); err != nil {
		return k, err
	}
	if g := k.grant; g.Volume.String() != volume || g.Node != b.opt.Node || g.Ended(b.opt.Now().Unix()) {
		return k, fmt.Errorf("it is for volume %s on node %s, until %s", g.Volume, g.Node, time.Unix(g.NotAfter, 0))
	}
	return k, nil
}

// valid gives a grant that holds for some time yet, and that a key which is trusted now has signed.
func (b *Box) valid(v block.VolumeID, left time.Duration) (keptGrant, bool) {
	b.mu.Lock()
	k, ok := b.kept[v]
	b.mu.Unlock()
	if !ok || k.grant.Ended(b.opt.Now().Add(left).Unix()) {
		return k, false
	}
	_, err := warrant.VerifyGrant(k.encoded, b.opt.Network, b.opt.Keys())
	return k, err == nil
}

// keep puts a grant where the next process finds it. That it cannot be written is told, and nothing else: it is used all the same.
func (b *Box) keep(g warrant.Grant, encoded []byte) {
	b.mu.Lock()
	b.kept[g.Volume] = keptGrant{grant: g, encoded: encoded, since: b.opt.Now()}
	delete(b.retry, g.Volume)
	b.mu.Unlock()
	if err := writeFile(b.path(g.Volume), encoded); err != nil {
		b.opt.Log.Warn("a grant is not on disk: this node cannot start again without the API server", "volume", g.Volume, "err", err)
	}
}

// writeFile replaces a file whole.
func writeFile(name string, b []byte) error {
	tmp := name + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// Holder says what is attached here and takes the grants that were renewed.
type Holder interface {
	// Attached lists the volumes whose grants must not end.
	Attached() []block.VolumeID
	// Renewed takes a new grant, to present it to the other nodes.
	Renewed(ctx context.Context, v block.VolumeID, encoded []byte) error
}

const (
	renewEvery = time.Minute // between looks at the clock; the API is asked only when a grant is due
	renewLimit = time.Minute // for one renewal
	renewAgain = 5 * time.Minute
)

// Run renews the grants of attached volumes once a third of their time has passed, until ctx ends. One that fails is tried again
// every five minutes, and days are left.
func (b *Box) Run(ctx context.Context, h Holder) {
	t := time.NewTicker(renewEvery)
	defer t.Stop()
	for {
		b.renew(ctx, h)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// renew looks once at all attached volumes.
func (b *Box) renew(ctx context.Context, h Holder) {
	for _, v := range h.Attached() {
		if !b.due(v) {
			continue
		}
		if err := b.renewOne(ctx, h, v); err != nil && ctx.Err() == nil {
			b.mu.Lock()
			b.retry[v] = b.opt.Now().Add(renewAgain)
			left := time.Unix(b.kept[v].grant.NotAfter, 0).Sub(b.opt.Now())
			b.mu.Unlock()
			b.opt.Log.Warn("the grant of an attached volume is not renewed yet", "volume", v, "ends in", left, "err", err)
		}
	}
}

// due tells whether a grant of ours is to be renewed now. A volume that needs none has none.
func (b *Box) due(v block.VolumeID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	k, ok := b.kept[v]
	now := b.opt.Now()
	if !ok || k.grant.NotAfter == 0 || now.Before(b.retry[v]) {
		return false
	}
	life := time.Unix(k.grant.NotAfter, 0).Sub(k.since)
	return now.Sub(k.since) > life/3
}

func (b *Box) renewOne(ctx context.Context, h Holder, v block.VolumeID) error {
	ctx, cancel := context.WithTimeout(ctx, renewLimit)
	defer cancel()
	unlock, err := b.lock(ctx, v)
	if err != nil {
		return err
	}
	encoded, err := b.askGrant(ctx, v)
	unlock()
	if err != nil {
		return err
	}
	return h.Renewed(ctx, v, encoded)
}
