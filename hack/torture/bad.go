package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"mynetwork.io/mynetwork/hack/command"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

// says checks that a command was refused with a code and a message that has certain words, and gives the message.
func says(o command.Output, code int, words ...string) (string, error) {
	text := strings.Join(strings.Fields(o.Stderr), " ")
	for _, w := range words {
		if !strings.Contains(text, w) {
			return "", fmt.Errorf("%v: code %d, and nothing of %q: %s", o.Args, o.Code, w, text)
		}
	}
	if o.Code != code {
		return "", fmt.Errorf("%v: code %d, must be %d: %s", o.Args, o.Code, code, text)
	}
	return fmt.Sprintf("code %d: %.150s", code, strings.TrimPrefix(text, "mynetwork: ")), nil
}

// badCase is one bad input. While it lasts, another volume is written, synced and read on n1.
type badCase struct {
	name string
	f    func() (string, error)
}

// bad does to a network what nobody should. Every case must be refused clearly, and the volume that is in use meanwhile
// must not notice.
func (t *torture) bad() error {
	if err := t.up("--device", "fuse"); err != nil {
		return err
	}
	if err := t.my("volume", "create", volumeName, "--size", "64Mi").Err(); err != nil {
		return err
	}
	device, err := t.attach(volumeName, "n1")
	if err != nil {
		return err
	}
	l, err := newLoad(device, t.r.Uint64())
	if err != nil {
		return err
	}
	cases := append(t.badPeers(), t.badSettings()...)
	cases = append(cases, t.badMachine()...)
	cases = append(cases, t.badSizes(device)...)
	for _, c := range cases {
		err := t.do(c.name, func() (string, error) {
			s, err := c.f()
			return s, errors.Join(err, l.advanced(40*time.Second))
		})
		if err != nil {
			return err
		}
	}
	err = t.do("nothing is lost", func() (string, error) {
		return fmt.Sprintf("%d writes, %d flushes", l.next, l.flushes.Load()), l.finish()
	})
	if err == nil {
		err = t.do("stale epoch", func() (string, error) { return t.staleEpoch(device) })
	}
	if err == nil {
		err = t.fullDisks()
	}
	return err
}

func (t *torture) file(elem ...string) string {
	return filepath.Join(append([]string{t.net}, elem...)...)
}

// address is the peer server of a node.
func (t *torture) address(node string) string {
	b, _ := os.ReadFile(t.file("n1", "agent.yaml"))
	return regexp.MustCompile(node + `@(\S+)`).FindStringSubmatch(string(b) + node + "@none")[1]
}

// replaced runs f while a file has other content.
func replaced(name string, content []byte, f func() (string, error)) (string, error) {
	was, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		return "", err
	}
	s, err := f()
	return s, errors.Join(err, os.WriteFile(name, was, 0o600))
}

// dropped checks that a peer server ends a connection on which bytes were sent.
func dropped(c net.Conn, send []byte) (string, error) {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	start := time.Now()
	if _, err := c.Write(send); err != nil {
		return "the connection is ended at once", nil
	}
	b := make([]byte, 4096)
	for {
		if _, err := c.Read(b); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return "", errors.New("the connection is kept")
			}
			return fmt.Sprintf("the connection is ended after %.1f s", time.Since(start).Seconds()), nil
		}
	}
}

// dial speaks to n1's peer server as node n2 of a network whose certificates are in a directory.
func (t *torture) dial(tlsDir string) (net.Conn, error) {
	c, err := identity.LoadCredentials(filepath.Join(tlsDir, "tls.crt"), filepath.Join(tlsDir, "tls.key"), filepath.Join(tlsDir, "ca.crt"), identity.CredentialOptions{})
	if err != nil {
		return nil, err
	}
	cfg := c.ClientConfig("n1", new(identity.Identity))
	cfg.VerifyConnection = nil // the server is the one that must refuse
	return tls.Dial("tcp", t.address("n1"), cfg)
}

func (t *torture) badPeers() []badCase {
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(t.r.Uint32())
	}
	hello := func(body uint32, typ byte) []byte { // a header, see package peer
		return append([]byte{'m', 'y', typ, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, byte(body), byte(body >> 8), byte(body >> 16), byte(body >> 24), 0, 0, 0, 0, 0, 0, 0, 0}, noise[:256]...)
	}
	secure := func(send []byte) func() (string, error) {
		return func() (string, error) {
			c, err := t.dial(t.file("n2", "tls"))
			if err != nil {
				return "", err
			}
			return dropped(c, send)
		}
	}
	return []badCase{
		{"noise at the peer port", func() (string, error) {
			c, err := net.Dial("tcp", t.address("n1"))
			if err != nil {
				return "", err
			}
			return dropped(c, noise)
		}},
		{"a silent connection at the peer port", func() (string, error) {
			c, err := net.Dial("tcp", t.address("n1"))
			if err != nil {
				return "", err
			}
			return dropped(c, nil)
		}},
		{"noise in place of frames, from a member", secure(noise)},
		{"a frame of 4 GiB, from a member", secure(hello(1<<32-1, 0xF0))},
		{"a request before the hello, from a member", secure(hello(0, 1))},
		{"a certificate of another authority", func() (string, error) { return t.foreign(hello(0, 0xF0)) }},
	}
}

// foreign speaks to n1's peer server as a node n2 that another authority has certified.
func (t *torture) foreign(send []byte) (string, error) {
	other := filepath.Join(t.dir, "otherca")
	if err := os.MkdirAll(other, 0o700); err != nil {
		return "", err
	}
	ca, err := identity.LoadOrNewCA(other, "dev-other", time.Now())
	if err != nil {
		return "", err
	}
	cert, key, err := ca.Issue("n2", time.Now(), time.Hour)
	if err == nil {
		err = ca.SaveNode(other, cert, key)
	}
	if err != nil {
		return "", err
	}
	cfg, err := tls.LoadX509KeyPair(filepath.Join(other, "tls.crt"), filepath.Join(other, "tls.key"))
	if err != nil {
		return "", err
	}
	c, err := net.Dial("tcp", t.address("n1"))
	if err != nil {
		return "", err
	}
	s := tls.Client(c, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cfg}, MinVersion: tls.VersionTLS13, NextProtos: t.protocols()})
	if err := s.Handshake(); err != nil {
		return fmt.Sprint("refused: ", err), nil
	}
	return dropped(s, send)
}

// protocols are the ALPN values of the peer protocol.
func (t *torture) protocols() []string {
	c, err := identity.LoadCredentials(t.file("n2", "tls", "tls.crt"), t.file("n2", "tls", "tls.key"), t.file("n2", "tls", "ca.crt"), identity.CredentialOptions{})
	if err != nil {
		return nil
	}
	return c.ClientConfig("n1", new(identity.Identity)).NextProtos
}

// restart kills n3, has f try to start it again, which must fail, and starts it in order.
func (t *torture) restart(f func() (string, error)) (string, error) {
	if err := t.my("node", "kill", "n3").Err(); err != nil {
		return "", err
	}
	s, err := f()
	return s, errors.Join(err, t.my("node", "start", "n3").Err())
}

func (t *torture) badSettings() []badCase {
	agent := func(config string) command.Output { return t.exec(t.program, "agent", "--config", config) }
	with := func(name string, content string, code int, words ...string) badCase {
		return badCase{"n3's " + name + " is damaged", func() (string, error) {
			return t.restart(func() (string, error) {
				return replaced(t.file("n3", name), []byte(content), func() (string, error) { return says(agent(t.file("n3", "agent.yaml")), code, words...) })
			})
		}}
	}
	return []badCase{
		with("agent.yaml", "agent:\n  node: [", 2, "agent.yaml", "correct it"),
		with("agent.yaml", "agent:\n  nodde: n3\n", 2, "nodde", "help configuration"),
		with("tls/tls.crt", "no certificate", 2, "agent.tls"),
		with("tls/tls.key", "", 2, "agent.tls"),
		{"n3 has n2's certificate", func() (string, error) {
			return t.restart(func() (string, error) {
				cert, _ := os.ReadFile(t.file("n2", "tls", "tls.crt"))
				key, _ := os.ReadFile(t.file("n2", "tls", "tls.key"))
				return replaced(t.file("n3", "tls", "tls.crt"), cert, func() (string, error) {
					return replaced(t.file("n3", "tls", "tls.key"), key, func() (string, error) {
						return says(agent(t.file("n3", "agent.yaml")), 1, "this is node n3")
					})
				})
			})
		}},
		{"network.json is damaged", func() (string, error) {
			return replaced(t.file("network.json"), []byte("{"), func() (string, error) { return says(t.my("volume", "list"), 1, "restore it") })
		}},
		{"a second agent on a node", func() (string, error) { return says(agent(t.file("n3", "agent.yaml")), 1, "another agent runs") }},
		{"n3's port is in use", func() (string, error) {
			return t.restart(func() (string, error) {
				l, err := net.Listen("tcp4", t.address("n3"))
				if err != nil {
					return "", err
				}
				defer l.Close()
				if _, err := says(agent(t.file("n3", "agent.yaml")), 1, "address already in use"); err != nil {
					return "", err
				}
				return says(t.my("node", "start", "n3"), 1, "port is in use", "ss -ltnp")
			})
		}},
	}
}

// without runs mynetwork where /dev holds only some of its files.
func (t *torture) without(keep string, args ...string) command.Output {
	script := `set -e; mount -t tmpfs none "$1"; for f in null zero urandom ` + keep + `; do cp -a /dev/$f "$1/"; done; mount --move "$1" /dev; shift; exec "$@"`
	empty := filepath.Join(t.dir, "dev")
	if err := os.MkdirAll(empty, 0o700); err != nil {
		return command.Output{Stderr: err.Error(), Code: -1}
	}
	return t.exec("unshare", append([]string{"-m", "--propagation", "private", "sh", "-c", script, "sh", empty, t.program}, args...)...)
}

func (t *torture) badMachine() []badCase {
	other := filepath.Join(t.dir, "other")
	return []badCase{
		{"no /dev/fuse", func() (string, error) {
			return says(t.without("loop-control", "dev", "up", "--device", "fuse", "--dir", other), 1, "/dev/fuse", "modprobe fuse", "--device nbd")
		}},
		{"no loop device", func() (string, error) {
			return says(t.without("fuse", "dev", "up", "--device", "fuse", "--dir", other), 1, "no free loop device", "losetup", "--device nbd")
		}},
		{"n3 lost /dev/fuse while it was down; attach there", func() (string, error) {
			return t.restart(func() (s string, err error) {
				if err := t.without("loop-control", "node", "start", "n3", "--dir", t.net).Err(); err != nil {
					return "", err
				}
				err = t.my("volume", "create", "w", "--size", "4Mi").Err()
				if err == nil {
					s, err = says(t.my("volume", "attach", "w", "--node", "n3"), 1, "/dev/fuse")
				}
				return s, errors.Join(err, t.my("volume", "delete", "w", "--yes").Err(), t.my("node", "kill", "n3").Err())
			})
		}},
		{"a directory that holds something else", func() (string, error) {
			return says(t.exec(t.program, "dev", "up", "--dir", t.file("n1")), 1, "choose another")
		}},
	}
}

func (t *torture) badSizes(device string) []badCase {
	return []badCase{
		{"a volume of 5000 bytes", func() (string, error) { return says(t.my("volume", "create", "odd", "--size", "5000"), 2, "4096") }},
		{"growth to 64 MiB and a byte", func() (string, error) { return says(t.my("volume", "resize", volumeName, "67108865"), 2, "4096") }},
		{"a volume that shrinks", func() (string, error) { return says(t.my("volume", "resize", volumeName, "4Mi"), 2, "shrink") }},
		{"512 bytes written past the cache", func() (string, error) {
			f, err := os.OpenFile(device, os.O_RDWR|syscall.O_DIRECT, 0)
			if err != nil {
				return "", err
			}
			defer f.Close()
			if _, err = f.WriteAt(aligned()[:512], 60<<20); !errors.Is(err, syscall.EINVAL) {
				return "", fmt.Errorf("%w; must be EINVAL", err)
			}
			return err.Error(), nil
		}},
	}
}

// staleEpoch writes on n1 after n2 has taken the volume.
func (t *torture) staleEpoch(device string) (string, error) {
	f, err := os.OpenFile(device, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := t.attach(volumeName, "n2", "--force"); err != nil {
		return "", err
	}
	_, err = f.WriteAt(aligned(), 0)
	if err = errors.Join(err, f.Sync()); !errors.Is(err, syscall.EIO) {
		return "", fmt.Errorf("a write on n1 after n2 took the volume: %v; must be EIO", err)
	}
	log, _ := os.ReadFile(t.file("n1", "agent.log"))
	if !strings.Contains(string(log), "fenced") {
		return "", errors.New("n1's log does not say that it was fenced")
	}
	return "EIO on n1, its log says that it was fenced", errors.Join(f.Close(), t.my("volume", "detach", volumeName, "--node", "n1", "--force").Err(), t.my("volume", "detach", volumeName).Err())
}
