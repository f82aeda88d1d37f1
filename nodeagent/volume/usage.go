package volume

import (
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
)

// Usage is what a volume takes, and how safe it is at the moment.
type Usage struct {
	Bytes  int64 // in extents that are not freed, journal included, counted once
	Copies int   // the fewest copies that any part has on stores that are believed to answer
}

// Usage looks at the extent directory; it asks no store.
func (e *Engine) Usage() Usage {
	e.jmu.Lock()
	open := int64(e.log.chain.DataLen) + int64(e.log.chain.LogLen)
	e.jmu.Unlock()
	alive := map[block.StoreID]bool{}
	live, _ := e.liveMembers()
	e.mu.RLock()
	defer e.mu.RUnlock()
	u := Usage{Bytes: open, Copies: live}
	for _, x := range e.cat.extents.all() {
		if x.State != blockmap.ExtentClosed && x.State != blockmap.ExtentCondemned {
			continue
		}
		u.Bytes += int64(x.DataBytes) + int64(x.LogBytes)
		if x.State == blockmap.ExtentCondemned {
			continue
		}
		n := 0
		members := e.membersLocked(extentID(e.spec.ID, x), x)
		for _, s := range members {
			yes, known := alive[s]
			if !known {
				yes = e.Placer.Alive(s)
				alive[s] = yes
			}
			if yes {
				n++
			}
		}
		n += max(0, int(x.Replicas)-len(members)) // the directory names three of more: the others are taken to be there
		if x.Flags&extentDegraded != 0 {
			n = min(n, int(x.Replicas)-1)
		}
		u.Copies = min(u.Copies, n)
	}
	return u
}
