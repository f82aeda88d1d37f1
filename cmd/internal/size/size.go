// Package size reads and writes amounts of bytes as people do: 10Gi, 4KiB, 1.5T, 4096.
//
// Suffixes are those of Kubernetes quantities, with an optional B: Ki, Mi, Gi, Ti, Pi are powers of 1024 and k (or K), M,
// G, T, P powers of 1000. Nothing is rounded: an amount that is no whole number of bytes is refused.
package size

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// Block is the unit of a volume's size, in bytes.
const Block = 4096

// Errors of Parse and Volume.
var (
	ErrFormat = errors.New("not a size; write for example 10Gi, 512MiB or 4096")
	ErrBlocks = errors.New("a volume's size is a positive multiple of 4096 bytes")
)

// units from the largest; the first whose suffix fits is taken.
var units = [...]struct {
	suffix string
	bytes  int64
}{
	{"Pi", 1 << 50}, {"Ti", 1 << 40}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10},
	{"P", 1e15}, {"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"K", 1e3}, {"k", 1e3}, {"", 1},
}

// Parse reads an amount of bytes, from 0 to 2^63-1.
func Parse(s string) (int64, error) {
	number := strings.TrimSpace(s)
	number = strings.TrimSuffix(number, "B")
	unit := int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	if number == "" || len(number) > 32 || strings.Trim(number, "0123456789.") != "" {
		return 0, fmt.Errorf("%q: %w", s, ErrFormat)
	}
	r, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("%q: %w", s, ErrFormat)
	}
	r.Mul(r, new(big.Rat).SetInt64(unit))
	if !r.IsInt() {
		return 0, fmt.Errorf("%q is no whole number of bytes: %w", s, ErrFormat)
	}
	if !r.Num().IsInt64() {
		return 0, fmt.Errorf("%q is beyond 8 EiB: %w", s, ErrFormat)
	}
	return r.Num().Int64(), nil
}

// Volume reads the size of a volume: a positive multiple of Block.
func Volume(s string) (int64, error) {
	n, err := Parse(s)
	if err != nil {
		return 0, err
	}
	if n > 0 && n%Block == 0 {
		return n, nil
	}
	if n > 0 && n < 1<<62 {
		up := (n + Block - 1) / Block * Block
		return 0, fmt.Errorf("%s is %d bytes: %w; %d would be one", s, n, ErrBlocks, up)
	}
	return 0, fmt.Errorf("%q: %w", s, ErrBlocks)
}

// Format writes an amount for people: exact when it is a whole number of a unit, else with one decimal.
func Format(n int64) string {
	if n < 0 {
		return fmt.Sprintf("%d B", n)
	}
	for _, u := range units[:5] {
		if n < u.bytes {
			continue
		}
		if n%u.bytes == 0 {
			return fmt.Sprintf("%d %sB", n/u.bytes, u.suffix)
		}
		return fmt.Sprintf("%.1f %sB", float64(n)/float64(u.bytes), u.suffix)
	}
	return fmt.Sprintf("%d B", n)
}

// Flag is a volume's size as a flag's value.
type Flag int64

// String is the amount for people.
func (f *Flag) String() string {
	if *f == 0 {
		return ""
	}
	return Format(int64(*f))
}

// Set reads the flag.
func (f *Flag) Set(s string) error {
	n, err := Volume(s)
	*f = Flag(n)
	return err
}

// Type names the flag's kind in the help.
func (f *Flag) Type() string { return "size" }
