package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// loadPages is how many pages of 4 KiB a load writes to, at random, for ever.
const loadPages = 512

// loadScript writes pages, each at once to the disk, and says so. A page is 128 lines of its number and the sequence number of its write: one that is
// of another place, or of two writes, is told from all others. On its start it says what each page has, and every few hundred writes it reads all
// of them past the page cache and compares with what it wrote.
const loadScript = `
check() {
  awk -v pages=%[1]d '
    { p = int((NR-1)/128); if (length($0) != 31 || $1+0 != p || (NR%%128 != 1 && $2 != seq)) { print "bad page " p ", line " NR ": " substr($0, 1, 40); wrong = 1; exit 1 } seq = $2; if (NR%%128 == 0) has = has " " p ":" seq+0 }
    END { if (wrong) exit 1; if (NR != pages*128) { print "bad file of " NR " lines"; exit 1 } print "has" has }'
}
stuck() { echo "$1"; sleep infinity; }
f=/data/pages
if [ ! -e $f ]; then
  awk 'BEGIN { for (p = 0; p < %[1]d; p++) for (l = 0; l < 128; l++) printf "%%09d %%021d\n", p, 0 }' > $f.new && sync $f.new && mv $f.new $f && sync /data || { echo "failed to begin"; exit 1; }
fi
read_all() { dd if=$f bs=64K iflag=direct status=none; }
look() { # wrong content is told from a read that failed: what can be read to its end is wrong
  h=$(read_all | check) && return
  read_all >/dev/null && stuck "$h"
  echo "failed to read: $h"; exit 1
}
look; echo "$h"
n=0; declare -A want
for e in ${h#has}; do want[${e%%%%:*}]=${e#*:}; [ ${e#*:} -gt $n ] && n=${e#*:}; done
while :; do
  n=$((n+1)); i=$((RANDOM %% %[1]d))
  printf -v u '%%09d %%021d\n' $i $n; u=$u$u$u$u$u$u$u$u; u=$u$u$u$u; u=$u$u$u$u
  printf %%s "$u" | dd of=$f bs=4096 seek=$i count=1 iflag=fullblock oflag=direct conv=notrunc,fsync status=none || { echo "failed at $i $n"; exit 1; }
  echo "acked $i $n"; want[$i]=$n
  if [ $((n %% 400)) = 0 ]; then
    look
    for e in ${h#has}; do [ ${want[${e%%%%:*}]} = ${e#*:} ] || stuck "bad page ${e%%%%:*}: it has ${e#*:}, and ${want[${e%%%%:*}]} was written"; done
    echo "verified $n"
  fi
  sleep 0.02
done`

// load is what one writing StatefulSet has said. Safe for concurrent use.
type load struct {
	name string

	mu       sync.Mutex
	acked    map[int]int // by page: the newest write that was acknowledged
	writes   int         // acknowledged
	started  int         // times that it has said what it has
	verified int         // times that it has read all of its pages and they were right
	wrong    []string
	failed   []failure
}

// failure is an error that a pod was given.
type failure struct {
	at         time.Time
	node, said string
}

// line takes a line of a pod on a node; first tells that what it said at its start was not heard yet.
func (l *load) line(node, text string, first *bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case "acked":
		var page, n int
		if k, err := fmt.Sscanf(rest, "%d %d", &page, &n); err == nil && k == 2 && n > l.acked[page] {
			l.acked[page] = n
			l.writes++
		}
	case "verified":
		l.verified++
	case "bad":
		l.wrong = append(l.wrong, fmt.Sprintf("%s on %s says: %s", l.name, node, text))
	case "failed":
		l.failed = append(l.failed, failure{time.Now(), node, text})
	case "has":
		if *first {
			*first = false
			l.started++
			l.has(node, rest)
		}
	}
}

// has compares what a pod found with what was acknowledged.
func (l *load) has(node, list string) {
	found := map[int]int{}
	for _, e := range strings.Fields(list) {
		page, n, _ := strings.Cut(e, ":")
		p, err1 := strconv.Atoi(page)
		v, err2 := strconv.Atoi(n)
		if errors.Join(err1, err2) == nil {
			found[p] = v
		}
	}
	for page, n := range l.acked {
		if found[page] < n {
			l.wrong = append(l.wrong, fmt.Sprintf("%s lost a write: page %d has %d on %s, and %d was acknowledged", l.name, page, found[page], node, n))
		}
	}
}

// state copies what is known.
func (l *load) state() (writes, started, verified int, wrong []string, failed []failure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writes, l.started, l.verified, append([]string(nil), l.wrong...), append([]failure(nil), l.failed...)
}

// startLoad makes a claim and a StatefulSet that writes to it, on another node than other loads if it can be, and follows it until ctx ends.
func (s *suite) startLoad(ctx context.Context, name string) (*load, error) {
	l := &load{name: name, acked: map[int]int{}}
	if err := s.create(s.claim(name, "256Mi", false, nil)); err != nil {
		return nil, err
	}
	set := s.set(name, name, fmt.Sprintf(loadScript, loadPages))
	s.spread(set)
	if err := s.create(set); err != nil {
		return nil, err
	}
	go s.hear(ctx, l)
	return l, s.until("load "+name+" writes", func() error {
		if writes, _, _, wrong, failed := l.state(); writes < 20 {
			return fmt.Errorf("it has written %d, %v %v", writes, wrong, failed)
		}
		return nil
	})
}

// spread puts loads on different nodes, where that can be.
func (s *suite) spread(set *appsv1.StatefulSet) {
	set.Spec.Template.Labels["load"] = "yes"
	set.Spec.Template.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelHostname,
		WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"load": "yes"}}}}
}

// hear follows whatever container runs in the load's pod, over restarts, moves, and an API server that is away.
func (s *suite) hear(ctx context.Context, l *load) {
	heard := map[string]bool{}
	for ctx.Err() == nil {
		p, err := s.kube.CoreV1().Pods(s.ns).Get(ctx, l.name+"-0", metav1.GetOptions{})
		if err == nil && len(p.Status.ContainerStatuses) > 0 {
			key := fmt.Sprintf("%s/%d", p.UID, p.Status.ContainerStatuses[0].RestartCount)
			first := !heard[key]
			if r, err := s.kube.CoreV1().Pods(s.ns).GetLogs(p.Name, &corev1.PodLogOptions{Follow: true}).Stream(ctx); err == nil {
				stop := s.whenReplaced(ctx, p, func() { _ = r.Close() })
				sc := bufio.NewScanner(io.Reader(r))
				sc.Buffer(nil, 1<<20)
				for sc.Scan() {
					l.line(p.Spec.NodeName, sc.Text(), &first)
				}
				stop()
				_ = r.Close()
				heard[key] = heard[key] || !first
			}
		}
		pause(ctx, 500*time.Millisecond)
	}
}

// whenReplaced calls f when another pod has the name of p: the stream of a pod whose node is gone does not end by itself.
func (s *suite) whenReplaced(ctx context.Context, p *corev1.Pod, f func()) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for pause(ctx, time.Second) {
			now, err := s.kube.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
			if err == nil && now.UID != p.UID {
				f()
				return
			}
		}
	}()
	return cancel
}

// pause waits; false: ctx has ended before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
