package journal

import (
	"errors"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// ErrNoCheckpoint tells that there is no checkpoint where an open record names one.
var ErrNoCheckpoint = errors.New("there is no checkpoint where one is named")

// CheckpointBefore finds the latest checkpoint before the extent that open begins; nil: the journal has none there. That is not always the one which open names: another
// one may have become durable, in between, after open was written. look gives an extent's open record, and its last checkpoint if it has any. at is where
// the checkpoint, or an error, is.
func CheckpointBefore(open Open, look func(id block.ExtentID) (Open, *Checkpoint, error)) (c *Checkpoint, at block.ExtentID, err error) {
	last := open.Checkpoint.Extent
	for at = open.Previous; !at.IsZero(); at = open.Previous {
		if open, c, err = look(at); c != nil || err != nil {
			return c, at, err
		}
		if at == last {
			return nil, at, ErrNoCheckpoint
		}
	}
	return nil, at, nil
}
