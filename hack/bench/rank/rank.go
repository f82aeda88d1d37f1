// Package rank tells whether two sets of measurements differ by more than chance: the rank-sum test of Mann, Whitney and Wilcoxon, exact, also where
// measurements are equal (https://en.wikipedia.org/wiki/Mann–Whitney_U_test). It asks nothing of how measurements spread.
package rank

import "slices"

// P is the probability that two sets which do not differ would be at least as far apart in their ranks as these are, either way
// round; 1 if one is empty.
func P(a, b []float64) float64 {
	if len(a) == 0 || len(b) == 0 {
		return 1
	}
	all := slices.Sorted(slices.Values(slices.Concat(a, b)))
	sum := 0
	for _, v := range a {
		sum += twice(all, v)
	}
	ranks := make([]int, len(all))
	for i, v := range all {
		ranks[i] = twice(all, v)
	}
	centre := len(a) * (len(all) + 1) // of twice the ranks
	far, total := 0.0, 0.0
	for s, n := range sums(ranks, len(a)) {
		total += n
		if abs(s-centre) >= abs(sum-centre) {
			far += n
		}
	}
	return far / total
}

// Least is the smallest P that so many measurements can have.
func Least(a, b int) float64 {
	x, y := make([]float64, a), make([]float64, b)
	for i := range x {
		x[i] = float64(i)
	}
	for i := range y {
		y[i] = float64(a + i)
	}
	return P(x, y)
}

// twice the rank of v in a sorted list: equal values share the middle of their ranks.
func twice(sorted []float64, v float64) int {
	first, _ := slices.BinarySearch(sorted, v)
	last := first
	for last < len(sorted) && sorted[last] == v {
		last++
	}
	return first + 1 + last
}

// sums tells how many choices of n of the ranks have which sum.
func sums(ranks []int, n int) []float64 {
	total := 0
	for _, r := range ranks {
		total += r
	}
	count := make([][]float64, n+1) // by how many are chosen, and their sum
	for i := range count {
		count[i] = make([]float64, total+1)
	}
	count[0][0] = 1
	for _, r := range ranks {
		for k := n; k > 0; k-- {
			for s := total; s >= r; s-- {
				count[k][s] += count[k-1][s-r]
			}
		}
	}
	return count[n]
}

func abs(v int) int { return max(v, -v) }
