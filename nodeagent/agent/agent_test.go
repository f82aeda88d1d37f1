package agent

import (
	"testing"
)

const mib = 1 << 20

func TestWriteAndMove(t *testing.T) {
	c := newCluster(t, 3, false)
	c.create("a", "vol", 8*mib)
	m := newModel(t, 1, 8*mib)
	e := c.attach("a", "vol")
	m.write(e, 50)
	m.verify(e)
	c.detach("a", "vol")
	e = c.attach("b", "vol")
	m.verify(e)
	m.write(e, 50)
	c.detach("b", "vol")
	m.verify(c.attach("c", "vol"))
}
