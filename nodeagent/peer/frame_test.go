package peer

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden bytes")

// TestGolden pins the bytes of each format.
func TestGolden(t *testing.T) {
	var head [headerSize]byte
	h := header{typ: 7, flags: flagResponse, status: 0x1234, id: 0x1122334455667788, body: 4128, meta: 32, expect: 0x01020304}
	h.put(head[:])
	hi := hello{newest: 2, oldest: 1, maxBody: 2 << 20, caps: 0x8000000000000001, software: "mynetwork 1.2"}.encode()
	got := fmt.Sprintf("header %x\nhello %x\n", head, hi)
	if *update {
		must(t, os.WriteFile("testdata/golden.txt", []byte(got), 0o644))
	}
	want, err := os.ReadFile("testdata/golden.txt")
	must(t, err)
	if got != string(want) {
		t.Errorf("formats changed:\n%s\nwant:\n%s", got, want)
	}
	var back header
	must(t, back.parse(head[:], 1<<20))
	if back != h {
		t.Errorf("header came back as %+v", back)
	}
	hi2, err := decodeHello(append(hi, "fields of the future"...))
	if err != nil || hi2.software != "mynetwork 1.2" || hi2.caps != 0x8000000000000001 {
		t.Errorf("hello came back as %+v, %v", hi2, err)
	}
}

// TestHeaderRefuses: each broken rule is found; the unbroken header passes.
func TestHeaderRefuses(t *testing.T) {
	good := header{typ: 1, id: 9, body: 100, meta: 10}
	var b [headerSize]byte
	for name, breakIt := range map[string]func(){
		"magic":          func() { b[0]++ },
		"flags":          func() { b[3] = 2 },
		"reserved":       func() { b[6] = 1 },
		"status":         func() { b[4] = 1 },
		"meta over body": func() { b[20] = 101 },
		"body over max":  func() { b[18] = 1 },
	} {
		good.put(b[:])
		var h header
		must(t, h.parse(b[:], 1000))
		breakIt()
		if err := h.parse(b[:], 1000); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var h header
	wantErr(t, h.parse(b[:headerSize-1], 1000), ErrFrame)
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		a, b hello
		want uint16
	}{
		{hello{newest: 1, oldest: 1}, hello{newest: 1, oldest: 1}, 1},
		{hello{newest: 3, oldest: 2}, hello{newest: 2, oldest: 1}, 2},
		{hello{newest: 3, oldest: 2}, hello{newest: 4, oldest: 3}, 3},
		{hello{newest: 1, oldest: 1}, hello{newest: 3, oldest: 2}, 0},
		{hello{newest: 4, oldest: 3}, hello{newest: 2, oldest: 1}, 0},
	} {
		got, err := negotiate(c.a, c.b)
		if got != c.want || (c.want == 0) != errors.Is(err, ErrVersion) {
			t.Errorf("%+v, %+v: %d, %v", c.a, c.b, got, err)
		}
	}
}

func FuzzHeader(f *testing.F) {
	var b [headerSize]byte
	h := header{typ: 1, id: 9, body: 100, meta: 10}
	h.put(b[:])
	f.Add(b[:])
	f.Fuzz(func(t *testing.T, in []byte) {
		var h header
		if h.parse(in, 1<<20) != nil {
			return
		}
		if h.body > 1<<20 || h.meta > h.body {
			t.Fatalf("taken: %+v", h)
		}
		var out [headerSize]byte
		h.put(out[:])
		if !bytes.Equal(out[:], in[:headerSize]) {
			t.Fatalf("%x became %x", in, out)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(Settings{}.WithDefaults().hello().encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := decodeHello(in)
		if err != nil {
			return
		}
		if out := h.encode(); !bytes.HasPrefix(in, out) {
			t.Fatalf("%x became %x", in, out)
		}
	})
}
