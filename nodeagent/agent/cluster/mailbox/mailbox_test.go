package mailbox

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/apitest"
	creg "mynetwork.io/mynetwork/nodeagent/agent/cluster/registry"
	"mynetwork.io/mynetwork/nodeagent/agent/grants"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/registry/registrytest"
)

const network = "net-uid"

func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %v, want %v", err, target)
	}
}

// world is an API with one volume, and a box.
type world struct {
	t   *testing.T
	api *apitest.Server
	v   block.VolumeID
	dir string
	now time.Time
	mu  sync.Mutex
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, api: apitest.New(), v: block.VolumeID{1}, dir: filepath.Join(t.TempDir(), "grants"), now: time.Unix(1_800_000_000, 0)}
	ok(t, creg.New(creg.Options{API: w.api, Network: "net", UID: network}).Create(registrytest.Record(1)))
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
}

func (w *world) box() *Box {
	w.t.Helper()
	b, err := New(Options{API: w.api, Network: network, Node: "n1", Dir: w.dir, Now: w.clock, CallLimit: 2 * time.Second,
		Keys: func() []ed25519.PublicKey { return []ed25519.PublicKey{key(1).Public().(ed25519.PublicKey)} }})
	ok(w.t, err)
	return b
}

func (w *world) name() string { return network + "." + w.v.String() }

// operator answers requests as answer says, until the test ends.
func (w *world) operator(answer func(r v1alpha1.VolumeRequest) v1alpha1.VolumeAnswer) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	w.t.Cleanup(func() { cancel(); wg.Wait() })
	seen := map[string]bool{}
	wg.Go(func() {
		for ctx.Err() == nil {
			ev, err := w.api.Watch(ctx, &v1alpha1.VolumeRecordList{})
			if err != nil {
				continue
			}
			for e := range ev.ResultChan() {
				o, is := e.Object.(*v1alpha1.VolumeRecord)
				if !is {
					continue
				}
				for _, r := range o.Requests {
					if seen[r.ID] {
						continue
					}
					seen[r.ID] = true
					a := answer(r)
					a.Node = r.Node
					if a.ID == "" {
						a.ID = r.ID
					}
					_ = w.api.UpdateStatus(o.Name, func(o *v1alpha1.VolumeRecord) { o.Status.Answers = []v1alpha1.VolumeAnswer{a} })
				}
			}
		}
	})
}

// grantOf signs a grant as an operator does.
func (w *world) grantOf(k ed25519.PrivateKey, change func(*warrant.Grant)) v1alpha1.VolumeAnswer {
	g := warrant.Grant{Volume: w.v, Node: "n1", Verbs: warrant.Writer, NotAfter: w.clock().Add(7 * 24 * time.Hour).Unix()}
	change(&g)
	b, err := g.Encode(network, k)
	ok(w.t, err)
	return v1alpha1.VolumeAnswer{Grant: b, NotAfter: metav1.Unix(g.NotAfter, 0)}
}

func (w *world) sign(b *Box) (warrant.Grant, error) {
	encoded, err := b.Sign(w.t.Context(), warrant.Grant{Volume: w.v, Node: "n1", Verbs: warrant.Read | warrant.Write})
	if err != nil {
		return warrant.Grant{}, err
	}
	return warrant.DecodeGrant(encoded)
}

// TestGrant: a grant comes from the operator once; the next process has it, also without the API, until it ends.
func TestGrant(t *testing.T) {
	w := newWorld(t)
	w.operator(func(v1alpha1.VolumeRequest) v1alpha1.VolumeAnswer {
		return w.grantOf(key(1), func(*warrant.Grant) {})
	})
	b := w.box()
	g, err := w.sign(b)
	ok(t, err)
	if g.Verbs != warrant.Writer || g.Volume != w.v {
		t.Fatal(g)
	}
	before := w.api.Calls()["update"]
	_, err = w.sign(b)
	ok(t, err)
	w.api.SetDown(true)
	b = w.box()
	again, err := w.sign(b)
	ok(t, err)
	if again != g || w.api.Calls()["update"] != before {
		t.Fatal("the grant was not kept")
	}
	st, err := os.Stat(filepath.Join(w.dir, w.v.String()+".grant"))
	ok(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	// shortly before its end it still serves, as nobody answers; after it, not
	w.advance(7*24*time.Hour - time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = b.Sign(ctx, warrant.Grant{Volume: w.v, Node: "n1", Verbs: warrant.Read})
	ok(t, err)
	w.advance(2 * time.Minute)
	_, err = b.Sign(ctx, warrant.Grant{Volume: w.v, Node: "n1", Verbs: warrant.Read})
	want(t, err, grants.ErrNoAnswer)
	if b = w.box(); len(b.kept) != 0 {
		t.Error("a grant that has ended stays on disk")
	}
}

// TestRefused: the operator's words reach the caller; nothing of it is kept, and the next request may be granted.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	n := 0
	w.operator(func(v1alpha1.VolumeRequest) v1alpha1.VolumeAnswer {
		if n++; n == 1 {
			return v1alpha1.VolumeAnswer{Refused: "pod shop/db-0 on node n2 uses the volume"}
		}
		return w.grantOf(key(1), func(*warrant.Grant) {})
	})
	b := w.box()
	_, err := w.sign(b)
	want(t, err, grants.ErrRefused)
	if !strings.Contains(err.Error(), "pod shop/db-0 on node n2") {
		t.Error(err)
	}
	_, err = w.sign(b)
	ok(t, err)
}

// TestWrongAnswers: what is not signed by the network's key, for this node and volume, and still holds, is not accepted. An answer to
// another request is none.
func TestWrongAnswers(t *testing.T) {
	for name, change := range map[string]func(w *world) v1alpha1.VolumeAnswer{
		"key": func(w *world) v1alpha1.VolumeAnswer { return w.grantOf(key(2), func(*warrant.Grant) {}) },
		"volume": func(w *world) v1alpha1.VolumeAnswer {
			return w.grantOf(key(1), func(g *warrant.Grant) { g.Volume[3] = 1 })
		},
		"node": func(w *world) v1alpha1.VolumeAnswer {
			return w.grantOf(key(1), func(g *warrant.Grant) { g.Node = "n2" })
		},
		"ended": func(w *world) v1alpha1.VolumeAnswer {
			return w.grantOf(key(1), func(g *warrant.Grant) { g.NotAfter = w.clock().Unix() - 1 })
		},
		"garbage": func(*world) v1alpha1.VolumeAnswer { return v1alpha1.VolumeAnswer{Grant: []byte("grant")} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.operator(func(v1alpha1.VolumeRequest) v1alpha1.VolumeAnswer { return change(w) })
			b := w.box()
			_, err := w.sign(b)
			want(t, err, warrant.ErrGrant)
			if len(b.kept) != 0 {
				t.Error("it is kept")
			}
		})
	}
	w := newWorld(t)
	w.operator(func(v1alpha1.VolumeRequest) v1alpha1.VolumeAnswer {
		a := w.grantOf(key(1), func(*warrant.Grant) {})
		a.ID = "0123456789abcdef"
		return a
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := w.box().Sign(ctx, warrant.Grant{Volume: w.v, Node: "n1", Verbs: warrant.Read})
	want(t, err, grants.ErrNoAnswer)
}

// TestDamagedFile: a file that was changed is no grant.
func TestDamagedFile(t *testing.T) {
	w := newWorld(t)
	a := w.grantOf(key(1), func(*warrant.Grant) {})
	ok(t, os.MkdirAll(w.dir, 0o700))
	for i := range a.Grant {
		bad := bytes.Clone(a.Grant)
		bad[i] ^= 0x10
		ok(t, os.WriteFile(filepath.Join(w.dir, w.v.String()+".grant"), bad, 0o600))
		if b := w.box(); len(b.kept) != 0 {
			t.Fatalf("byte %d changed, and it is used", i)
		}
	}
	ok(t, os.WriteFile(filepath.Join(w.dir, w.v.String()+".grant"), a.Grant, 0o600))
	if b := w.box(); len(b.kept) != 1 {
		t.Fatal("a good one is not used")
	}
}

// TestJoin: who wants the grant that is under way waits for it, and nothing is asked while waiting.
func TestJoin(t *testing.T) {
	w := newWorld(t)
	release, watches := make(chan struct{}), make(chan struct{}, 16)
	w.api.Hook(func(verb string, _ client.Object) {
		if verb == "watch" {
			watches <- struct{}{}
		}
	})
	n := 0
	w.operator(func(v1alpha1.VolumeRequest) v1alpha1.VolumeAnswer {
		n++
		<-release
		return w.grantOf(key(1), func(*warrant.Grant) {})
	})
	b := w.box()
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { _, errs[i] = w.sign(b) })
	}
	<-watches // the operator's
	<-watches // the box's
	close(release)
	wg.Wait()
	ok(t, errors.Join(errs...))
	if c := w.api.Calls(); n != 1 || c["watch"] != 2 {
		t.Errorf("%d requests, calls %v", n, c)
	}
	if o := w.api.Objects()[w.name()]; len(o.Requests) != 1 || o.Requests[0].Node != "n1" || !o.Requests[0].Attach {
		t.Errorf("requests %+v", o.Requests)
	}
}

// TestFaults: an answer that is lost, conflicts and a watch that ends delay a request, no more.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	hits := 0
	w.operator(func(v1alpha1.VolumeRequest) v1alpha1.VolumeAnswer {
		if hits++; hits == 1 {
			w.api.SetDown(true) // ends all watches
			time.AfterFunc(30*time.Millisecond, func() { w.api.SetDown(false) })
		}
		return w.grantOf(key(1), func(*warrant.Grant) {})
	})
	w.api.LoseAnswers(1)
	_, err := w.sign(w.box())
	ok(t, err)
	if hits != 1 {
		t.Errorf("the operator saw %d requests", hits)
	}
}

// TestRoom: a record with requests of many nodes takes one more; the oldest goes, and no other.
func TestRoom(t *testing.T) {
	var list []v1alpha1.VolumeRequest
	for i := range 20 {
		list = put(list, v1alpha1.VolumeRequest{Node: fmt.Sprintf("n%d", i), At: metav1.Unix(int64(i), 0)})
	}
	if len(list) != maxPending || list[0].Node != "n4" || list[15].Node != "n19" {
		t.Fatalf("%+v", list)
	}
	list = put(list, v1alpha1.VolumeRequest{Node: "n4", ID: "new", At: metav1.Unix(30, 0)})
	if len(list) != maxPending || list[0].Node != "n5" || list[15].ID != "new" {
		t.Fatalf("%+v", list)
	}
}

// TestDeletion: the very deletion that was asked for is signed, or it is an error.
func TestDeletion(t *testing.T) {
	w := newWorld(t)
	shift := uint64(0)
	w.operator(func(r v1alpha1.VolumeRequest) v1alpha1.VolumeAnswer {
		if r.Deletion == nil || r.Attach {
			return v1alpha1.VolumeAnswer{Refused: "not asked"}
		}
		d := warrant.Deletion{Volume: w.v, Epoch: uint64(r.Deletion.Epoch) + shift, At: r.Deletion.At}
		return v1alpha1.VolumeAnswer{Deletion: d.Encode(network, key(1))}
	})
	b := w.box()
	d := warrant.Deletion{Volume: w.v, Epoch: 5, At: 99}
	signed, err := b.SignDeletion(t.Context(), d)
	ok(t, err)
	got, err := warrant.VerifyDeletion(signed, w.v, network, b.opt.Keys())
	if err != nil || got != d {
		t.Fatal(got, err)
	}
	shift = 1
	_, err = b.SignDeletion(t.Context(), d)
	want(t, err, warrant.ErrDeletion)
	_, err = b.SignDeletion(t.Context(), warrant.Deletion{Volume: block.VolumeID{7}, Epoch: 1})
	want(t, err, registry.ErrNotFound)
}

// holder has one volume attached.
type holder struct {
	v    block.VolumeID
	got  [][]byte
	fail error
}

func (h *holder) Attached() []block.VolumeID { return []block.VolumeID{h.v, {9}} }

func (h *holder) Renewed(_ context.Context, _ block.VolumeID, encoded []byte) error {
	h.got = append(h.got, encoded)
	return h.fail
}

// TestRenew: after a third of its time a grant of an attached volume is asked for anew, presented and kept; not before, and not again and
// again when that fails.
func TestRenew(t *testing.T) {
	w := newWorld(t)
	refuse := false
	w.operator(func(v1alpha1.VolumeRequest) v1alpha1.VolumeAnswer {
		if refuse {
			return v1alpha1.VolumeAnswer{Refused: "no"}
		}
		return w.grantOf(key(1), func(*warrant.Grant) {})
	})
	b := w.box()
	first, err := w.sign(b)
	ok(t, err)
	h := &holder{v: w.v}
	b.renew(t.Context(), h)
	w.advance(2 * 24 * time.Hour)
	b.renew(t.Context(), h)
	if len(h.got) != 0 {
		t.Fatal("it is renewed before its time")
	}
	w.advance(12 * time.Hour)
	refuse = true
	calls := w.api.Calls()["update"]
	b.renew(t.Context(), h)
	b.renew(t.Context(), h)
	if n := w.api.Calls()["update"] - calls; n != 1 || len(h.got) != 0 {
		t.Fatalf("%d requests after a refusal", n)
	}
	refuse = false
	w.advance(6 * time.Minute)
	b.renew(t.Context(), h)
	if len(h.got) != 1 {
		t.Fatal("it is not renewed")
	}
	g, err := w.sign(w.box())
	ok(t, err)
	if g.NotAfter <= first.NotAfter {
		t.Error("the former one is on disk")
	}
}
