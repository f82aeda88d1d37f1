package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	base "mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// anchorVersion is the first byte of an anchor in a record; the position follows. It only climbs.
const anchorVersion = 1

// Handle is the name of a volume's record, which is the volume's CSI handle.
func Handle(networkUID string, v block.VolumeID) string { return networkUID + "." + v.String() }

func (s *Store) handle(v block.VolumeID) string { return Handle(string(s.opt.UID), v) }

func key(o client.Object) client.ObjectKey { return client.ObjectKey{Name: o.GetName()} }

// nameHash is the label's value for a name: names may be longer than labels.
func nameHash(name string) string {
	h := sha256.Sum256([]byte(name))
	return hex.EncodeToString(h[:20])
}

// object is the record in the making.
func (s *Store) object(r *base.Record) *v1alpha1.VolumeRecord {
	o := &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: s.handle(r.ID), Labels: map[string]string{
		v1alpha1.LabelNetwork: s.opt.Network, v1alpha1.LabelNetworkUID: string(s.opt.UID), v1alpha1.LabelVolumeName: nameHash(r.Name)}}}
	o.Spec = v1alpha1.VolumeRecordSpec{Network: s.opt.Network, NetworkUID: string(s.opt.UID), VolumeID: r.ID.String(), Name: r.Name,
		Writes: v1alpha1.WriteStrong, Encrypted: r.Encrypted, KeyCheck: r.KeyCheck, ExtentSize: int64(r.Extent), Created: toTime(r.Created)}
	if r.Weak {
		o.Spec.Writes = v1alpha1.WriteWeak
	}
	if !r.Parent.IsZero() {
		o.Spec.Parent = &v1alpha1.VolumeParent{VolumeID: r.Parent.String(), SnapshotID: hex.EncodeToString(r.Snapshot[:])}
		o.Labels[v1alpha1.LabelParent] = r.Parent.String()
	}
	s.encode(r, o)
	o.Labels[v1alpha1.LabelState] = v1alpha1.StateMaking
	return o
}

// encode puts what may change of a record into its object, and leaves all else.
func (s *Store) encode(r *base.Record, o *v1alpha1.VolumeRecord) {
	o.Spec.Capacity = *resource.NewQuantity(r.Size, resource.BinarySI)
	o.Spec.Copies = int32(r.Replicas)
	o.Spec.Compression = v1alpha1.CompressionNone
	if r.Compression == block.CompressionZstd {
		o.Spec.Compression = v1alpha1.CompressionZstd
	}
	o.Spec.Claim = nil
	if c := r.Claim; c != (base.Claim{}) {
		o.Spec.Claim = &v1alpha1.ClaimReference{Namespace: c.Namespace, Name: c.Name, Size: c.Size}
	}
	o.Spec.Limits = nil
	if r.Limits != (base.Limits{}) {
		o.Spec.Limits = &v1alpha1.VolumeLimits{MaxIOPS: r.Limits.IOPS, MaxBytesPerSecond: r.Limits.BytesPerSecond}
	}
	o.Spec.MinCopies, o.Spec.MaxCopies = int32(r.Adaptive.Least), int32(r.Adaptive.Most)
	revision, _ := strconv.ParseInt(r.Fact.Revision, 10, 64) // ours alone
	o.Fact = v1alpha1.VolumeFact{Epoch: int64(r.Fact.Epoch.Number), Token: fmt.Sprintf("%016x", r.Fact.Epoch.Token), Revision: revision}
	if !r.Fact.Anchor.Extent.IsZero() {
		o.Fact.Anchor = append([]byte{anchorVersion}, r.Fact.Anchor.Encode()...)
	}
	st := v1alpha1.VolumeState{Holder: r.Holder, HolderEpoch: int64(r.HolderEpoch), Copies: int32(r.Copies)}
	if st.History = int64(r.Lost); r.Lost != 0 {
		st.DataLoss = v1alpha1.DataLossPossible
	}
	st.CopiesReason, st.CopiesChanged = r.Adaptive.Why, toTime(r.Adaptive.Changed)
	if r.Used != 0 {
		st.Used = resource.NewQuantity(r.Used, resource.BinarySI)
	}
	for _, n := range r.Snapshots {
		st.Snapshots = append(st.Snapshots, v1alpha1.VolumeSnapshot{ID: hex.EncodeToString(n.ID[:]), Name: n.Name, Size: n.Size, Created: toTime(n.Created), Dying: n.Dying, Kept: n.Kept})
	}
	if d := r.Deletion; d != nil {
		st.Deletion = &v1alpha1.VolumeDeletion{At: toTime(d.At), Signed: d.Signed}
		for _, c := range d.Confirmed {
			st.Deletion.Confirmed = append(st.Deletion.Confirmed, c.String())
		}
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[v1alpha1.LabelState] = v1alpha1.StateDeleted
	}
	o.State = st
}

func toTime(unix int64) metav1.Time {
	if unix == 0 {
		return metav1.Time{}
	}
	return metav1.Time{Time: time.Unix(unix, 0)}
}

func fromTime(t metav1.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// decode reads an object: ErrCorrupt.
func (s *Store) decode(o *v1alpha1.VolumeRecord) (base.Record, error) {
	p := parser{}
	r := base.Record{ID: p.id(o.Spec.VolumeID), Name: o.Spec.Name, Size: o.Spec.Capacity.Value(), Replicas: int(o.Spec.Copies),
		Weak: o.Spec.Writes == v1alpha1.WriteWeak, Extent: uint32(o.Spec.ExtentSize), Encrypted: o.Spec.Encrypted, KeyCheck: o.Spec.KeyCheck,
		Created: fromTime(o.Spec.Created), Holder: o.State.Holder, HolderEpoch: uint64(o.State.HolderEpoch), Copies: int(o.State.Copies), Lost: uint64(o.State.History)}
	if o.Spec.Compression == v1alpha1.CompressionZstd {
		r.Compression = block.CompressionZstd
	}
	if c := o.Spec.Parent; c != nil {
		r.Parent, r.Snapshot = p.id(c.VolumeID), p.id(c.SnapshotID)
	}
	if c := o.Spec.Claim; c != nil {
		r.Claim = base.Claim{Namespace: c.Namespace, Name: c.Name, Size: c.Size}
	}
	if l := o.Spec.Limits; l != nil {
		r.Limits = base.Limits{IOPS: l.MaxIOPS, BytesPerSecond: l.MaxBytesPerSecond}
	}
	r.Adaptive = base.Adaptive{Least: int(o.Spec.MinCopies), Most: int(o.Spec.MaxCopies), Why: o.State.CopiesReason, Changed: fromTime(o.State.CopiesChanged)}
	if o.State.Used != nil {
		r.Used = o.State.Used.Value()
	}
	r.Fact = p.fact(&o.Fact)
	for _, n := range o.State.Snapshots {
		r.Snapshots = append(r.Snapshots, base.Snapshot{ID: p.id(n.ID), Name: n.Name, Created: fromTime(n.Created), Size: n.Size, Dying: n.Dying, Kept: n.Kept})
	}
	if d := o.State.Deletion; d != nil {
		r.Deletion = &base.Deletion{At: fromTime(d.At), Signed: d.Signed}
		for _, c := range d.Confirmed {
			r.Deletion.Confirmed = append(r.Deletion.Confirmed, block.StoreID(p.id(c)))
		}
	}
	if o.Name != s.handle(r.ID) || o.Spec.NetworkUID != string(s.opt.UID) {
		p.fail(fmt.Errorf("it says to be volume %s of network %s", r.ID, o.Spec.NetworkUID))
	}
	p.fail(r.Validate())
	if p.err != nil {
		return base.Record{}, fmt.Errorf("record %s: %w: %w", o.Name, base.ErrCorrupt, p.err)
	}
	return r, nil
}

// parser keeps the first error.
type parser struct{ err error }

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *parser) id(s string) block.VolumeID {
	v, err := block.ParseVolumeID(s)
	p.fail(err)
	return v
}

func (p *parser) fact(f *v1alpha1.VolumeFact) (out volume.Fact) {
	token, err := strconv.ParseUint(f.Token, 16, 64)
	p.fail(err)
	out = volume.Fact{Epoch: block.Epoch{Number: uint64(f.Epoch), Token: token}, Revision: strconv.FormatInt(f.Revision, 10)}
	if len(f.Anchor) == 0 {
		return out
	}
	if f.Anchor[0] != anchorVersion {
		p.fail(errors.New("the anchor was written by a later version of this program"))
		return out
	}
	out.Anchor, err = journal.DecodePosition(f.Anchor[1:])
	p.fail(err)
	return out
}

func sameFact(a, b *volume.Fact) bool { return reflect.DeepEqual(a, b) }
