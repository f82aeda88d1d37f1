package size

import (
	"errors"
	"math"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "4096": 4096, "4096B": 4096, "4KiB": 4096, "4Ki": 4096, "4 KiB": 4096, "10Gi": 10 << 30, "1.5GiB": 3 << 29,
		"1k": 1000, "1K": 1000, "1KB": 1000, "2M": 2e6, "2MB": 2e6, "1T": 1e12, "1Ti": 1 << 40, "7Pi": 7 << 50, "0.5Ki": 512,
		"9223372036854775807": math.MaxInt64,
	} {
		if got, err := Parse(in); err != nil || got != want {
			t.Errorf("Parse(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "B", "Gi", "-1", "+1", "1e3", "0x10", "10Gib", "ten", "1/2", "1.2.3", "0.1", "9223372036854775808", "8192Pi", "1_000", "NaN", "999999999999999999999999999999999999Gi"} {
		if got, err := Parse(in); !errors.Is(err, ErrFormat) {
			t.Errorf("Parse(%q) = %d, %v; want ErrFormat", in, got, err)
		}
	}
}

func TestVolumeRefusesPartsOfBlocks(t *testing.T) {
	if n, err := Volume("1Gi"); err != nil || n != 1<<30 {
		t.Errorf("Volume(1Gi) = %d, %v", n, err)
	}
	for _, in := range []string{"0", "1", "4095", "4097", "1G", "10M"} {
		if in == "1G" || in == "10M" { // 10^9 and 10^7 are no multiples of 4096
			if n, _ := Parse(in); n%Block == 0 {
				t.Fatalf("%s is a multiple after all", in)
			}
		}
		if n, err := Volume(in); !errors.Is(err, ErrBlocks) {
			t.Errorf("Volume(%q) = %d, %v; want ErrBlocks", in, n, err)
		}
	}
}

func TestFormatReadsBack(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1 KiB", 4096: "4 KiB", 1536: "1.5 KiB", 10 << 30: "10 GiB", 1<<30 + 1: "1.0 GiB", -5: "-5 B",
	} {
		if got := Format(n); got != want {
			t.Errorf("Format(%d) = %q, want %q", n, got, want)
		}
	}
	for _, n := range []int64{4096, 1 << 20, 3 << 40, 5 << 50} {
		if back, err := Parse(Format(n)); err != nil || back != n {
			t.Errorf("Parse(Format(%d)) = %d, %v", n, back, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"10Gi", "1.5T", "4096", ".", "1.", ".5Ki", "0000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := Parse(s); err == nil && n < 0 {
			t.Fatalf("Parse(%q) = %d", s, n)
		}
	})
}
