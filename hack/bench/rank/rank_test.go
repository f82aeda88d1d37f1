package rank

import (
	"math"
	"testing"
)

func TestP(t *testing.T) {
	for name, c := range map[string]struct {
		a, b []float64
		want float64
	}{
		"three and three, apart":      {[]float64{1, 2, 3}, []float64{4, 5, 6}, 2. / 20},
		"the other way round":         {[]float64{4, 5, 6}, []float64{1, 2, 3}, 2. / 20},
		"five and five, apart":        {[]float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10}, 2. / 252},
		"three and five, apart":       {[]float64{1, 2, 3}, []float64{6, 7, 8, 9, 10}, 2. / 56},
		"interleaved":                 {[]float64{1, 4}, []float64{2, 3}, 1},
		"one of them lies within":     {[]float64{1, 2, 4}, []float64{3, 5, 6}, 4. / 20},
		"all equal":                   {[]float64{7, 7, 7}, []float64{7, 7, 7}, 1},
		"equal where they meet":       {[]float64{1, 2, 3}, []float64{3, 4, 5}, 4. / 20}, // the one rank of both 3s may be on either side
		"nothing to compare with":     {[]float64{1, 2, 3}, nil, 1},
		"one against one is no proof": {[]float64{1}, []float64{2}, 1},
	} {
		if got := P(c.a, c.b); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %v, not %v", name, got, c.want)
		}
	}
}

// What does not differ is found to differ about as often as P says: here, of all ways to deal ten values to two hands.
func TestPIsAProbability(t *testing.T) {
	found, all := 0, 0
	for hand := range 1 << 10 {
		var a, b []float64
		for i := range 10 {
			if hand>>i&1 == 1 {
				a = append(a, float64(i))
			} else {
				b = append(b, float64(i))
			}
		}
		if len(a) != 5 {
			continue
		}
		all++
		if P(a, b) <= .05 {
			found++
		}
	}
	if part := float64(found) / float64(all); part > .05 || part < .02 {
		t.Errorf("%d of %d, not about a twentieth", found, all)
	}
}

func TestLeast(t *testing.T) {
	if a, b := Least(3, 3), Least(4, 4); math.Abs(a-.1) > 1e-12 || math.Abs(b-2./70) > 1e-12 {
		t.Errorf("%v, %v", a, b)
	}
}
