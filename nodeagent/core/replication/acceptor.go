package replication

import (
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Errors of the acceptor. A fenced writer must stop for good.
var (
	ErrFenced = errors.New("fenced: a later writer has been promised this volume")
)

// Admit decides whether a replica that has promised `promised` for a volume takes orders of a writer at `sender`.
// It returns ErrFenced if not; raise tells that the promise must be raised to sender, durably, before the answer.
// One token is accepted per number: whoever came first under a number keeps it (invariant R1). Number 0 is no writer's.
func Admit(promised, sender block.Epoch) (raise bool, err error) {
	if sender.Number == 0 {
		return false, fmt.Errorf("epoch %s is no writer's: %w", sender, ErrFenced)
	}
	if sender.Number == promised.Number && sender.Token != promised.Token {
		return false, fmt.Errorf("epoch %s, promised %s (other token): %w", sender, promised, ErrFenced)
	}
	switch sender.Compare(promised) {
	case -1:
		return false, fmt.Errorf("epoch %s, promised %s: %w", sender, promised, ErrFenced)
	case 0:
		return false, nil
	}
	return true, nil
}
