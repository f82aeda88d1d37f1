package disk

import (
	"bytes"
	"errors"
	"testing"
	"unsafe"
)

// aligned is memory of n bytes that begins at a multiple of 4096.
func aligned(n int) []byte {
	b := make([]byte, n+4096)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & 4095
	return b[skip : skip+n]
}

func TestDirect(t *testing.T) {
	o, err := OpenOS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	f, err := o.Create("x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.(Direct).Direct(3); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("an alignment of 3 bytes: %v", err)
	}
	odd := []byte("three bytes at an odd place")
	if _, err := f.WriteAt(odd, 1); err != nil {
		t.Fatalf("after a refusal the page cache is used: %v", err)
	}
	p := aligned(8192)
	for i := range p {
		p[i] = byte(i / 512)
	}
	err = f.(Direct).Direct(4096)
	direct := err == nil
	if !direct && !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(p, 4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	got := aligned(4096)
	if _, err := f.ReadAt(got, 8192); err != nil || !bytes.Equal(got, p[4096:]) {
		t.Errorf("read back differs, %v", err)
	}
	if _, err := f.WriteAt(odd, 1); direct && err == nil { // the negative control: it is not the page cache that took the write
		t.Error("an odd write was taken past the page cache")
	}
}
