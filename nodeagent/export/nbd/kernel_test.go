//go:build vm

package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// These tests take a kernel with nbd: make test-vm runs them in a virtual machine.

// Generic netlink as the nbd driver speaks it (include/uapi/linux/nbd-netlink.h): little endian, attributes of type u16, padded to 4 bytes.
const (
	nlmsgHead    = 16
	genlHead     = 4
	familyAttr   = 1
	nbdConnect   = 1
	nbdDrop      = 2
	nbdChange    = 3
	attrIndex    = 1
	attrSize     = 2
	attrBlock    = 3
	attrFlags    = 5
	attrSockets  = 7
	attrNested   = 1 << 15
	sockItem     = 1
	sockFD       = 1
	connections  = 2
	kernelWaits  = 20 * time.Second
	kernelGlance = 20 * time.Millisecond
)

var le = binary.LittleEndian

func attr(kind uint16, data []byte) []byte {
	b := le.AppendUint16(nil, uint16(4+len(data)))
	b = append(le.AppendUint16(b, kind), data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func attr32(kind uint16, v uint32) []byte { return attr(kind, le.AppendUint32(nil, v)) }
func attr64(kind uint16, v uint64) []byte { return attr(kind, le.AppendUint64(nil, v)) }

// genl sends one message and returns the attributes of the kernel's answer, if it has any.
func genl(family uint16, cmd, version uint8, attrs []byte) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	m := le.AppendUint32(nil, uint32(nlmsgHead+genlHead+len(attrs)))
	m = le.AppendUint16(m, family)
	m = le.AppendUint16(m, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m = append(m, make([]byte, 8)...) // sequence and port
	m = append(append(m, cmd, version, 0, 0), attrs...)
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var answer []byte
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil, err
		}
		for b := buf[:n]; len(b) >= nlmsgHead; {
			size := int(le.Uint32(b))
			if le.Uint16(b[4:]) == unix.NLMSG_ERROR {
				if errno := -int32(le.Uint32(b[nlmsgHead:])); errno != 0 {
					return nil, unix.Errno(errno)
				}
				return answer, nil
			}
			answer = append([]byte(nil), b[nlmsgHead+genlHead:size]...)
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

// find gives an attribute's data.
func find(attrs []byte, kind uint16) ([]byte, error) {
	for len(attrs) >= 4 {
		n := int(le.Uint16(attrs))
		if le.Uint16(attrs[2:])&^attrNested == kind {
			return attrs[4:n], nil
		}
		attrs = attrs[min((n+3)&^3, len(attrs)):]
	}
	return nil, fmt.Errorf("no attribute %d", kind)
}

func nbdFamily() (uint16, error) {
	a, err := genl(unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY, 1, attr(unix.CTRL_ATTR_FAMILY_NAME, []byte("nbd\x00")))
	if err != nil {
		return 0, err
	}
	id, err := find(a, familyAttr)
	if err != nil {
		return 0, err
	}
	return le.Uint16(id), nil
}

// kernelDevice is a Server with a block device of the kernel's nbd driver on it.
type kernelDevice struct {
	*Server
	family  uint16
	index   uint32
	dropped bool
}

var _ export.Device = (*kernelDevice)(nil)

func (d *kernelDevice) Path() string { return fmt.Sprintf("/dev/nbd%d", d.index) }

// Resize tells the kernel the new size, which the protocol cannot.
func (d *kernelDevice) Resize(ctx context.Context, size int64) error {
	if err := d.Server.Resize(ctx, size); err != nil {
		return err
	}
	_, err := genl(d.family, nbdChange, 1, append(attr32(attrIndex, d.index), attr64(attrSize, uint64(size))...))
	return err
}

// Close disconnects the kernel, waits until it has done with the device, and ends the server.
func (d *kernelDevice) Close(ctx context.Context) error {
	if !d.dropped {
		d.dropped = true
		if err := d.drop(ctx); err != nil {
			return err
		}
	}
	return d.Server.Close(ctx)
}

// attachKernel connects the kernel to s, over some connections.
func attachKernel(s *Server) (*kernelDevice, error) {
	family, err := nbdFamily()
	if err != nil {
		return nil, fmt.Errorf("the kernel's nbd driver: %w", err)
	}
	var socks []byte
	var size int64
	for range connections {
		c, err := net.Dial("unix", s.Path())
		if err != nil {
			return nil, err
		}
		if size, err = hello(c, false); err != nil {
			return nil, err
		}
		f, err := c.(*net.UnixConn).File() // the kernel takes a reference of its own
		_ = c.Close()
		if err != nil {
			return nil, err
		}
		defer f.Close()
		socks = append(socks, attr(sockItem|attrNested, attr32(sockFD, uint32(f.Fd())))...)
	}
	attrs := attr64(attrSize, uint64(size)) // no index: the kernel takes a free device
	attrs = append(attrs, attr64(attrBlock, export.BlockSize)...)
	attrs = append(attrs, attr64(attrFlags, exportFlags)...)
	attrs = append(attrs, attr(attrSockets|attrNested, socks)...)
	a, err := genl(family, nbdConnect, 1, attrs)
	if err != nil {
		return nil, fmt.Errorf("connect the kernel: %w", err)
	}
	index, err := find(a, attrIndex)
	if err != nil {
		return nil, err
	}
	return &kernelDevice{Server: s, family: family, index: le.Uint32(index)}, nil
}

// drop disconnects the kernel and waits until it has done with the device.
func (d *kernelDevice) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, kernelWaits)
	defer cancel()
	if _, err := genl(d.family, nbdDrop, 1, attr32(attrIndex, d.index)); err != nil {
		return err
	}
	tick := time.NewTicker(kernelGlance)
	defer tick.Stop()
	for {
		if _, err := os.Stat(fmt.Sprintf("/sys/block/nbd%d/pid", d.index)); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// The suite over the kernel's own client, with two connections.
func TestKernelSuite(t *testing.T) {
	exporttest.Run(t, exporttest.Front{Open: func(tb testing.TB, b export.Backend) (export.Device, exporttest.Disk) {
		tb.Helper()
		s, err := Serve(b, Options{Socket: filepath.Join(tb.TempDir(), "n", "s")})
		if err != nil {
			tb.Fatal(err)
		}
		d, err := attachKernel(s)
		if err != nil {
			tb.Fatal(err)
		}
		disk, err := exporttest.OpenBlockDevice(d.Path())
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			_ = disk.Close()
			if err := d.Close(context.Background()); err != nil {
				tb.Error(err)
			}
		})
		return d, disk
	}})
}
