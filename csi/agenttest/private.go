package agenttest

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// RealEnv is the variable that, when set, has tests use real devices and mounts. They need root, e2fsprogs and xfsprogs.
const RealEnv = "CSI_REAL"

const privateEnv = "CSI_REAL_PRIVATE"

// Private makes this process the first of a mount namespace of its own if tests on real devices are wanted: call it from
// TestMain. All mounts end with the process; none is seen outside.
func Private() {
	if os.Getenv(RealEnv) == "" || os.Getenv(privateEnv) != "" {
		return
	}
	unshare, err := exec.LookPath("unshare")
	if err == nil {
		env := append(os.Environ(), privateEnv+"=1")
		err = syscall.Exec(unshare, append([]string{"unshare", "--mount", "--propagation", "private", "--"}, os.Args...), env)
	}
	fmt.Fprintln(os.Stderr, "no mount namespace for tests on real devices:", err)
	os.Exit(1)
}
