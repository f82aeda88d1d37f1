package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sampleRate is how often perf looks at each processor, a second; a prime, so that nothing periodic keeps step with it.
const sampleRate = 1999

const profileHead = `# Where the CPU time of an operation goes

Written by "make bench-profile": samples of the whole machine (perf) while one workload runs on a volume of three copies, in µs of all processors for each operation.
A copy in crypto/tls counts as a copy; what has no cause of its own is its package.
`

// profile is where the processors were while one workload ran on the volume.
type profile struct {
	workload workload
	result
	machine float64                       // seconds of all processors, idle ones too
	by      map[string]map[string]float64 // seconds by cause and by who it was
	leaves  map[string]float64            // seconds by innermost function
}

// profileCommand says which causes and processes the CPU time of an operation goes to, by samples of the whole machine.
func profileCommand(ctx context.Context, w io.Writer, args []string) (err error) {
	fs := flag.NewFlagSet("profile", flag.ContinueOnError)
	o := options{targets: []string{fuse}}
	where(fs, &o.program, &o.dir, "a new one is made in it, and removed")
	fs.StringVar(&o.out, "out", "", "also write the summary to this file")
	size := fs.String("size", "512Mi", "of the volume")
	duration := fs.String("duration", "6", "of each workload, in seconds")
	workloads := fs.String("workloads", "", "those to run (default: all): "+strings.Join(workloadNames(), " "))
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := o.load(*size, *duration, *workloads); err != nil {
		return err
	}
	if err := preflight(o); err != nil {
		return err
	}
	if _, err := exec.LookPath("perf"); err != nil {
		return fmt.Errorf("%w; apt-get install linux-perf", err)
	}
	b := &bencher{ctx: ctx, o: o}
	defer func() { err = errors.Join(err, b.cleanup()) }()
	if err := b.setup(); err != nil {
		return err
	}
	if b.paths[fuse] == "" {
		return errors.New(b.why[fuse])
	}
	if o.out != "" {
		f, err := os.Create(o.out)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		w = io.MultiWriter(w, f)
	}
	fmt.Fprint(w, profileHead+"\n")
	for _, work := range o.workloads {
		p, err := b.profile(work)
		if err != nil {
			return err
		}
		p.print(w)
	}
	return nil
}

// profile samples the machine in the middle of a run of one workload.
func (b *bencher) profile(w workload) (*profile, error) {
	data := filepath.Join(b.dir, "perf.data")
	seconds := max(1, b.o.duration.Seconds()-2)
	perf := exec.CommandContext(b.ctx, "sh", "-c", fmt.Sprintf("sleep 1; exec perf record -q -a -g -e cpu-clock -F %d -o %s sleep %.1f", sampleRate, data, seconds))
	var text strings.Builder
	perf.Stderr = &text
	if err := perf.Start(); err != nil {
		return nil, err
	}
	r, err := b.fio(w, fuse, b.paths[fuse], b.timed()...)
	if err2 := perf.Wait(); err2 != nil {
		err = errors.Join(err, fmt.Errorf("perf record: %w: %s", err2, text.String()))
	}
	if err != nil {
		return nil, err
	}
	p := &profile{workload: w, result: r, by: map[string]map[string]float64{}, leaves: map[string]float64{}}
	p.Ops = r.IOPS * seconds
	if err := p.read(b.ctx, data, b.names()); err != nil {
		return nil, err
	}
	if err := os.Remove(data); err != nil {
		return nil, err
	}
	_, err = b.quiet()
	return p, err
}

// Who has the samples of a profile, as its columns.
const (
	whoFio    = "fio"
	whoFirst  = "first agent"
	whoOthers = "other agents"
	whoKernel = "kernel's threads"
	whoRest   = "others"
)

// names says whose processes the network's are.
func (b *bencher) names() map[int]string {
	names := map[int]string{}
	for _, n := range b.nodes {
		names[n.Agent], names[n.Holder] = whoOthers, whoRest
		if n.Name == "n1" {
			names[n.Agent] = whoFirst
		}
	}
	return names
}

// read adds up what perf script prints: for each sample a line that begins with the command and ends with its process, then a line for each function,
// the innermost first, then an empty one.
func (p *profile) read(ctx context.Context, data string, names map[int]string) error {
	cmd := exec.CommandContext(ctx, "perf", "script", "-i", data, "-F", "comm,pid,ip,sym")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var text strings.Builder
	cmd.Stderr = &text
	if err := cmd.Start(); err != nil {
		return err
	}
	err = p.parse(out, names)
	if err2 := cmd.Wait(); err == nil && err2 != nil {
		err = fmt.Errorf("perf script: %w: %.400s", err2, text.String())
	}
	return err
}

func (p *profile) parse(r io.Reader, names map[int]string) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	var who string
	var stack []string
	end := func() {
		if who != "" {
			p.sample(who, stack)
		}
		who, stack = "", stack[:0]
	}
	for lines.Scan() {
		line := lines.Text()
		switch fields := strings.Fields(line); {
		case len(fields) == 0:
			end()
		case who == "":
			pid, err := strconv.Atoi(fields[len(fields)-1])
			if err != nil {
				return fmt.Errorf("perf script: %q is no line of a sample", line)
			}
			who = whose(strings.Join(fields[:len(fields)-1], " "), pid, names)
		case len(fields) > 1:
			stack = append(stack, strings.Join(fields[1:], " "))
		}
	}
	end()
	return lines.Err()
}

// whose is the column of a process.
func whose(comm string, pid int, names map[int]string) string {
	if who := names[pid]; who != "" {
		return who
	}
	if comm == "fio" {
		return whoFio
	}
	for _, kernel := range []string{"swapper", "kworker", "loop", "ksoftirqd", "jbd2", "rcu", "migration", "kswapd", "kcompactd"} {
		if strings.HasPrefix(comm, kernel) {
			return whoKernel
		}
	}
	return whoRest
}

// sample adds one.
func (p *profile) sample(who string, stack []string) {
	const each = 1.0 / sampleRate
	p.machine += each
	why := cause(stack)
	if why == causeIdle {
		return
	}
	if p.by[why] == nil {
		p.by[why] = map[string]float64{}
	}
	p.by[why][who] += each
	if len(stack) > 0 {
		p.leaves[stack[0]] += each
	}
}

// print writes the summary, in Markdown: µs of an operation by cause and process, and the functions that have most of it.
func (p *profile) print(w io.Writer) {
	columns := []string{whoFirst, whoOthers, whoFio, whoKernel, whoRest}
	sum := map[string]float64{}
	all := 0.0
	total := map[string]float64{}
	for why, by := range p.by {
		for who, s := range by {
			sum[who], total[why], all = sum[who]+s, total[why]+s, all+s
		}
	}
	us := func(s float64) string { return strconv.FormatFloat(s/p.Ops*1e6, 'f', 1, 64) }
	fmt.Fprintf(w, "## %s: %s a second, p50 %.0f µs, processors busy %.0f %% of the time\n\n", p.workload.name, thousands(p.IOPS), p.Latency[0], 100*all/p.machine)
	fmt.Fprintf(w, "| CPU µs/op | all | %s |\n|---|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	line := func(name string, all float64, by map[string]float64) {
		fmt.Fprintf(w, "| %s | %s |", name, us(all))
		for _, c := range columns {
			fmt.Fprintf(w, " %s |", us(by[c]))
		}
		fmt.Fprintln(w)
	}
	line("**all**", all, sum)
	small, rest := map[string]float64{}, 0.0
	for _, why := range byValue(total) {
		if total[why] < all/200 {
			rest += total[why]
			for who, s := range p.by[why] {
				small[who] += s
			}
			continue
		}
		line(why, total[why], p.by[why])
	}
	line("what is below half a per cent each", rest, small)
	fmt.Fprint(w, "\nInnermost functions, % of what is not idle:")
	for i, f := range byValue(p.leaves) {
		if i == 20 {
			break
		}
		fmt.Fprintf(w, " %s %.1f,", f, 100*p.leaves[f]/all)
	}
	fmt.Fprint(w, " and others.\n\n")
}

// byValue are the keys, the one with the most first.
func byValue(m map[string]float64) []string {
	keys := sortedKeys(m)
	slices.SortStableFunc(keys, func(a, b string) int { return cmp.Compare(m[b], m[a]) })
	return keys
}
