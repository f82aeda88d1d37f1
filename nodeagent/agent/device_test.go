package agent

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// TestDevice: a volume is a block device of this machine, grows under its user, and has the same content on another node.
func TestDevice(t *testing.T) {
	c := newCluster(t, 3, true)
	ctx := t.Context()
	c.create("a", "vol", 8*mib)
	m := newModel(t, 11, 8*mib)
	at, err := c.node["a"].api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "vol", Kind: agentv1.DeviceKind_DEVICE_KIND_FUSE})
	check(t, err)
	m.write(c.engine("a", "vol"), 20)
	d, err := exporttest.OpenBlockDevice(at.Device)
	check(t, err)
	got := make([]byte, len(m.want))
	_, err = d.ReadAt(got, 0)
	check(t, err)
	if !bytes.Equal(got, m.want) {
		t.Fatal("the device does not show what the engine holds")
	}
	for i := range m.want[:64<<10] {
		m.want[i] = byte(i * 7)
	}
	_, err = d.WriteAt(m.want[:64<<10], 0)
	check(t, err)
	_, err = c.node["a"].api.ResizeVolume(ctx, &agentv1.ResizeVolumeRequest{Volume: "vol", Size: 12 * mib})
	check(t, err)
	m.want = append(m.want, make([]byte, 4*mib)...)
	got = make([]byte, len(m.want))
	_, err = d.ReadAt(got, 0)
	check(t, err)
	if !bytes.Equal(got, m.want) {
		t.Fatal("the grown device does not show what was written")
	}
	check(t, d.Close())
	c.detach("a", "vol")
	if _, err := os.Stat(at.Device); err == nil {
		if b, _ := os.ReadFile("/sys/class/block/" + at.Device[len("/dev/"):] + "/size"); len(b) > 0 && string(b) != "0\n" {
			t.Errorf("%s is still there with %s sectors", at.Device, b)
		}
	}
	m.verify(c.attach("b", "vol"))
}

// TestSocket: a volume is served over NBD on a socket.
func TestSocket(t *testing.T) {
	c := newCluster(t, 3, true)
	c.create("a", "vol", 4*mib)
	at, err := c.node["a"].api.AttachVolume(t.Context(), &agentv1.AttachVolumeRequest{Volume: "vol", Kind: agentv1.DeviceKind_DEVICE_KIND_NBD})
	check(t, err)
	conn, err := net.Dial("unix", at.Device)
	check(t, err)
	defer conn.Close()
	hello := make([]byte, 8)
	_, err = io.ReadFull(conn, hello)
	check(t, err)
	if string(hello) != "NBDMAGIC" {
		t.Fatalf("greeted with %q", hello)
	}
	c.detach("a", "vol")
	if _, err := os.Stat(at.Device); err == nil {
		t.Error("the socket is still there")
	}
}
