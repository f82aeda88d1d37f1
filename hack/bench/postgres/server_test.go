package postgres

import (
	"slices"
	"testing"
)

func TestParseTPS(t *testing.T) {
	const text = `pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: <builtin: TPC-B (sort of)>
number of transactions actually processed: 500
number of failed transactions: 0 (0.000%)
latency average = 8.000 ms
initial connection time = 4.000 ms
tps = 500.250000 (without initial connection time)
`
	if tps, err := parseTPS(text); err != nil || tps != 500.25 {
		t.Errorf("%v, %v", tps, err)
	}
	for name, bad := range map[string]string{
		"nothing":        "",
		"failed":         "number of failed transactions: 3 (0.600%)\ntps = 500.25 (without initial connection time)\n",
		"no number":      "tps = fast\n",
		"no transaction": "tps = 0.000000 (without initial connection time)\n",
		"cut":            "tps = \n",
	} {
		if tps, err := parseTPS(bad); err == nil {
			t.Errorf("%s: %v was taken", name, tps)
		}
	}
}

func TestParseLog(t *testing.T) {
	took, err := parseLog([]float64{7}, []byte("0 199 2241 0 1175850568 995598\n0 200 2465 0 1175850568 998079\n"))
	if err != nil || !slices.Equal(took, []float64{7, 2241, 2465}) {
		t.Errorf("%v, %v", took, err)
	}
	for _, bad := range []string{"0 1\n", "0 1 skipped 0 1 2\n"} {
		if _, err := parseLog(nil, []byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestNewestProgramsByNumber(t *testing.T) {
	if a, b := major("/usr/lib/postgresql/9/bin/initdb"), major("/usr/lib/postgresql/15/bin/initdb"); a != 9 || b != 15 {
		t.Errorf("%d, %d", a, b)
	}
}
