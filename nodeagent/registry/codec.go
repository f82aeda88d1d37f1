package registry

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Versions of the files; they only climb. A record that has none of the later fields is written as the version before, so that
// a node which is upgraded can be put back as long as nobody uses what is new.
const (
	version      = 5
	versionGrown = 4 // without clones that wait for their root
	versionLost  = 3 // without bounds of copies
	versionExtra = 2 // without a lost history
	versionPlain = 1 // without claim, limits, used and copies
)

type envelope struct {
	Version int             `json:"version"`
	Sum     string          `json:"sum"`
	Record  json.RawMessage `json:"record"`
}

// record is the form of a Record in a file: ids in hex, names of methods in words.
type record struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Size        int64      `json:"size"`
	Replicas    int        `json:"replicas"`
	Weak        bool       `json:"weak,omitempty"`
	Extent      uint32     `json:"extent,omitempty"`
	Compression string     `json:"compression,omitempty"`
	Encrypted   bool       `json:"encrypted,omitempty"`
	KeyCheck    string     `json:"keyCheck,omitempty"`
	Parent      string     `json:"parent,omitempty"`
	Snapshot    string     `json:"snapshot,omitempty"`
	Created     int64      `json:"created"`
	Fact        fact       `json:"fact"`
	Holder      string     `json:"holder,omitempty"`
	HolderEpoch uint64     `json:"holderEpoch,omitempty"`
	Snapshots   []snapshot `json:"snapshots,omitempty"`
	Deletion    *deletion  `json:"deletion,omitempty"`
	extra
}

// extra is what versions 2 to 5 brought.
type extra struct {
	Claim  *Claim  `json:"claim,omitempty"`
	Limits *Limits `json:"limits,omitempty"`
	Used   int64   `json:"used,omitempty"`
	Copies int     `json:"copies,omitempty"`
	Lost   uint64  `json:"lost,omitempty"` // version 3

	Adaptive *Adaptive `json:"adaptive,omitempty"` // version 4
	Unrooted bool      `json:"unrooted,omitempty"` // version 5
}

func extraOf(r *Record) (x extra) {
	if r.Claim != (Claim{}) {
		c := r.Claim
		x.Claim = &c
	}
	if r.Limits != (Limits{}) {
		l := r.Limits
		x.Limits = &l
	}
	if r.Adaptive != (Adaptive{}) {
		a := r.Adaptive
		x.Adaptive = &a
	}
	x.Used, x.Copies, x.Lost, x.Unrooted = r.Used, r.Copies, r.Lost, r.Unrooted
	return x
}

func (x *extra) put(r *Record) {
	if x.Claim != nil {
		r.Claim = *x.Claim
	}
	if x.Limits != nil {
		r.Limits = *x.Limits
	}
	if x.Adaptive != nil {
		r.Adaptive = *x.Adaptive
	}
	r.Used, r.Copies, r.Lost, r.Unrooted = x.Used, x.Copies, x.Lost, x.Unrooted
}

type fact struct {
	Number   uint64   `json:"epoch"`
	Token    string   `json:"token"`
	Anchor   string   `json:"anchor,omitempty"`
	LogOff   uint32   `json:"logOff,omitempty"`
	Seq      uint64   `json:"seq,omitempty"`
	Members  []string `json:"members,omitempty"`
	Revision uint64   `json:"revision"`
}

type snapshot struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Created int64  `json:"created"`
	Size    int64  `json:"size"`
	Dying   bool   `json:"dying,omitempty"`
	Kept    bool   `json:"kept,omitempty"`
	Rooted  bool   `json:"rooted,omitempty"`
}

type deletion struct {
	At        int64    `json:"at"`
	Signed    []byte   `json:"signed"`
	Confirmed []string `json:"confirmed,omitempty"`
}

const (
	noCompression = ""
	zstdName      = "zstd"
)

// Encode gives the bytes of a record's file.
func Encode(r *Record) ([]byte, error) {
	out := record{ID: r.ID.String(), Name: r.Name, Size: r.Size, Replicas: r.Replicas, Weak: r.Weak, Extent: r.Extent,
		Encrypted: r.Encrypted, KeyCheck: hex.EncodeToString(r.KeyCheck), Created: r.Created, Holder: r.Holder, HolderEpoch: r.HolderEpoch}
	if r.Compression == block.CompressionZstd {
		out.Compression = zstdName
	}
	if !r.Parent.IsZero() {
		out.Parent, out.Snapshot = r.Parent.String(), hex.EncodeToString(r.Snapshot[:])
	}
	a := &r.Fact.Anchor
	out.Fact = fact{Number: r.Fact.Epoch.Number, Token: fmt.Sprintf("%016x", r.Fact.Epoch.Token), LogOff: a.LogOff, Seq: a.Seq}
	if !a.Extent.IsZero() {
		out.Fact.Anchor = a.Extent.String()
	}
	out.Fact.Members = storeNames(a.Members)
	out.Fact.Revision, _ = strconv.ParseUint(r.Fact.Revision, 10, 64) // ours alone; empty is 0
	for _, s := range r.Snapshots {
		out.Snapshots = append(out.Snapshots, snapshot{hex.EncodeToString(s.ID[:]), s.Name, s.Created, s.Size, s.Dying, s.Kept, s.Rooted})
	}
	if d := r.Deletion; d != nil {
		out.Deletion = &deletion{At: d.At, Signed: d.Signed, Confirmed: storeNames(d.Confirmed)}
	}
	v := versionPlain
	if out.extra = extraOf(r); out.extra != (extra{}) {
		v = versionExtra
	}
	if r.Lost != 0 {
		v = versionLost
	}
	if out.Adaptive != nil {
		v = versionGrown
	}
	if out.Unrooted {
		v = version
	}
	body, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode volume %s: %w", r.ID, err)
	}
	b, err := json.Marshal(envelope{Version: v, Sum: block.Sum(body).String(), Record: body})
	return append(b, '\n'), err
}

func storeNames(ids []block.StoreID) (out []string) {
	for _, s := range ids {
		out = append(out, s.String())
	}
	return out
}

// Decode reads what Encode wrote: ErrNewer for what a later version wrote, ErrCorrupt for anything else.
func Decode(b []byte) (Record, error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if e.Version > version {
		return Record{}, fmt.Errorf("%w: it has version %d, this program knows up to %d; nothing was changed, start the version that wrote it", ErrNewer, e.Version, version)
	}
	if e.Version < 1 {
		return Record{}, fmt.Errorf("%w: version %d", ErrCorrupt, e.Version)
	}
	if block.Sum(e.Record).String() != e.Sum {
		return Record{}, fmt.Errorf("%w: its sum differs", ErrCorrupt)
	}
	var in record
	if err := json.Unmarshal(e.Record, &in); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	r, err := in.record()
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return r, nil
}

func (in *record) record() (r Record, err error) {
	p := parser{}
	r = Record{ID: block.VolumeID(p.id(in.ID)), Name: in.Name, Size: in.Size, Replicas: in.Replicas, Weak: in.Weak, Extent: in.Extent,
		Encrypted: in.Encrypted, KeyCheck: p.hex(in.KeyCheck), Parent: block.VolumeID(p.id(in.Parent)), Snapshot: p.id(in.Snapshot),
		Created: in.Created, Holder: in.Holder, HolderEpoch: in.HolderEpoch}
	switch in.Compression {
	case noCompression:
	case zstdName:
		r.Compression = block.CompressionZstd
	default:
		p.fail(fmt.Errorf("unknown compression %q", in.Compression))
	}
	token, err := strconv.ParseUint(in.Fact.Token, 16, 64)
	p.fail(err)
	r.Fact = volume.Fact{Epoch: block.Epoch{Number: in.Fact.Number, Token: token},
		Anchor:   journal.Position{Extent: p.extent(in.Fact.Anchor), LogOff: in.Fact.LogOff, Seq: in.Fact.Seq, Members: p.stores(in.Fact.Members)},
		Revision: strconv.FormatUint(in.Fact.Revision, 10)}
	for _, s := range in.Snapshots {
		r.Snapshots = append(r.Snapshots, Snapshot{p.id(s.ID), s.Name, s.Created, s.Size, s.Dying, s.Kept, s.Rooted})
	}
	if d := in.Deletion; d != nil {
		r.Deletion = &Deletion{At: d.At, Signed: d.Signed, Confirmed: p.stores(d.Confirmed)}
	}
	in.extra.put(&r)
	return r, p.err
}

// parser keeps the first error.
type parser struct{ err error }

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *parser) hex(s string) []byte {
	if s == "" {
		return nil
	}
	b, err := hex.DecodeString(s)
	p.fail(err)
	return b
}

func (p *parser) id(s string) [16]byte {
	if s == "" {
		return [16]byte{}
	}
	v, err := block.ParseVolumeID(s)
	p.fail(err)
	return v
}

func (p *parser) extent(s string) block.ExtentID {
	if s == "" {
		return block.ExtentID{}
	}
	x, err := block.ParseExtentID(s)
	p.fail(err)
	return x
}

func (p *parser) stores(names []string) (out []block.StoreID) {
	for _, n := range names {
		out = append(out, block.StoreID(p.id(n)))
	}
	return out
}
