package exporttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Bench runs fio on a front end of a memory backend, for EXPORT_FIO_SECONDS (default 5) seconds per case, whatever
// -benchtime says, and reports IOPS, percentiles of the latency in µs, and the CPU time of this process and of fio per
// operation in µs. attach exports the backend and returns the fio options that name engine and target. Use -benchtime 1x.
func Bench(b *testing.B, attach func(b *testing.B, m *Memory) []string) {
	seconds := os.Getenv("EXPORT_FIO_SECONDS")
	if seconds == "" {
		seconds = "5"
	}
	for _, c := range []struct {
		name string
		args []string
	}{
		{"w4k_qd32", []string{"--rw=randwrite", "--bs=4k", "--iodepth=32"}},
		{"r4k_qd32", []string{"--rw=randread", "--bs=4k", "--iodepth=32"}},
		{"w4k_qd1", []string{"--rw=randwrite", "--bs=4k", "--iodepth=1"}},
		{"r4k_qd1", []string{"--rw=randread", "--bs=4k", "--iodepth=1"}},
		{"w4k_sync_qd1", []string{"--rw=randwrite", "--bs=4k", "--iodepth=1", "--fsync=1"}},
		{"w1m_qd8", []string{"--rw=write", "--bs=1m", "--iodepth=8"}},
		{"r1m_qd8", []string{"--rw=read", "--bs=1m", "--iodepth=8"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			m, err := NewMemory(256*mib, 256*mib)
			if err != nil {
				b.Fatal(err)
			}
			defer m.Close()
			for i := range m.Bytes() { // no page faults in the figures
				m.Bytes()[i] = byte(i)
			}
			args := append(attach(b, m), "--runtime="+seconds, "--size=256m")
			for range b.N {
				own := cpu(b)
				r := fio(b, append(args, c.args...)...)
				own = cpu(b) - own
				b.ReportMetric(r.iops, "IOPS")
				b.ReportMetric(r.p50, "p50-µs")
				b.ReportMetric(r.p99, "p99-µs")
				b.ReportMetric(own/r.ops, "server-cpu-µs/op")
				b.ReportMetric(r.cpu/r.ops, "fio-cpu-µs/op")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpu is this process's CPU time, in µs.
func cpu(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64((u.Utime.Sec+u.Stime.Sec)*1e6 + u.Utime.Usec + u.Stime.Usec)
}

type fioResult struct{ iops, ops, p50, p99, cpu float64 }

// fio runs one job and reads its report. Percentiles are of the whole latency of reads or writes.
func fio(b *testing.B, args ...string) fioResult {
	b.Helper()
	args = append([]string{"--name=bench", "--time_based", "--norandommap",
		"--output-format=json"}, args...)
	cmd := exec.Command("fio", args...)
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("fio (Debian package fio): %v\n%s", err, out)
	}
	type side struct {
		IOPS float64 `json:"iops"`
		Ops  float64 `json:"total_ios"`
		Lat  struct {
			Pct map[string]float64 `json:"percentile"`
		} `json:"clat_ns"`
	}
	var rep struct {
		Jobs []struct{ Read, Write side }
	}
	out = out[max(0, bytes.IndexByte(out, '{')):] // its NBD engine greets first
	if err := json.Unmarshal(out, &rep); err != nil || len(rep.Jobs) != 1 {
		b.Fatal(fmt.Errorf("fio's report: %w", err))
	}
	s := rep.Jobs[0].Read
	if w := rep.Jobs[0].Write; w.Ops > 0 {
		s = w
	}
	ru := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return fioResult{
		iops: s.IOPS, ops: s.Ops, p50: s.Lat.Pct["50.000000"] / 1e3, p99: s.Lat.Pct["99.000000"] / 1e3,
		cpu: float64((ru.Utime.Sec+ru.Stime.Sec)*1e6 + ru.Utime.Usec + ru.Stime.Usec),
	}
}
