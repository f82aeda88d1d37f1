package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// result is what fio measured in one run.
type result struct {
	Ops       float64
	Bytes     float64
	IOPS      float64
	MBps      float64
	Latency   [3]float64    // µs at percentiles
	Max       float64       // µs, the longest operation
	CPU       time.Duration // of fio itself
	Unstarted string        // why it did not run
}

// percentiles are the keys of fio's JSON that Latency has.
var percentiles = [3]string{"50.000000", "99.000000", "99.900000"}

// side is one direction of fio's JSON.
type side struct {
	Bytes float64 `json:"io_bytes"`
	Ops   float64 `json:"total_ios"`
	IOPS  float64 `json:"iops"`
	BW    float64 `json:"bw_bytes"`
	Clat  spread  `json:"clat_ns"`
}

type spread struct {
	Max        float64            `json:"max"`
	Percentile map[string]float64 `json:"percentile"`
}

// job is one job of fio's JSON.
type job struct {
	Error int  `json:"error"`
	Read  side `json:"read"`
	Write side `json:"write"`
	Sync  struct {
		Lat spread `json:"lat_ns"`
	} `json:"sync"`
}

// parseJob reads fio's JSON, which has one job.
func parseJob(b []byte) (*job, error) {
	var out struct {
		Jobs []job `json:"jobs"`
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("fio's JSON: %w", err)
	}
	if len(out.Jobs) != 1 {
		return nil, fmt.Errorf("fio's JSON has %d jobs", len(out.Jobs))
	}
	return &out.Jobs[0], nil
}

// parseFio reads fio's JSON of one job of a workload.
func parseFio(b []byte, w workload) (r result, err error) {
	j, err := parseJob(b)
	if err != nil {
		return r, err
	}
	s := &j.Read
	if w.write {
		s = &j.Write
	}
	if j.Error != 0 || s.Ops == 0 {
		return r, fmt.Errorf("fio: error %d, %.0f operations", j.Error, s.Ops)
	}
	r = result{Ops: s.Ops, Bytes: s.Bytes, IOPS: s.IOPS, MBps: s.BW / 1e6, Max: s.Clat.Max / 1e3}
	for i, p := range percentiles {
		r.Latency[i] = s.Clat.Percentile[p] / 1e3
		if w.sync {
			r.Latency[i] += j.Sync.Lat.Percentile[p] / 1e3
		}
	}
	if w.sync {
		r.Max += j.Sync.Lat.Max / 1e3
	}
	return r, nil
}

// place says fio where a target is.
func place(target, path string) []string {
	if target == nbd {
		return []string{"--ioengine=nbd", "--uri=nbd+unix:///?socket=" + path}
	}
	return []string{"--ioengine=libaio", "--direct=1", "--filename=" + path}
}

// fio runs one workload on a target.
func (b *bencher) fio(w workload, target, path string, more ...string) (result, error) {
	file := filepath.Join(b.dir, "fio.json")
	args := append([]string{"--name=" + w.name, "--output-format=json", "--output=" + file, "--size=" + strconv.FormatInt(b.o.size, 10),
		"--percentile_list=50:99:99.9", "--norandommap", "--randrepeat=0"}, place(target, path)...)
	args = append(append(args, w.args...), more...)
	if i := slices.Index(args, fdatasync); i >= 0 && target == nbd {
		args[i] = "--fsync=1" // the same command of NBD; this engine of fio refuses the other word
	}
	cmd := exec.CommandContext(b.ctx, "fio", args...)
	cmd.Dir = b.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	text, err := cmd.CombinedOutput()
	if err != nil {
		return result{}, fmt.Errorf("fio %s on %s: %w: %.400s", w.name, target, err, text)
	}
	j, err := os.ReadFile(file)
	if err != nil {
		return result{}, err
	}
	r, err := parseFio(j, w)
	if err != nil {
		return r, fmt.Errorf("%s on %s: %w", w.name, target, err)
	}
	r.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return r, nil
}

// timed makes fio run for the asked duration.
func (b *bencher) timed() []string {
	return []string{"--time_based", "--runtime=" + strconv.FormatInt(int64(b.o.duration/time.Second), 10)}
}

// fill writes a target whole once, so that reads find data and overwrites overwrite.
func (b *bencher) fill(target, path string) (result, error) {
	w := workload{name: "fill", write: true, args: []string{"--rw=write", "--bs=1m", "--iodepth=8", "--end_fsync=1"}}
	return b.fio(w, target, path)
}

// hasNBD tells why fio can not speak NBD; empty if it can.
func hasNBD() string {
	if out, err := exec.Command("fio", "--enghelp=nbd").CombinedOutput(); err != nil {
		return fmt.Sprintf("this fio has no nbd engine: %.100s", out)
	}
	return ""
}
