package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/show"
	"mynetwork.io/mynetwork/cmd/internal/size"
)

// volumeView is a volume as JSON and YAML show it. Sizes are bytes.
type volumeView struct {
	ID             string         `json:"id"`
	Name           string         `json:"name"`
	Size           int64          `json:"size"`
	Replicas       int32          `json:"replicas"`
	Weak           bool           `json:"weak"`
	ExtentSize     uint32         `json:"extentSize"`
	Compression    string         `json:"compression"`
	Encrypted      bool           `json:"encrypted"`
	Parent         string         `json:"parent,omitempty"`
	ParentSnapshot string         `json:"parentSnapshot,omitempty"`
	State          string         `json:"state"`
	Node           string         `json:"node,omitempty"`
	Device         string         `json:"device,omitempty"`
	DeviceKind     string         `json:"deviceKind,omitempty"`
	Transport      string         `json:"deviceTransport,omitempty"`
	Failure        string         `json:"failure,omitempty"`
	Epoch          string         `json:"epoch,omitempty"`
	Created        string         `json:"created,omitempty"`
	Claim          string         `json:"claim,omitempty"`
	MaxIOPS        int64          `json:"maxIOPS,omitempty"`
	MaxRate        int64          `json:"maxBytesPerSecond,omitempty"`
	Used           int64          `json:"used,omitempty"`
	Copies         int32          `json:"copies,omitempty"`
	MinReplicas    int32          `json:"minReplicas,omitempty"`
	MaxReplicas    int32          `json:"maxReplicas,omitempty"`
	WhyReplicas    string         `json:"replicasReason,omitempty"`
	ReplicasSince  string         `json:"replicasChanged,omitempty"`
	Verdict        string         `json:"replicasVerdict,omitempty"`
	DataLoss       uint64         `json:"dataLossPossible,omitempty"` // since this epoch
	Snapshots      []snapshotView `json:"snapshots"`
	Open           *openView      `json:"open,omitempty"`
}

type snapshotView struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	Created string `json:"created,omitempty"`
	Kept    bool   `json:"kept,omitempty"` // deleted, there for its clones alone
}

type openView struct {
	Committed uint64            `json:"committed"`
	Appended  uint64            `json:"appended"`
	Extent    string            `json:"extent"`
	Extents   int32             `json:"extents"`
	Degraded  int32             `json:"degraded"`
	RingUsed  int64             `json:"ringUsed"`
	Full      bool              `json:"full"`
	HitRate   float64           `json:"cacheHitRate"`
	Replicas  []replicaView     `json:"replicas"`
	Counters  map[string]uint64 `json:"counters"`
}

type replicaView struct {
	Node    string `json:"node"`
	Store   string `json:"store"`
	Durable uint64 `json:"durable"`
	Failed  bool   `json:"failed"`
}

// short is the last word of a protocol constant, in small letters: VOLUME_STATE_ATTACHED is attached.
func short(constant, prefix string) string {
	s := strings.ToLower(strings.TrimPrefix(constant, prefix))
	if s == "unspecified" {
		return ""
	}
	return s
}

func when(unix int64) string {
	if unix == 0 {
		return ""
	}
	return time.Unix(unix, 0).UTC().Format(time.RFC3339)
}

func viewVolume(v *agentv1.Volume) volumeView {
	out := volumeView{
		ID: v.GetId(), Name: v.GetName(), Size: v.GetSize(), Replicas: v.GetReplicas(), Weak: v.GetWeak(), ExtentSize: v.GetExtentSize(),
		Compression: short(v.GetCompression().String(), "COMPRESSION_"), Encrypted: v.GetEncrypted(), Parent: v.GetParent(), ParentSnapshot: v.GetParentSnapshot(),
		State: short(v.GetState().String(), "VOLUME_STATE_"), Node: v.GetHolderNode(), Device: v.GetDevice(), Transport: v.GetDeviceTransport(),
		DeviceKind: short(v.GetDeviceKind().String(), "DEVICE_KIND_"), Failure: v.GetFailure(), Epoch: v.GetEpoch(), Created: when(v.GetCreatedUnix()),
		MaxIOPS: v.GetMaxIops(), MaxRate: v.GetMaxBytesPerSecond(), Used: v.GetUsed(), Copies: v.GetCopies(), DataLoss: v.GetDataLossPossible(), Snapshots: []snapshotView{},
		MinReplicas: v.GetMinReplicas(), MaxReplicas: v.GetMaxReplicas(), WhyReplicas: v.GetReplicasReason(), ReplicasSince: when(v.GetReplicasChangedUnix()), Verdict: v.GetReplicasVerdict(),
	}
	if v.GetClaimName() != "" {
		out.Claim = v.GetClaimNamespace() + "/" + v.GetClaimName()
	}
	for _, s := range v.GetSnapshots() {
		out.Snapshots = append(out.Snapshots, viewSnapshot(s))
	}
	if o := v.GetOpen(); o != nil {
		out.Open = &openView{Committed: o.GetCommitted(), Appended: o.GetAppended(), Extent: o.GetExtent(), Extents: o.GetExtents(), Degraded: o.GetDegraded(),
			RingUsed: o.GetRingUsed(), Full: o.GetFull(), HitRate: o.GetCacheHitRate(), Counters: o.GetCounters(), Replicas: []replicaView{}}
		for _, r := range o.GetReplicas() {
			out.Open.Replicas = append(out.Open.Replicas, replicaView{r.GetNode(), r.GetStore(), r.GetDurable(), r.GetFailed()})
		}
	}
	return out
}

func viewSnapshot(s *agentv1.Snapshot) snapshotView {
	return snapshotView{ID: s.GetId(), Name: s.GetName(), Size: s.GetSize(), Created: when(s.GetCreatedUnix()), Kept: s.GetKept()}
}

func volumeRows(list []volumeView) func(*show.Rows) {
	return func(r *show.Rows) {
		r.Head = []string{"NAME", "SIZE", "STATE", "NODE", "DEVICE", "REPLICAS", "SNAPSHOTS", "NOTE"}
		for _, v := range list {
			r.Add(v.Name, size.Format(v.Size), v.State, v.Node, v.Device, fmt.Sprint(v.Replicas), fmt.Sprint(len(v.Snapshots)), v.note())
		}
	}
}

// note is what else a person should see of a volume.
func (v *volumeView) note() string {
	var notes []string
	add := func(yes bool, s string) {
		if yes {
			notes = append(notes, s)
		}
	}
	add(v.Weak, "weak: flushed writes may be lost with one node")
	add(v.DataLoss > 0, fmt.Sprintf("data loss possible: epoch %d went on without all replicas, see volume tails", v.DataLoss))
	add(v.Encrypted, "encrypted")
	add(v.Parent != "", "clone")
	add(v.Claim != "", "claim "+v.Claim)
	add(v.Open != nil && v.Open.Degraded > 0, "degraded")
	add(v.Copies > 0 && v.Copies < v.Replicas && (v.Open == nil || v.Open.Degraded == 0), fmt.Sprintf("%d of %d copies", v.Copies, v.Replicas))
	add(v.Open != nil && v.Open.Full, "full")
	add(v.Failure != "", v.Failure)
	return strings.Join(notes, ", ")
}

// volumeDetails is one volume as a table of names and values.
func (v *volumeView) details(r *show.Rows) {
	for _, f := range [][2]string{
		{"name", v.Name}, {"id", v.ID}, {"size", size.Format(v.Size)}, {"state", v.State}, {"node", v.Node}, {"device", v.Device}, {"kind", v.DeviceKind}, {"transport", v.Transport},
		{"replicas", fmt.Sprint(v.Replicas)}, {"adaptive", v.bounds()}, {"compression", v.Compression}, {"encrypted", fmt.Sprint(v.Encrypted)}, {"parent", v.Parent},
		{"epoch", v.Epoch}, {"created", v.Created}, {"claim", v.Claim}, {"used", sizeOrNone(v.Used)}, {"limit", limits(v.MaxIOPS, v.MaxRate)}, {"note", v.note()},
	} {
		if f[1] != "" {
			r.Add(f[0], f[1])
		}
	}
	for _, s := range v.Snapshots {
		kept := ""
		if s.Kept {
			kept = "deleted, kept for its clones"
		}
		r.Add("snapshot", s.Name, size.Format(s.Size), s.Created, kept)
	}
	if o := v.Open; o != nil {
		r.Add("journal", fmt.Sprintf("%d appended, %d committed", o.Appended, o.Committed))
		r.Add("extents", fmt.Sprintf("%d, %d degraded", o.Extents, o.Degraded))
		for _, m := range o.Replicas {
			state := "in step"
			if m.Failed {
				state = "failed"
			} else if m.Durable < o.Committed {
				state = fmt.Sprintf("%d behind", o.Committed-m.Durable)
			}
			r.Add("replica", m.Node, state)
		}
		for _, name := range sorted(o.Counters) {
			r.Add(name, fmt.Sprint(o.Counters[name]))
		}
	}
}

// bounds says within which bounds the number of copies follows reads, and why it is what it is; empty: there are none.
func (v *volumeView) bounds() string {
	if v.MinReplicas == 0 {
		return ""
	}
	s := fmt.Sprintf("%d to %d by reads", v.MinReplicas, v.MaxReplicas)
	if v.Verdict != "" {
		s += ": " + v.Verdict
	}
	if v.WhyReplicas != "" {
		s += fmt.Sprintf(" (last %s, %s)", v.WhyReplicas, v.ReplicasSince)
	}
	return s
}

// sizeOrNone is empty for what is not known.
func sizeOrNone(n int64) string {
	if n == 0 {
		return ""
	}
	return size.Format(n)
}

func limits(iops, rate int64) string {
	var out []string
	if iops > 0 {
		out = append(out, fmt.Sprintf("%d I/Os a second", iops))
	}
	if rate > 0 {
		out = append(out, size.Format(rate)+" a second")
	}
	return strings.Join(out, ", ")
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
