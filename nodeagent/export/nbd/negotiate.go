package nbd

import (
	"fmt"
	"io"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// negotiation is the state of a connection before transmission.
type negotiation struct {
	rw   io.ReadWriter
	name string
	back export.Backend

	noZeroes   bool
	structured bool
	meta       bool // base:allocation was chosen
}

// run speaks until the client wants transmission (true) or has had enough (false).
func (g *negotiation) run() (bool, error) {
	b := be.AppendUint64(nil, magicInit)
	b = be.AppendUint64(b, magicOption)
	b = be.AppendUint16(b, flagFixedNewstyle|flagNoZeroes)
	if _, err := g.rw.Write(b); err != nil {
		return false, err
	}
	var flags [4]byte
	if _, err := io.ReadFull(g.rw, flags[:]); err != nil {
		return false, err
	}
	f := be.Uint32(flags[:])
	if f&^(flagFixedNewstyle|flagNoZeroes) != 0 || f&flagFixedNewstyle == 0 {
		return false, fmt.Errorf("%w: handshake flags %#x", ErrProtocol, f)
	}
	g.noZeroes = f&flagNoZeroes != 0
	for range maxOptions {
		opt, data, err := g.option()
		if err != nil {
			return false, err
		}
		switch opt {
		case optExportName:
			return g.exportName(data)
		case optAbort:
			return false, g.answer(opt, repAck, nil)
		}
		done, err := g.handle(opt, data)
		if done || err != nil {
			return done, err
		}
	}
	return false, fmt.Errorf("%w: %d options", ErrProtocol, maxOptions)
}

// option reads one option; data is nil, and an answer was sent, if it was too long.
func (g *negotiation) option() (opt uint32, data []byte, err error) {
	for range maxOptions {
		var head [optionHead]byte
		if _, err := io.ReadFull(g.rw, head[:]); err != nil {
			return 0, nil, err
		}
		if be.Uint64(head[:]) != magicOption {
			return 0, nil, fmt.Errorf("%w: no option", ErrProtocol)
		}
		opt, n := be.Uint32(head[8:]), be.Uint32(head[12:])
		if n <= maxOption {
			data = make([]byte, n)
			_, err = io.ReadFull(g.rw, data)
			return opt, data, err
		}
		if n > 16*maxOption || opt == optExportName {
			return 0, nil, fmt.Errorf("%w: an option of %d bytes", ErrProtocol, n)
		}
		if _, err := io.CopyN(io.Discard, g.rw, int64(n)); err != nil {
			return 0, nil, err
		}
		if err := g.answer(opt, repErrTooBig, nil); err != nil {
			return 0, nil, err
		}
	}
	return 0, nil, fmt.Errorf("%w: %d long options", ErrProtocol, maxOptions)
}

func (g *negotiation) answer(opt, kind uint32, data []byte) error {
	b := be.AppendUint64(nil, magicAnswer)
	b = be.AppendUint32(b, opt)
	b = be.AppendUint32(b, kind)
	b = be.AppendUint32(b, uint32(len(data)))
	_, err := g.rw.Write(append(b, data...))
	return err
}

// known reports whether a client may have the export under this name; the empty name is the default export.
func (g *negotiation) known(name string) bool { return name == "" || name == g.name }

// exportName is the old way in, which has no answer but the export itself or a closed connection.
func (g *negotiation) exportName(name []byte) (bool, error) {
	if !g.known(string(name)) {
		return false, fmt.Errorf("%w: no export %q", ErrProtocol, name)
	}
	b := be.AppendUint64(nil, uint64(g.back.Size()))
	b = be.AppendUint16(b, exportFlags)
	if !g.noZeroes {
		b = append(b, make([]byte, 124)...)
	}
	_, err := g.rw.Write(b)
	return true, err
}

// handle answers one option; done means that transmission begins.
func (g *negotiation) handle(opt uint32, data []byte) (done bool, err error) {
	switch opt {
	case optList:
		if len(data) != 0 {
			return false, g.answer(opt, repErrInvalid, nil)
		}
		b := be.AppendUint32(nil, uint32(len(g.name)))
		if err := g.answer(opt, repServer, append(b, g.name...)); err != nil {
			return false, err
		}
		return false, g.answer(opt, repAck, nil)
	case optStructured:
		if len(data) != 0 {
			return false, g.answer(opt, repErrInvalid, nil)
		}
		g.structured = true
		return false, g.answer(opt, repAck, nil)
	case optInfo, optGo:
		return g.info(opt, data)
	case optListMeta, optSetMeta:
		return false, g.metaContexts(opt, data)
	default:
		return false, g.answer(opt, repErrUnsup, nil)
	}
}

func (g *negotiation) info(opt uint32, data []byte) (done bool, err error) {
	name, rest, ok := cutString(data)
	if !ok || len(rest) < 2 || len(rest) != 2+2*int(be.Uint16(rest)) {
		return false, g.answer(opt, repErrInvalid, nil)
	}
	if !g.known(name) {
		return false, g.answer(opt, repErrUnknown, nil)
	}
	b := be.AppendUint16(nil, infoExport)
	b = be.AppendUint64(b, uint64(g.back.Size()))
	b = be.AppendUint16(b, exportFlags)
	if err := g.answer(opt, repInfo, b); err != nil {
		return false, err
	}
	b = be.AppendUint16(nil, infoBlockSize)
	b = be.AppendUint32(b, 1)
	b = be.AppendUint32(b, export.BlockSize)
	b = be.AppendUint32(b, maxRequest)
	if err := g.answer(opt, repInfo, b); err != nil {
		return false, err
	}
	b = append(be.AppendUint16(nil, infoName), g.name...)
	if err := g.answer(opt, repInfo, b); err != nil {
		return false, err
	}
	return opt == optGo, g.answer(opt, repAck, nil)
}

// metaContexts lists or chooses contexts; the only one is base:allocation, of backends that know their holes.
func (g *negotiation) metaContexts(opt uint32, data []byte) error {
	queries, name, ok := parseMeta(data)
	if !ok || !g.structured {
		return g.answer(opt, repErrInvalid, nil)
	}
	if !g.known(name) {
		return g.answer(opt, repErrUnknown, nil)
	}
	_, mapper := g.back.(export.Mapper)
	hit := opt == optListMeta && len(queries) == 0
	for _, q := range queries {
		hit = hit || q == metaContext || opt == optListMeta && q == "base:"
	}
	hit = hit && mapper
	if opt == optSetMeta {
		g.meta = hit
	}
	if hit {
		id := uint32(0)
		if opt == optSetMeta {
			id = metaContextID
		}
		if err := g.answer(opt, repMeta, append(be.AppendUint32(nil, id), metaContext...)); err != nil {
			return err
		}
	}
	return g.answer(opt, repAck, nil)
}

// parseMeta decodes the data of LIST_META_CONTEXT and SET_META_CONTEXT.
func parseMeta(data []byte) (queries []string, name string, ok bool) {
	name, data, ok = cutString(data)
	if !ok || len(data) < 4 {
		return nil, "", false
	}
	n := be.Uint32(data)
	data = data[4:]
	if uint64(n)*4 > uint64(len(data)) {
		return nil, "", false
	}
	for range n {
		var q string
		if q, data, ok = cutString(data); !ok {
			return nil, "", false
		}
		queries = append(queries, q)
	}
	return queries, name, len(data) == 0
}

// cutString takes a string with its length u32 off data.
func cutString(data []byte) (s string, rest []byte, ok bool) {
	if len(data) < 4 {
		return "", nil, false
	}
	n := be.Uint32(data)
	if data = data[4:]; n > maxName || uint64(n) > uint64(len(data)) {
		return "", nil, false
	}
	return string(data[:n]), data[n:], true
}
