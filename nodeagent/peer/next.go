package peer

// note is what a Handler leaves for the request that Next has shown.
type note struct {
	frame uint64 // of the connection, that it is for; 0: none
	sum   [32]byte
	set   bool
}

// Next is the body of the request that follows on the connection, if it is of the same type, and small, and all of it is here already; nil
// else. It is a view that ends when Serve returns. Next, Leave and Left are for who runs in Serve.
func (r *Request) Next() []byte {
	c := r.conn
	var h header
	if !c.peek(&h, r.Type) {
		return nil
	}
	b, err := c.br.Peek(headerSize + int(h.body))
	if err != nil {
		return nil
	}
	c.note = note{frame: c.frames.Load() + 1}
	return b[headerSize:]
}

// peek parses the header of the frame that follows, and tells whether that is a request of the given type that is here as a whole.
func (c *serverConn) peek(h *header, typ uint8) bool {
	n := c.br.Buffered()
	if n < headerSize {
		return false
	}
	b, err := c.br.Peek(headerSize)
	if err != nil || h.parse(b, uint32(c.set.MaxBody)) != nil {
		return false
	}
	return h.typ == typ && h.flags == 0 && n-headerSize >= int(h.body)
}

// Leave gives the request that Next has just shown a sum of bytes of its body.
func (r *Request) Leave(sum [32]byte) { r.conn.note.sum, r.conn.note.set = sum, true }

// Left is the sum that was left for this request.
func (r *Request) Left() (sum [32]byte, ok bool) {
	n := &r.conn.note
	return n.sum, n.set && n.frame == r.conn.frames.Load()
}
