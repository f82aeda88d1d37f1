package record

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// version of run.json. It only climbs.
const version = 1

// Settings are the choices that a run was begun with; they hold until it is torn down.
type Settings struct {
	Nodes []string `json:"nodes"` // names, in the order of their addresses
	Quick bool     `json:"quick"` // a dead node is noticed after 12 s and its pods are evicted after 5, instead of Kubernetes' defaults
	Disk  int64    `json:"disk"`  // MiB of the disk that each node has at /var/lib/mynetwork; 0: it is a directory of the machine's disk
}

// Record is what one run has made.
type Record struct {
	Version   int                `json:"version"`
	Run       string             `json:"run"`     // six hexadecimal digits
	Boot      string             `json:"boot"`    // the machine's boot id: processes and cgroups are of this boot
	APIPort   int                `json:"apiPort"` // on the loopback address of the machine; 0 before the first start
	Settings  Settings           `json:"settings"`
	Processes map[string]Process `json:"processes"` // by role: "hub", "etcd", "n1"
	Cgroups   []string           `json:"cgroups"`   // directories

	dir  Dir
	lock *os.File
}

// ErrNone is the error of a directory that holds no record: no cluster has been started there.
var ErrNone = errors.New("no cluster")

// Open locks the directory and reads its record. It waits for the command that holds the lock.
func Open(dir Dir) (*Record, error) {
	if err := os.MkdirAll(string(dir), 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(string(dir), "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	r, err := Read(dir)
	if errors.Is(err, ErrNone) {
		r, err = begin(dir)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	r.lock = lock
	return r, nil
}

// Read reads the record without a lock. It answers ErrNone if there is none.
func Read(dir Dir) (*Record, error) {
	b, err := os.ReadFile(dir.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s: start one with `make cluster-up`", ErrNone, dir)
	}
	if err != nil {
		return nil, err
	}
	r := &Record{dir: dir}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", dir.file(), err)
	}
	if r.Version != version {
		return nil, fmt.Errorf("%s has version %d, this program knows %d: tear the cluster down with the program that made it", dir.file(), r.Version, version)
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if r.Boot != boot {
		r.Boot, r.Processes, r.Cgroups = boot, map[string]Process{}, nil
	}
	return r, nil
}

func begin(dir Dir) (*Record, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	id := make([]byte, 3)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	return &Record{Version: version, Run: hex.EncodeToString(id), Boot: boot, Processes: map[string]Process{}, dir: dir}, nil
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// Dir is the record's directory.
func (r *Record) Dir() Dir { return r.dir }

// Name derives a name outside of the directory from the run id.
func (r *Record) Name(what string) string { return "mynetwork-cluster-" + r.Run + "-" + what }

// Close gives the lock back. What was not saved is lost.
func (r *Record) Close() error { return r.lock.Close() }

// Save writes the record, whole or not at all.
func (r *Record) Save() error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	tmp := r.dir.file() + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, r.dir.file())
}

// Remove removes the record itself: the run is over.
func (r *Record) Remove() error { return os.Remove(r.dir.file()) }

// Started records a process under its role and saves.
func (r *Record) Started(role string, pid int) error {
	p, err := Identify(pid)
	if err != nil {
		return fmt.Errorf("%s ended at once: %w", role, err)
	}
	r.Processes[role] = p
	return r.Save()
}

// Ended removes a process from the record and saves.
func (r *Record) Ended(role string) error {
	delete(r.Processes, role)
	return r.Save()
}

// Alive tells whether the role's process is recorded and runs.
func (r *Record) Alive(role string) bool { return r.Processes[role].Alive() }

// AddCgroup records a directory that is about to be made, and saves.
func (r *Record) AddCgroup(dir string) error {
	if slices.Contains(r.Cgroups, dir) {
		return nil
	}
	r.Cgroups = append(r.Cgroups, dir)
	return r.Save()
}
