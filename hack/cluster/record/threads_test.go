package record

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const leaderless = "MYNETWORK_TEST_LEADERLESS"

// init makes the program that TestFirstThreadEnds starts: its first thread, which init runs on, ends, and another stays.
func init() {
	if os.Getenv(leaderless) == "" {
		return
	}
	started := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(started)
		for {
			unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0) //nolint:errcheck // waits for ever
		}
	}()
	<-started
	fmt.Println("ready")
	unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0) //nolint:errcheck // ends this thread
}

// TestFirstThreadEnds: a process lives as long as one of its threads does. Pid 1 of a node that is killed may be a zombie before its last thread
// has ended the node's other processes.
func TestFirstThreadEnds(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), leaderless+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()         //nolint:errcheck // killed
	defer cmd.Process.Kill() //nolint:errcheck // it may have been already
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	for { // the test's own limit ends it
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(stat), ") Z ") {
			break
		}
		runtime.Gosched() // it ends as soon as it runs
	}
	p, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatalf("one thread lives: %v", err)
	}
	if err := p.Stop(time.Minute); err != nil {
		t.Fatal(err)
	}
	if p.Alive() {
		t.Error("alive after all its threads have ended")
	}
}
