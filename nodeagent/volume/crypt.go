package volume

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// codec turns pages into what is stored and back: compress, then encrypt; the leaf is taken of the result. The key of a
// page is derived from the group key, the birth volume, the epoch number and its writer token; the nonce is (write
// sequence, page in write). So a slot of the ring always gives the same ciphertext, and a sequence that is minted again
// under another epoch never meets the same key. Safe for concurrent use.
type codec struct {
	group       []byte            // nil: not encrypted
	compression block.Compression // of the open block; guarded by the journal's lock
	want        block.Compression // of the next block; as compression

	mu    sync.Mutex
	aeads map[keyName]cipher.AEAD
	macs  map[block.VolumeID]*blake3.Hasher
	enc   *zstd.Encoder
	dec   *zstd.Decoder
}

type keyName struct {
	volume        block.VolumeID
	number, token uint64
}

const (
	keyContext = "mynetwork.io 2026-11 page key v1"
	macContext = "mynetwork.io 2026-11 journal key v1"
	tagSize    = 16
	keyID      = 1 // the only key generation so far
)

var zeroPage [block.PageSize]byte

func newCodec(group []byte, compression block.Compression) (*codec, error) {
	if group != nil && len(group) != 32 {
		return nil, fmt.Errorf("encryption key of %d bytes, AES-256 needs 32", len(group))
	}
	c := &codec{group: group, compression: compression, aeads: make(map[keyName]cipher.AEAD), macs: make(map[block.VolumeID]*blake3.Hasher)}
	var err error
	if c.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<20)); err != nil {
		return nil, err
	}
	return c, c.setWant(compression)
}

// setWant sets the compression of the blocks that are begun from now on.
func (c *codec) setWant(want block.Compression) (err error) {
	if want == block.CompressionZstd && c.enc == nil {
		c.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	}
	if err == nil {
		c.want = want
	}
	return err
}

func (c *codec) encryption() block.Encryption {
	if c.group == nil {
		return block.EncryptionNone
	}
	return block.EncryptionAES256GCM
}

func (c *codec) aead(v block.VolumeID, number, token uint64) (cipher.AEAD, error) {
	name := keyName{v, number, token}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := c.aeads[name]; ok {
		return a, nil
	}
	material := make([]byte, 0, 64)
	material = append(material, c.group...)
	material = append(material, v[:]...)
	material = binary.LittleEndian.AppendUint64(material, number)
	material = binary.LittleEndian.AppendUint64(material, token)
	var key [32]byte
	blake3.DeriveKey(keyContext, material, key[:])
	b, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	a, err := cipher.NewGCM(b)
	if err == nil {
		c.aeads[name] = a
	}
	return a, err
}

// mac is the keyed hash of a journal record with chain hash h: what shows that a writer with the key wrote it and all that is
// before it. Zeros without a key.
func (c *codec) mac(v block.VolumeID, h block.Hash) (m [16]byte) {
	if c.group == nil {
		return m
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.macs[v]
	if w == nil {
		var key [32]byte
		blake3.DeriveKey(macContext, append(append(make([]byte, 0, 48), c.group...), v[:]...), key[:])
		w, _ = blake3.NewKeyed(key[:]) // fails for keys of other sizes only
		c.macs[v] = w
	}
	w.Reset()
	_, _ = w.Write(h[:]) // a hash never fails
	var sum block.Hash
	w.Sum(sum[:0])
	return [16]byte(sum[:16])
}

// seal appends to dst what is stored of page, and completes row but for the leaf, which is the sum of what is stored (tag, len,
// key). row has addr, epoch, token, seq and idx. If nothing has to change, stored is page itself.
func (c *codec) seal(v block.VolumeID, row *block.Row, page, dst []byte) (stored, out []byte, err error) {
	stored = page
	if c.group == nil && bytes.Equal(page, zeroPage[:]) {
		stored = page[:0]
	} else if c.compression == block.CompressionZstd {
		n := len(dst)
		dst = c.enc.EncodeAll(page, dst)
		if len(dst)-n < block.PageSize*7/8 {
			stored = dst[n:]
		} else {
			dst = dst[:n]
		}
	}
	if c.group != nil {
		a, err := c.aead(v, row.Epoch, row.Token)
		if err != nil {
			return nil, dst, err
		}
		n := len(dst)
		nonce, aad := nonceOf(row)
		dst = a.Seal(dst, nonce[:], stored, aad[:])
		end := len(dst) - tagSize
		copy(row.Tag[:], dst[end:])
		stored, dst = dst[n:end:end], dst[:end]
		row.Key = keyID
	}
	row.Len = uint16(len(stored))
	return stored, dst, nil
}

func nonceOf(row *block.Row) (nonce [12]byte, aad [8]byte) {
	binary.LittleEndian.PutUint64(nonce[:], row.Seq)
	binary.LittleEndian.PutUint32(nonce[8:], uint32(row.Idx))
	binary.LittleEndian.PutUint64(aad[:], row.Addr)
	return nonce, aad
}

// open checks stored against row and puts the plain page into dst, which has block.PageSize bytes.
func (c *codec) open(v block.VolumeID, row *block.Row, comp block.Compression, stored, dst []byte) error {
	if err := row.Check(stored); err != nil {
		return err
	}
	plain := stored
	if row.Key != 0 {
		if c.group == nil {
			return fmt.Errorf("page %d is encrypted and no key was given", row.Addr)
		}
		a, err := c.aead(v, row.Epoch, row.Token)
		if err != nil {
			return err
		}
		nonce, aad := nonceOf(row)
		buf := make([]byte, 0, block.PageSize+tagSize)
		buf = append(buf, stored...)
		buf = append(buf, row.Tag[:]...)
		if plain, err = a.Open(buf[:0], nonce[:], buf, aad[:]); err != nil {
			return fmt.Errorf("page %d: wrong key or forged page: %w", row.Addr, err)
		}
	}
	switch {
	case len(plain) == 0:
		clear(dst)
	case len(plain) == block.PageSize:
		copy(dst, plain)
	case comp == block.CompressionZstd:
		out, err := c.dec.DecodeAll(plain, dst[:0])
		if err != nil || len(out) != block.PageSize {
			return fmt.Errorf("page %d: %d bytes after decompression: %w", row.Addr, len(out), block.ErrFormat)
		}
		copy(dst, out)
	default:
		return fmt.Errorf("page %d: %d bytes and no compression: %w", row.Addr, len(plain), block.ErrFormat)
	}
	return nil
}
