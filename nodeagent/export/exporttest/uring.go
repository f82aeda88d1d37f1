package exporttest

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	uringSwitch = "/sys/module/fuse/parameters/enable_uring"
	uringEnv    = "MYNETWORK_TEST_URING"
)

// NeedUring skips a test that takes FUSE over io_uring unless the machine's kernel has it turned on. With MYNETWORK_TEST_URING=1 it
// turns the kernel's switch on for the length of the test: connections that exist are not touched, those that others make
// meanwhile may be. Tests that call it wait for each other, across processes; a test calls it once, and not LockUring too.
func NeedUring(tb testing.TB) {
	tb.Helper()
	LockUring(tb)
	was, err := os.ReadFile(uringSwitch)
	if err != nil {
		tb.Skipf("no FUSE over io_uring: %v", err)
	}
	if bytes.HasPrefix(was, []byte("Y")) {
		return
	}
	if os.Getenv(uringEnv) == "" {
		tb.Skipf("FUSE over io_uring is off (%s); %s=1 turns it on for a test", uringSwitch, uringEnv)
	}
	if err := os.WriteFile(uringSwitch, []byte("Y"), 0); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.WriteFile(uringSwitch, was, 0); err != nil {
			tb.Error(err)
		}
	})
}

// LockUring keeps NeedUring of other tests from turning the switch for the length of the test.
func LockUring(tb testing.TB) {
	tb.Helper()
	f, err := os.Open(uringSwitch)
	if err != nil {
		return // nobody can turn what is not there
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
}
