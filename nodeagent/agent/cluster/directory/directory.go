package directory

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	discoveryv1 "k8s.io/api/discovery/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/atomicfile"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/follow"
	"mynetwork.io/mynetwork/nodeagent/agent/layouts"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// Ask asks a node for the body of a layout.
type Ask func(ctx context.Context, node string, hash block.Hash) ([]byte, error)

// Options are what a Directory works with.
type Options struct {
	API       follow.API
	Network   string // name of the MyNetwork
	UID       string
	Namespace string // of the agents
	Node      string
	Address   string // that other nodes reach this one by, host:port
	Port      int    // of the others' peer servers
	File      string // path of directory.json
	Table     *members.Table
	Layouts   *layouts.Files
	Ask       Ask
	// Changed is told after each change of the layout.
	Changed func()
	Log     *slog.Logger
}

// Directory keeps a table of members. The zero value is not usable: see New.
type Directory struct {
	opt  Options
	wake chan struct{}

	mu        sync.Mutex
	addresses map[string]string
	wanted    named // by the MyNetwork
	used      named // by the table
	saved     string
}

// named is a layout by version and hash; the zero value is none.
type named struct {
	Version int64  `json:"version"`
	Hash    string `json:"hash"`
}

const (
	askTimeout = 5 * time.Second
	askPause   = 2 * time.Second // until those are asked again that had not the body
)

// New makes a directory and brings what the disk knows to the table.
func New(o Options) *Directory {
	if o.Changed == nil {
		o.Changed = func() {}
	}
	d := &Directory{opt: o, wake: make(chan struct{}, 1), addresses: map[string]string{}}
	if err := d.load(); err != nil {
		o.Log.Warn("what was known of the network is lost; it comes from the API", "err", err)
	}
	return d
}

// fileFormat is of directory.json; it only climbs. A file of another format is as good as none: the API has all of it.
const fileFormat = 1

// file is directory.json.
type file struct {
	Format    int               `json:"format"`
	Layout    named             `json:"layout"`
	Addresses map[string]string `json:"addresses"`
}

func (d *Directory) load() error {
	defer d.update(nil)
	b, err := os.ReadFile(d.opt.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var f file
	if err := json.Unmarshal(b, &f); err != nil || f.Format != fileFormat {
		return fmt.Errorf("%s has format %d: %w", d.opt.File, f.Format, errors.Join(err, errors.New("it can not be read")))
	}
	d.mu.Lock()
	if f.Addresses != nil {
		d.addresses = f.Addresses
	}
	d.saved = string(b)
	d.mu.Unlock()
	if f.Layout.Version > 0 {
		_, err = d.take(f.Layout)
	}
	return err
}

// Run follows the network until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	one := client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", d.opt.Network)}
	network := &follow.Follower{API: d.opt.API, What: "MyNetwork " + d.opt.Network, New: func() client.ObjectList { return &v1alpha1.MyNetworkList{} },
		Options: []client.ListOption{one}, Keep: func(o client.Object) bool { return o.GetName() == d.opt.Network }, Changed: d.networkChanged, Log: d.opt.Log}
	service := d.opt.Network + "-agent"
	slices := &follow.Follower{API: d.opt.API, What: "endpoint slices of " + service, New: func() client.ObjectList { return &discoveryv1.EndpointSliceList{} },
		Options: []client.ListOption{client.InNamespace(d.opt.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service}},
		Keep:    func(o client.Object) bool { return o.GetLabels()[discoveryv1.LabelServiceName] == service }, Changed: d.slicesChanged, Log: d.opt.Log}
	var wg sync.WaitGroup
	wg.Go(func() { _ = network.Run(ctx) })
	wg.Go(func() { _ = slices.Run(ctx) })
	d.settle(ctx)
	wg.Wait()
	return nil
}

func (d *Directory) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Put keeps a body that somebody gave; it comes into use if the MyNetwork names it.
func (d *Directory) Put(body []byte) error {
	_, err := d.opt.Layouts.Put(body)
	d.signal()
	return err
}

// Get gives a body that is on this node's disk.
func (d *Directory) Get(h block.Hash) ([]byte, error) { return d.opt.Layouts.Get(h) }

func (d *Directory) networkChanged(set map[client.ObjectKey]client.Object) {
	for _, o := range set {
		n := o.(*v1alpha1.MyNetwork)
		if string(n.UID) != d.opt.UID {
			d.opt.Log.Error("the MyNetwork of this name is another one; this node goes on with what it knows", "network", n.Name, "uid", n.UID, "want", d.opt.UID)
			continue
		}
		if l := n.Status.Layout; l != nil {
			d.mu.Lock()
			d.wanted = named{l.Version, l.Hash}
			d.mu.Unlock()
			d.signal()
		}
	}
}

func (d *Directory) slicesChanged(set map[client.ObjectKey]client.Object) {
	found := addresses(set, d.opt.Port)
	d.mu.Lock()
	d.addresses = found
	d.mu.Unlock()
	d.update(nil)
	d.signal()
}

// update brings nodes, and the layout unless it is nil, to the table.
func (d *Directory) update(l *placement.Layout) {
	d.mu.Lock()
	defer d.mu.Unlock()
	nodes := []members.Node{{Name: d.opt.Node, Address: d.opt.Address}}
	for name, addr := range d.addresses {
		if name != d.opt.Node {
			nodes = append(nodes, members.Node{Name: name, Address: addr})
		}
	}
	d.opt.Table.Update(nodes, l)
}

// settle fetches bodies that are wanted, and writes down what changed.
func (d *Directory) settle(ctx context.Context) {
	for {
		next := time.Duration(0) // nothing is left to do
		if missing, ok := d.missing(); ok {
			if err := d.fetch(ctx, missing); err != nil {
				next = askPause/2 + rand.N(askPause)
				if ctx.Err() == nil {
					d.opt.Log.Warn("no node gives the layout's body; the present layout stays in use", "version", missing.Version, "err", err)
				}
			}
		}
		if err := d.save(); err != nil {
			next = askPause
			d.opt.Log.Warn("what is known of the network can not be kept on disk", "err", err)
		}
		if !d.wait(ctx, next) {
			return
		}
	}
}

// wait waits until there is something to do, or next has passed; 0 waits for ever. false: ctx has ended.
func (d *Directory) wait(ctx context.Context, next time.Duration) bool {
	var timeout <-chan time.Time
	if next > 0 {
		t := time.NewTimer(next)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-timeout:
	case <-d.wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// missing gives the layout that is wanted and not used.
func (d *Directory) missing() (named, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wanted, d.wanted.Version > 0 && d.wanted != d.used && d.wanted.Version >= d.used.Version
}

// fetch gets a body from this node's disk, else from other nodes, and takes it into use.
func (d *Directory) fetch(ctx context.Context, want named) error {
	taken, err := d.take(want)
	if taken || !errors.Is(err, layouts.ErrNotFound) {
		return err
	}
	hash, err := parseHash(want.Hash)
	if err != nil {
		return err
	}
	states := d.opt.Table.States()
	rand.Shuffle(len(states), func(i, j int) { states[i], states[j] = states[j], states[i] })
	errs := []error{errors.New("no other node is known that answers")}
	for _, s := range states {
		if s.Name == d.opt.Node || !s.Alive {
			continue
		}
		c, cancel := context.WithTimeout(ctx, askTimeout)
		body, err := d.opt.Ask(c, s.Name, hash)
		cancel()
		if err == nil {
			_, err = d.opt.Layouts.Put(body)
		}
		if err == nil {
			_, err = d.take(want)
			return err
		}
		errs = append(errs[max(0, len(errs)-2):], fmt.Errorf("node %s: %w", s.Name, err))
	}
	return errors.Join(errs...)
}

func parseHash(s string) (h block.Hash, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("%q is no hash of a layout", s)
	}
	return block.Hash(b), nil
}

// take brings a layout whose body is on this node's disk into use. An error with true tells that it can never be used.
func (d *Directory) take(want named) (bool, error) {
	hash, err := parseHash(want.Hash)
	if err != nil {
		return true, err
	}
	body, err := d.opt.Layouts.Get(hash)
	if err != nil {
		return false, err
	}
	l, err := placement.Decode(body)
	if err != nil {
		return true, err
	}
	if l.Version() != uint64(want.Version) {
		return true, fmt.Errorf("the body of layout %d says that it is version %d", want.Version, l.Version())
	}
	d.update(l)
	d.mu.Lock()
	d.used = want
	d.mu.Unlock()
	d.opt.Log.Info("a layout is in use", "version", want.Version, "members", l.Len())
	d.opt.Changed()
	return true, nil
}

// save writes the file if something changed.
func (d *Directory) save() error {
	d.mu.Lock()
	f := file{Format: fileFormat, Layout: d.used, Addresses: map[string]string{}}
	d.mu.Unlock()
	for _, n := range d.opt.Table.Nodes() {
		if n.Address != "" && n.Name != d.opt.Node {
			f.Addresses[n.Name] = n.Address
		}
	}
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	d.mu.Lock()
	same := string(b) == d.saved
	d.mu.Unlock()
	if same {
		return nil
	}
	if err := atomicfile.Write(d.opt.File, b); err != nil {
		return err
	}
	d.mu.Lock()
	d.saved = string(b)
	d.mu.Unlock()
	return nil
}
