package blockmap

import (
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// Errors of this package; wrapped with what was looked at.
var (
	ErrFormat = errors.New("malformed map page")
	ErrEdit   = errors.New("invalid map edit")
)

// Addr names a stored page: generation, block number, page within the block. 0 is a hole.
type Addr uint64

// Limits of the parts of an Addr.
const (
	MaxGeneration = journal.MaxLineage
	MaxBlock      = 1<<40 - 1
)

// New makes an address. The block number is cut to 40 bits.
func New(gen uint16, block uint64, page uint8) Addr {
	return Addr(uint64(gen)<<48 | block&MaxBlock<<8 | uint64(page))
}

// Gen is how many ancestors up the page's birth volume is.
func (a Addr) Gen() uint16 { return uint16(a >> 48) }

// Block is the block number within the birth volume.
func (a Addr) Block() uint64 { return uint64(a) >> 8 & MaxBlock }

// Page is the page within the block.
func (a Addr) Page() uint8 { return uint8(a) }

// Shift is the address as seen gen generations further down; a hole stays a hole. It returns ErrFormat for an address
// that no volume can hold: block 0, a page beyond a block, or more than MaxGeneration generations.
func (a Addr) Shift(gen uint16) (Addr, error) {
	if a == 0 {
		return 0, nil
	}
	if !a.validAt(gen) {
		return 0, fmt.Errorf("address %s, %d generations down: %w", a, gen, ErrFormat)
	}
	return a + Addr(gen)<<48, nil
}

func (a Addr) validAt(gen uint16) bool {
	return a.Block() != 0 && a.Page() < block.MaxPages && uint32(a.Gen())+uint32(gen) <= MaxGeneration
}

// String is "generation:block.page", or "hole".
func (a Addr) String() string {
	if a == 0 {
		return "hole"
	}
	return fmt.Sprintf("%d:%d.%d", a.Gen(), a.Block(), a.Page())
}

// Clone is root as its volume's clone sees it: one generation further up.
func Clone(root journal.MapRoot) (journal.MapRoot, error) {
	a, err := Addr(root.Addr).Shift(1)
	if err != nil {
		return journal.MapRoot{}, fmt.Errorf("clone root: %w", err)
	}
	return journal.MapRoot{Addr: uint64(a), Levels: root.Levels}, nil
}
