package machine

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// cluster is where a node sees the cluster's programs, images and settings.
const cluster = "/opt/cluster"

// pid1 is the first process of a node. It reaps every process of the node, so nothing else in it may wait for children
// once reap runs.
type pid1 struct {
	config   Config
	logs     map[string]*os.File
	started  map[int]int // pid to index of the service
	restart  chan int
	stopping atomic.Bool
}

// PID1 is the process that Boot starts. It ends only when the node is stopped.
func PID1() error {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	p := &pid1{logs: map[string]*os.File{}, started: map[int]int{}, restart: make(chan int, 16)}
	if err := json.NewDecoder(os.Stdin).Decode(&p.config); err != nil {
		return fmt.Errorf("read the node's settings: %w", err)
	}
	for _, s := range p.config.Services { // before the real machine's files go out of sight
		f, err := openLog(p.config.Disk.Log(p.config.Name + "/" + s.Name))
		if err != nil {
			return err
		}
		p.logs[s.Name] = f
	}
	unix.Umask(0o022)
	if err := unix.Sethostname([]byte(p.config.Name)); err != nil {
		return err
	}
	if err := makeRoot(p.config); err != nil {
		return fmt.Errorf("make the root file system: %w", err)
	}
	if err := forward(); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	go func() {
		<-stop
		p.shutDown()
	}()
	for i, s := range p.config.Services {
		if err := p.start(i); err != nil {
			return err
		}
		if err := p.afterStart(s); err != nil {
			return err
		}
	}
	return p.reap()
}

func (p *pid1) start(i int) error {
	s := p.config.Services[i]
	cmd := exec.Command(s.Argv[0], s.Argv[1:]...)
	cmd.Stdout, cmd.Stderr = p.logs[s.Name], p.logs[s.Name]
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" + cluster + "/bin", "HOME=/root"}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	log.Printf("%s started, pid %d", s.Name, cmd.Process.Pid)
	p.started[cmd.Process.Pid] = i
	return nil
}

// afterStart waits for what the next service needs.
func (p *pid1) afterStart(s Service) error {
	if s.Socket != "" {
		if err := answers(s.Socket, time.Minute); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	if s.Import {
		return importImages(p.logs[s.Name])
	}
	return nil
}

// answers waits until a unix socket accepts connections.
func answers(socket string, most time.Duration) error {
	for end := time.Now().Add(most); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("unix", socket)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			return err
		}
	}
}

// importImages imports the archives that this node has not yet imported. One that cannot be imported is no reason for
// the node not to start: pods that need it will say so.
func importImages(out *os.File) error {
	archives, err := filepath.Glob(filepath.Join(cluster, "images", "*.tar"))
	if err != nil {
		return err
	}
	for _, a := range archives {
		if err := Import(a, out); err != nil {
			log.Print(err)
		}
	}
	return nil
}

// Import imports an image archive into the containerd of the node that the caller is in, unless it has been imported.
func Import(archive string, out *os.File) error {
	info, err := os.Stat(archive)
	if err != nil {
		return err
	}
	mark := fmt.Sprintf("/var/lib/containerd/imported/%s.%d.%d", filepath.Base(archive), info.Size(), info.ModTime().UnixNano())
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	start := time.Now()
	cmd := exec.Command("ctr", "--address", "/run/containerd/containerd.sock", "--namespace", "k8s.io", "images", "import", archive)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("import %s: %w", archive, err)
	}
	log.Printf("imported %s in %v", filepath.Base(archive), time.Since(start).Round(time.Millisecond))
	if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o644)
}

// reap takes in whoever ends, and starts services again.
func (p *pid1) reap() error {
	ended := make(chan int)
	go func() {
		for {
			var status unix.WaitStatus
			pid, err := unix.Wait4(-1, &status, 0, nil)
			if err != nil { // no child now: a service is about to be started again
				time.Sleep(100 * time.Millisecond)
				continue
			}
			ended <- pid
		}
	}()
	for {
		select {
		case pid := <-ended:
			i, ok := p.started[pid]
			if !ok {
				continue
			}
			delete(p.started, pid)
			log.Printf("%s ended", p.config.Services[i].Name)
			time.AfterFunc(time.Second, func() { p.restart <- i })
		case i := <-p.restart:
			if p.stopping.Load() {
				continue
			}
			if err := p.start(i); err != nil {
				log.Print(err)
				time.AfterFunc(time.Second, func() { p.restart <- i })
			}
		}
	}
}

// shutDown ends the node as an orderly power-off does: SIGTERM to all, ten seconds, SIGKILL.
func (p *pid1) shutDown() {
	p.stopping.Store(true)
	log.Print("stopping")
	unix.Kill(-1, unix.SIGTERM) //nolint:errcheck // there may be none
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && others(); {
		time.Sleep(50 * time.Millisecond)
	}
	unix.Sync()
	os.Exit(0) // the kernel ends whoever is left
}

// others tells whether the node has processes beside pid 1.
func others() bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n != 1 {
			if _, err := os.Readlink("/proc/" + e.Name() + "/exe"); err == nil { // neither zombie nor kernel thread
				return true
			}
		}
	}
	return false
}
