package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// writerScript appends numbered lines to a file, syncs each, and says so; on its start it says up to which number the file goes
// without a gap, and ends with an error if there is one.
const writerScript = `
f=/data/log; touch $f
awk '$1!=NR{print "gap at line " NR ": " $0; exit 1}' $f || exit 1
n=$(wc -l < $f); echo "resumed $n"
while n=$((n+1)); echo "$n" >> $f && sync -d $f; do echo "acked $n"; sleep 0.02; done
echo "failed at $n"; sleep infinity`

// writer is what a writing pod has said so far. Safe for concurrent use.
type writer struct {
	mu             sync.Mutex
	acked, resumed int // -1: not said
	failed         bool
	gap            string
}

func newWriter() *writer { return &writer{acked: -1, resumed: -1} }

// line takes one line of the pod's output.
func (w *writer) line(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	word, rest, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(rest)
	switch {
	case word == "acked" && err == nil:
		w.acked = n
	case word == "resumed" && err == nil:
		w.resumed = n
	case word == "failed":
		w.failed = true
	case word == "gap":
		w.gap = text
	}
}

// state gives what was said.
func (w *writer) state() (acked, resumed int, failed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked, w.resumed, w.failed
}

// startWriter makes a claim and a StatefulSet that writes to it, and waits for its first lines.
func (s *suite) startWriter(name string) (w *writer, node string, err error) {
	if err := s.create(s.claim(name, "1Gi", false, nil)); err != nil {
		return nil, "", err
	}
	if err := s.create(s.set(name, name, writerScript)); err != nil {
		return nil, "", err
	}
	return s.watchWriter(name)
}

// watchWriter follows the pod NAME-0 as it runs now.
func (s *suite) watchWriter(name string) (w *writer, node string, err error) {
	if node, err = s.running(name + "-0"); err != nil {
		return nil, "", err
	}
	w = newWriter()
	if err := s.follow(name+"-0", w.line); err != nil {
		return nil, "", err
	}
	return w, node, s.until("the program in "+name+"-0 writes", func() error {
		acked, resumed, failed := w.state()
		switch {
		case w.gap != "":
			return fmt.Errorf("the file has a %s", w.gap)
		case failed:
			return fmt.Errorf("its write failed")
		case acked < 0 || resumed < 0 || acked < resumed+50:
			return fmt.Errorf("it has said: resumed %d, acked %d", resumed, acked)
		}
		return nil
	})
}

// nothingLost compares what was acknowledged with what was found afterwards.
func nothingLost(before, after *writer) (acked, resumed int, err error) {
	acked, _, _ = before.state()
	_, resumed, _ = after.state()
	if resumed < acked {
		return acked, resumed, fmt.Errorf("flushed lines are lost: %d were acknowledged, %d are there", acked, resumed)
	}
	return acked, resumed, nil
}
