package volume

import (
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
)

// checks are pages of one read that lay alone and are not checked yet: the hashes of two take little longer than that of one. The read is not
// answered before they are settled.
type checks struct {
	n     int
	addrs [maxGather]blockmap.Addr
	pages [maxGather][]byte
	want  [maxGather]block.Hash
	got   [maxGather]block.Hash
}

// takes tells whether there are checks to be made later, and room for one more.
func (c *checks) takes() bool { return c != nil && c.n < maxGather }

// add takes a page as read from its address; p begins with it.
func (c *checks) add(a blockmap.Addr, row *block.Row, p []byte) {
	c.addrs[c.n], c.pages[c.n], c.want[c.n] = a, p[:block.PageSize:block.PageSize], row.Leaf
	c.n++
}

// settle checks the pages. One that is wrong is read again by r, which checks where it reads: from other replicas, and it is repaired.
func (c *checks) settle(r reader) error {
	block.Sums(c.pages[:c.n], c.got[:c.n])
	for i := range c.n {
		if c.got[i] == c.want[i] {
			continue
		}
		if err := r.fetch(c.addrs[i], 1, c.pages[i]); err != nil {
			return err
		}
	}
	return nil
}

// end gives c back, with no hold on the memory that was read to.
func (c *checks) end(e *Engine) {
	clear(c.pages[:c.n])
	c.n = 0
	e.checks.Put(c)
}
