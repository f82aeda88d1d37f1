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

// TestGatherAt: several parts are written one behind the other, more than one system call takes, through a Metered too, which counts one
// write; past the page cache as well. Control: what lies before and behind stays.
func TestGatherAt(t *testing.T) {
	o, err := OpenOS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	var m Meter
	for name, d := range map[string]FS{"plain": o, "metered": NewMetered(o, &m), "no gatherer": NewMetered(NewMem(0), new(Meter))} {
		for _, size := range []int{1, 700, 4096} {
			f, err := d.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			parts, want := make([][]byte, 2*mostParts+5), bytes.Repeat([]byte{'.'}, 4096)
			if _, err := f.WriteAt(want, 0); err != nil {
				t.Fatal(err)
			}
			for i := range parts {
				parts[i] = aligned(4096)[:size]
				for j := range parts[i] {
					parts[i][j] = byte(i + j/512)
				}
				want = append(want, parts[i]...)
			}
			if size == 4096 {
				if err := f.(Direct).Direct(4096); err != nil && !errors.Is(err, errors.ErrUnsupported) {
					t.Fatal(err)
				}
			}
			before := m.Writes.Took.Read().Count
			if err := f.(Gatherer).GatherAt(parts, 4096); err != nil {
				t.Fatal(err)
			}
			if n := m.Writes.Took.Read().Count - before; name == "metered" && n != 1 {
				t.Errorf("%d writes are counted", n)
			}
			got := aligned(len(want))
			if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: parts of %d bytes read otherwise, %v", name, size, err)
			}
			if err := errors.Join(f.Close(), d.Remove(name)); err != nil {
				t.Fatal(err)
			}
			if err := f.(Gatherer).GatherAt(parts, 0); err == nil {
				t.Errorf("%s: a closed file was written to", name)
			}
		}
	}
}
