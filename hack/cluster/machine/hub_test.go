package machine

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// TestPortOfADeadNode: a node that starts finds the port of its last life, since the kernel takes dead networks apart later.
func TestPortOfADeadNode(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces are root's: not tested here; .ci/run runs as root")
	}
	cmd := exec.Command("unshare", "--net", "sh", "-c", "echo made; read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it ends with its input
	defer in.Close()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Skip("this machine makes no network namespace, so it runs no cluster either, which .ci/run says")
	}
	hub := fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	const plug = "link add v-n2 type veth peer name eth0"
	if err := ip(hub, plug); err != nil {
		t.Fatal(err)
	}
	if err := ip(hub, plug); err == nil {
		t.Fatal("a port was made twice: the test sees no difference")
	}
	for range 2 { // there, and not there
		if err := unplug(hub, "v-n2"); err != nil {
			t.Fatal(err)
		}
	}
	if err := ip(hub, plug); err != nil {
		t.Errorf("after the old port was removed: %v", err)
	}
	if err := unplug("/proc/0/ns/net", "v-n2"); err == nil {
		t.Error("no error where there is no network")
	}
}
