package record

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRecordOutlivesTheProgram(t *testing.T) {
	dir := Dir(t.TempDir())
	if _, err := Read(dir); !errors.Is(err, ErrNone) {
		t.Fatalf("an empty directory: %v, want ErrNone", err)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.Settings.Nodes = []string{"n1"}
	if err := r.Started("me", os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if err := r.AddCgroup("/a"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.AddCgroup("/a"), r.Close()); err != nil {
		t.Fatal(err)
	}
	again, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.Run != r.Run || !again.Alive("me") || len(again.Cgroups) != 1 || again.Settings.Nodes[0] != "n1" {
		t.Errorf("read back: %+v", again)
	}
	if !strings.Contains(again.Name("x"), r.Run) {
		t.Errorf("the name %s does not hold the run id", again.Name("x"))
	}
}

// TestEarlierBoot reads a record of a machine that has been restarted since: nothing in it may be taken to live, though
// its pids are in use again.
func TestEarlierBoot(t *testing.T) {
	dir := Dir(t.TempDir())
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.Boot = "another"
	if err := errors.Join(r.AddCgroup("/a"), r.Started("me", os.Getpid()), r.Close()); err != nil {
		t.Fatal(err)
	}
	again, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.Run != r.Run || again.Alive("me") || len(again.Cgroups) != 0 {
		t.Errorf("after a restart of the machine: %+v", again)
	}
}

func TestUnknownVersion(t *testing.T) {
	dir := Dir(t.TempDir())
	if err := os.WriteFile(dir.file(), []byte(`{"version": 99}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("a record of a later program: %v", err)
	}
}

func TestOpenExcludes(t *testing.T) {
	dir := Dir(t.TempDir())
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() {
		r, err := Open(dir)
		if err == nil {
			err = r.Close()
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Fatalf("opened twice: %v", err)
	case <-time.After(50 * time.Millisecond): // a lock that does not hold would be seen nearly always
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
}

func TestStopEndsThisProcessAlone(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	other := Process{p.PID, p.Start - 1} // had the pid before
	if other.Alive() {
		t.Error("a process that had the pid before is taken to live")
	}
	if err := other.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if !p.Alive() {
		t.Fatal("the signal to a process that had the pid before has hit the one that has it now")
	}
	if err := p.Stop(10 * time.Second); err != nil { // nobody waits for it yet: it becomes a zombie, which is no process
		t.Fatal(err)
	}
	if p.Alive() {
		t.Error("alive after Stop")
	}
	if err := cmd.Wait(); err == nil {
		t.Error("sleep ended by itself")
	}
	if err := errors.Join(p.Stop(time.Second), Process{}.Stop(time.Second)); err != nil {
		t.Errorf("stopping what has ended: %v", err)
	}
}

func TestStopKillsWhoDoesNotListen(t *testing.T) {
	cmd := exec.Command("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000 & wait; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	p, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(10 * time.Millisecond); err != nil || p.Alive() {
		t.Errorf("Stop: %v, alive %t", err, p.Alive())
	}
	cmd.Wait() //nolint:errcheck // killed
}

func TestStatIsParsed(t *testing.T) {
	tail := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21"
	for name, c := range map[string]struct {
		stat string
		want uint64
		err  bool
	}{
		"plain":                  {"5 (sh)" + tail, 777, false},
		"name of blanks":         {"5 (a b)" + tail, 777, false},
		"name of a bracket":      {"5 (a) S 1)" + tail, 777, false},
		"zombie":                 {"5 (sh)" + strings.NewReplacer(" S ", " Z ", " 17 ", " 1 ").Replace(tail), 0, true},
		"zombie of no thread":    {"5 (sh)" + strings.NewReplacer(" S ", " Z ", " 17 ", " 0 ").Replace(tail), 0, true},
		"first thread ended":     {"5 (sh)" + strings.Replace(tail, " S ", " Z ", 1), 777, false},
		"too short":              {"5 (sh) S 1 2", 0, true},
		"not a stat":             {"", 0, true},
		"start is not a number":  {strings.Replace("5 (sh)"+tail, "777", "x", 1), 0, true},
		"start is behind a sign": {strings.Replace("5 (sh)"+tail, "777", "-7", 1), 0, true},
	} {
		p, err := parse(5, c.stat)
		if (err != nil) != c.err || (!c.err && p != Process{5, c.want}) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}
