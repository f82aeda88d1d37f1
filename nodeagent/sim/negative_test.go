package sim

import (
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// TestNegativeControls breaks one rule at a time; a run must notice within a few seeds.
func TestNegativeControls(t *testing.T) {
	formats := &Formats{}
	for _, c := range []struct {
		name  string
		spoil func(c *Config)
	}{
		{"disks whose sync does nothing", func(c *Config) {
			c.LyingDisks = true
			c.Only = map[string]bool{"power cut of all": true, "power cut": true}
		}},
		{"acknowledged before the commit", func(c *Config) {
			c.Lie = eagerAck{}
			c.Only = map[string]bool{"power cut of all": true, "slow disk": true, "stuck sync": true}
			c.Calm = 400 * time.Millisecond
		}},
		{"quorum of one counts as more", func(c *Config) {
			c.Lie = falseQuorum{}
			c.Only = map[string]bool{"power cut": true, "kill": true}
		}},
		{"recovery asks a minority", func(c *Config) { c.Lie = minority{} }},
		{"promises do not survive a restart", func(c *Config) {
			c.Lie = &forgetful{promised: make(map[*node]map[block.VolumeID]block.Epoch)}
			c.Stay /= 4
		}},
		{"ring lost with the process", func(c *Config) {
			c.Lie = lossyRing{}
			c.AbandonRing = 0
			c.Only = map[string]bool{"kill": true}
		}},
		{"pages are not verified", func(c *Config) { c.Lie, c.CachePages = wrongCache{}, 300 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := uint64(1); seed <= 30; seed++ {
				cfg := Shape(seed)
				cfg.Formats = formats
				cfg.Calm, cfg.Clones = time.Second, 0
				c.spoil(&cfg)
				if r := Run(seed, cfg); r.Failure != nil {
					t.Logf("seed %d: %.200s", seed, r.Failure.Error())
					if p := r.Failure.Promise; p != 0 && p != 6 && p != 7 {
						return
					}
				}
			}
			t.Fatal("30 seeds did not notice it")
		})
	}
}

// TestMoveControls breaks the rules by which copies move; a run must notice within 300 seeds.
func TestMoveControls(t *testing.T) {
	formats := &Formats{}
	for name, l := range map[string]func() lie{
		"dropped before the new copy is there":  func() lie { return &claimedCopy{claims: make(map[claim]replica.State)} },
		"the last copy is dropped":              func() lie { return freeAll{} },
		"dropped without a word in a directory": func() lie { return hastyMove{} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 300; seed++ {
				cfg := Shape(seed)
				if !cfg.Layouts {
					continue
				}
				cfg.Formats, cfg.Lie, cfg.Porcupine = formats, l(), false
				cfg.Only = map[string]bool{"node added": true, "node drained": true, "drain cancelled": true, "node re-weighted": true, "kill": true}
				if r := Run(seed, cfg); r.Failure != nil {
					t.Logf("seed %d: %.300s", seed, r.Failure.Error())
					if p := r.Failure.Promise; p != 0 && p != 7 {
						return
					}
				}
			}
			t.Fatal("300 seeds did not notice it")
		})
	}
}

// TestDeterminism runs seeds twice: the traces must be the same, event for event.
func TestDeterminism(t *testing.T) {
	for seed := uint64(1); seed <= 6; seed++ {
		a, b := Run(seed, Shape(seed)), Run(seed, Shape(seed))
		if a.Hash != b.Hash || a.Counts != b.Counts {
			t.Fatalf("seed %d: %x %+v, then %x %+v", seed, a.Hash, a.Counts, b.Hash, b.Counts)
		}
	}
}
