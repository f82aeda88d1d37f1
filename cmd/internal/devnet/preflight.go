package devnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Errors of what the machine must have.
var (
	ErrRoot = errors.New("this needs root")
	ErrFuse = errors.New("this machine cannot serve FUSE")
	ErrLoop = errors.New("no free loop device")
	ErrPort = errors.New("port is in use")
)

const otherwise = "or take \"--device nbd\", which needs no kernel device"

// machine is what preflight looks at; tests give others.
type machine struct {
	euid        int
	fuse, loops string
	freeLoop    func(control string) error
}

func thisMachine() machine {
	return machine{euid: os.Geteuid(), fuse: "/dev/fuse", loops: "/dev/loop-control", freeLoop: freeLoop}
}

// preflight says, before anything is made, why devices of a kind cannot be attached here.
func (m machine) preflight(device string) error {
	if device != "fuse" {
		return nil
	}
	if m.euid != 0 {
		return fmt.Errorf("%w: mounting and loop devices are root's; run it with sudo, %s", ErrRoot, otherwise)
	}
	f, err := os.OpenFile(m.fuse, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w: %w; load the module (modprobe fuse) or give the container %s, %s", ErrFuse, err, m.fuse, otherwise)
	}
	_ = f.Close()
	if err := m.freeLoop(m.loops); err != nil {
		return fmt.Errorf("%w: %w; free one (losetup -l lists them, losetup -d ends one), %s", ErrLoop, err, otherwise)
	}
	return nil
}

// freeLoop asks the kernel for a loop device that nothing uses; it is not taken.
func freeLoop(control string) error {
	f, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CTL_GET_FREE)
	return err
}

// addresses gives n free addresses on loopback, from first on, or any if it is 0.
func addresses(n, first int) (out []string, err error) {
	if first != 0 && (first < 1 || first+n-1 > 65535) {
		return nil, fmt.Errorf("ports %d to %d: a port is 1 to 65535", first, first+n-1)
	}
	for i := range n {
		l, err := listenAt(first, i)
		if err != nil {
			return nil, err
		}
		defer l.Close() // all stay open until all are found, so that none is found twice
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// listenAt listens on port first+i; if first is 0, on a free port that the kernel gives to nobody who does not ask for it:
// while an agent is dead, its port must not become the near end of some connection, nor of its peers' attempts to reach it.
func listenAt(first, i int) (net.Listener, error) {
	if first != 0 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+i))
		l, err := net.Listen("tcp4", address)
		if err != nil {
			return nil, portError(address, err)
		}
		return l, nil
	}
	low := ephemeral()
	for range 100 {
		if l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(low/2+rand.IntN(low/2)))); err == nil {
			return l, nil
		}
	}
	return net.Listen("tcp4", "127.0.0.1:0")
}

// ephemeral is the first port that the kernel chooses for connections.
func ephemeral() int {
	low := 0
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if _, serr := fmt.Sscan(string(b), &low); err != nil || serr != nil || low < 4096 {
		return 32768
	}
	return low
}

// portFree tells whether a node's recorded address can be listened on.
func portFree(address string) error {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		return portError(address, err)
	}
	return l.Close()
}

func portError(address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another process listens on %s (ss -ltnp shows it); end it, or make the network anew with another --port", ErrPort, address)
	}
	return fmt.Errorf("listen on %s: %w", address, err)
}
