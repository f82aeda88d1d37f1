package nbd

import (
	"testing"

	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// BenchmarkFio measures the socket with fio's nbd engine. See exporttest.Bench.
func BenchmarkFio(b *testing.B) {
	exporttest.Bench(b, func(b *testing.B, m *exporttest.Memory) []string {
		s, _ := openServer(b, m, true)
		return []string{"--ioengine=nbd", "--uri=nbd+unix:///?socket=" + s.Path()}
	})
}
