package peer

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"io"
	"syscall"
	"testing"
	"time"
)

// cpu is the processor time of this process, both ends of the connection included.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchDepth keeps depth requests in flight: each callback sends the next.
func benchDepth(b *testing.B, depth, size, reply int) {
	answer := make([]byte, reply)
	r := newRig(b, handlerFunc(func(_ Identity, q *Request) {
		q.Reply(StatusOK, answer)
		q.Release()
	}), Settings{}, ServerOptions{})
	c := r.dial(b, Settings{})
	body, done := make([]byte, size), make(chan struct{})
	meta := make([]byte, 32)
	left, open := b.N, min(depth, b.N)
	first := open
	var cb Callback
	cb = func(_ uint16, _ []byte, err error) {
		if err != nil {
			b.Error(err)
		}
		if left > 0 && err == nil {
			left--
			if err := c.SendExpect(1, reply, cb, meta, body); err != nil {
				b.Error(err)
			}
			return
		}
		if open--; open == 0 {
			close(done)
		}
	}
	b.SetBytes(int64(size + reply))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	left -= first
	kick := make(chan struct{})
	// The first requests go out from a callback too, because the state above belongs to the reader goroutine.
	must(b, c.Send(1, func(uint16, []byte, error) {
		for range first {
			if err := c.SendExpect(1, reply, cb, meta, body); err != nil {
				b.Error(err)
			}
		}
		close(kick)
	}))
	<-kick
	<-done
	b.StopTimer()
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N)/1000, "cpu-µs/op")
	c.Close()
}

func BenchmarkWrite4KDepth1(b *testing.B)  { benchDepth(b, 1, 4096, 0) }
func BenchmarkWrite4KDepth32(b *testing.B) { benchDepth(b, 32, 4096, 0) }
func BenchmarkRead4KDepth1(b *testing.B)   { benchDepth(b, 1, 0, 4096) }
func BenchmarkRead4KDepth32(b *testing.B)  { benchDepth(b, 32, 0, 4096) }
func BenchmarkWrite1MDepth4(b *testing.B)  { benchDepth(b, 4, 1<<20, 0) }
func BenchmarkRead1MDepth4(b *testing.B)   { benchDepth(b, 4, 0, 1<<20) }

// BenchmarkCall4K is the blocking call at depth 1.
func BenchmarkCall4K(b *testing.B) {
	r := newRig(b, handlerFunc(func(_ Identity, q *Request) { q.Reply(StatusOK); q.Release() }), Settings{}, ServerOptions{})
	c := r.dial(b, Settings{})
	body, ctx := make([]byte, 4096), context.Background()
	b.ReportAllocs()
	before := cpu()
	for b.Loop() {
		resp, err := c.Call(ctx, 1, body)
		must(b, err)
		resp.Release()
	}
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N)/1000, "cpu-µs/op")
	c.Close()
}

// BenchmarkBareTLS4K is the floor of depth 1: 4 KiB there and 28 bytes back over TLS, with nothing of ours between.
func BenchmarkBareTLS4K(b *testing.B) {
	ca := testCA(b, testNetwork)
	creds := testCreds(b, ca, "server", CredentialOptions{})
	l, err := tls.Listen("tcp", "127.0.0.1:0", creds.ServerConfig(new(Identity)))
	must(b, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 4096)
		for {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			c.Write(buf[:headerSize])
		}
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), creds.ClientConfig("server", new(Identity)))
	must(b, err)
	buf := make([]byte, 4096)
	b.ReportAllocs()
	before := cpu()
	for b.Loop() {
		c.Write(buf)
		if _, err := io.ReadFull(c, buf[:headerSize]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N)/1000, "cpu-µs/op")
	c.Close()
	l.Close()
	<-done
}

// BenchmarkHeader encodes a frame's header and decodes it: what framing costs without sockets and TLS.
func BenchmarkHeader(b *testing.B) {
	var bytes [headerSize]byte
	h, back := header{typ: 7, body: 4128, meta: 32}, header{}
	for i := range b.N {
		h.id = uint64(i)
		h.put(bytes[:])
		if err := back.parse(bytes[:], 1<<20); err != nil || back.id != h.id {
			b.Fatal(back, err)
		}
	}
}

// BenchmarkBareAEAD4K seals 4 KiB as TLS does with AES-128 in GCM, and opens it: what TLS costs without sockets and copies.
func BenchmarkBareAEAD4K(b *testing.B) {
	block, err := aes.NewCipher(make([]byte, 16))
	must(b, err)
	aead, err := cipher.NewGCM(block)
	must(b, err)
	nonce, plain, sealed := make([]byte, aead.NonceSize()), make([]byte, 4096), make([]byte, 0, 4096+16)
	for range b.N {
		sealed = aead.Seal(sealed[:0], nonce, plain, nil)
		if _, err := aead.Open(plain[:0], nonce, sealed, nil); err != nil {
			b.Fatal(err)
		}
	}
}
