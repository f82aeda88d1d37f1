package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// timeline is what happened, in order: on the terminal and in a file.
type timeline struct {
	mu    sync.Mutex
	start time.Time
	f     *os.File
}

func newTimeline(file string, start time.Time) (*timeline, error) {
	f, err := os.Create(file)
	return &timeline{start: start, f: f}, err
}

func (l *timeline) say(who, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := fmt.Sprintf("%7.1f  %-9s %s\n", time.Since(l.start).Seconds(), who, fmt.Sprintf(format, args...))
	fmt.Print(line)
	_, _ = l.f.WriteString(line)
}

func (l *timeline) close() { _ = l.f.Close() }

var logLine = regexp.MustCompile(`^time=(\S+) level=(\S+) msg=(.*)$`)

// told is what the agents' logs say above the level of information, and of events, merged with the timeline's clock.
func (t *thrash) told() (lines []string) {
	logs, _ := filepath.Glob(t.path("n*", "agent.log"))
	for _, name := range logs {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			m := logLine.FindStringSubmatch(s.Text())
			if m == nil || m[2] == "INFO" && !strings.Contains(m[3], "reason=") || m[2] == "DEBUG" {
				continue
			}
			at, err := time.Parse(time.RFC3339Nano, m[1])
			if err == nil {
				lines = append(lines, fmt.Sprintf("%7.1f  %-9s %s %s", at.Sub(t.start).Seconds(), filepath.Base(filepath.Dir(name)), m[2], m[3]))
			}
		}
		_ = f.Close()
	}
	slices.Sort(lines)
	return lines
}

// summary counts what was done, and writes what agents told into a file beside the timeline.
func (t *thrash) summary(err error) {
	var names []string
	t.mu.Lock()
	for name, n := range t.count {
		names = append(names, fmt.Sprintf("%s %d", name, n))
	}
	t.mu.Unlock()
	slices.Sort(names)
	fmt.Printf("\nfaults and chores: %s\n", strings.Join(names, ", "))
	var written, read, syncs, longest int64
	for _, l := range t.loads {
		written, read, syncs, longest = written+l.written.Load(), read+l.read.Load(), syncs+l.syncs.Load(), max(longest, l.longest.Load())
	}
	fmt.Printf("load: %d MB written, %d MB read and compared, %d fsyncs, the longest wait %.1f s\n", written/1e6, read/1e6, syncs, time.Duration(longest).Seconds())
	told := t.told()
	_ = os.WriteFile(filepath.Join(t.dir, "told"), []byte(strings.Join(told, "\n")+"\n"), 0o600)
	reasons := map[string]int{}
	for _, l := range told {
		if m := regexp.MustCompile(`reason=(\S+)`).FindStringSubmatch(l); m != nil {
			reasons[m[1]]++
		}
	}
	names = names[:0]
	for r, n := range reasons {
		names = append(names, fmt.Sprintf("%s %d", r, n))
	}
	slices.Sort(names)
	fmt.Printf("events of the agents: %s\n", strings.Join(names, ", "))
	if err == nil {
		fmt.Println("every promise held")
	}
}
