package agent

import (
	"bytes"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
)

// TestDevice: a volume is a block device of this machine, grows under its user, and has the same content on another node.
func TestDevice(t *testing.T) {
	c := newCluster(t, 3, true)
	ctx := t.Context()
	c.create("a", "vol", 8*mib)
	m := newModel(t, 11, 8*mib)
	at, err := c.node["a"].api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: "vol", Kind: agentv1.DeviceKind_DEVICE_KIND_FUSE})
	check(t, err)
	if got := at.Volume.DeviceTransport; !strings.HasPrefix(got, "devfuse (") { // whatever the kernel offers: there is a holder
		t.Errorf("the device's requests travel over %q", got)
	}
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

// TestUringKill: with io_uring, which must be demanded where there is a holder, a device ends with its agent. Its I/O fails
// at once, the next agent has what was acknowledged, and clears the place for a new device.
func TestUringKill(t *testing.T) {
	exporttest.NeedUring(t)
	c := newCluster(t, 3, true)
	c.stop("a")
	c.node["a"].cfg.FuseTransport = fuse.Uring
	cmd := c.spawn("a")
	defer func() { c.end("a", cmd, syscall.SIGKILL) }()
	c.create("b", "vol", 8*mib)
	attach := func() *exporttest.BlockDevice {
		t.Helper()
		var d *exporttest.BlockDevice
		eventually(t, "the volume is attached", func() error {
			at, err := c.node["a"].api.AttachVolume(t.Context(), &agentv1.AttachVolumeRequest{Volume: "vol", Kind: agentv1.DeviceKind_DEVICE_KIND_FUSE})
			if err != nil {
				return err
			}
			if got := at.Volume.DeviceTransport; !strings.HasPrefix(got, "io_uring (") {
				t.Errorf("the device's requests travel over %q", got)
			}
			d, err = exporttest.OpenBlockDevice(at.Device)
			return err
		})
		return d
	}
	d := attach()
	p := exporttest.Aligned(4096)
	for i := range p {
		p[i] = 'a'
	}
	_, err := d.WriteAt(p, 0)
	check(t, err)
	c.end("a", cmd, syscall.SIGKILL)
	if _, err := d.WriteAt(p, 4096); err == nil {
		t.Error("a write succeeded without a server")
	}
	check(t, d.Close())
	cmd = c.spawn("a")
	d = attach()
	got := exporttest.Aligned(4096)
	if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, p) {
		t.Errorf("what was acknowledged before the kill: %v, equal %v", err, bytes.Equal(got, p))
	}
	check(t, d.Close())
	_, err = c.node["a"].api.DetachVolume(t.Context(), &agentv1.DetachVolumeRequest{Volume: "vol"})
	check(t, err)
}
