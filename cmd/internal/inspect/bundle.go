package inspect

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// Pods reads logs of pods and runs the program in them.
type Pods interface {
	// Logs gives the last lines of a container's log; previous: of the one before its last restart.
	Logs(ctx context.Context, namespace, pod, container string, previous bool) ([]byte, error)
	// Run runs a command in a container and gives what it prints.
	Run(ctx context.Context, namespace, pod, container string, command ...string) ([]byte, error)
}

// bundle is a bundle that is being written.
type bundle struct {
	out    *tar.Writer
	red    *Redactor
	facts  *Facts
	notes  []string // what is missing
	failed error    // of writing
}

// file adds a file. Its text was redacted.
func (b *bundle) file(name string, text string) {
	if b.failed != nil {
		return
	}
	h := &tar.Header{Name: path.Join("mynetwork-support", name), Mode: 0o600, Size: int64(len(text)), ModTime: b.facts.Now, Typeflag: tar.TypeReg}
	if b.failed = b.out.WriteHeader(h); b.failed == nil {
		_, b.failed = io.WriteString(b.out, text)
	}
}

// Bundle writes what somebody from afar needs to help: findings, objects, events, and logs, metrics and reports of MyNetwork's pods, as a
// compressed tar. No Secret is read.
func Bundle(ctx context.Context, w io.Writer, f *Facts, c client.Reader, pods Pods) error {
	z := gzip.NewWriter(w)
	b := &bundle{out: tar.NewWriter(z), red: NewRedactor(), facts: f, notes: slices.Clone(f.Hidden)}
	b.findings()
	b.objects(ctx, c)
	for i := range f.Pods {
		if p := &f.Pods[i]; p.Namespace == f.System && ctx.Err() == nil {
			b.pod(ctx, pods, p)
		}
	}
	b.file("missing.txt", b.red.Text(strings.Join(b.notes, "\n")+"\n"))
	if b.failed == nil {
		b.failed = ctx.Err()
	}
	for _, end := range []func() error{b.out.Close, z.Close} {
		if err := end(); b.failed == nil {
			b.failed = err
		}
	}
	if b.failed != nil {
		return fmt.Errorf("write the bundle: %w", b.failed)
	}
	return nil
}

func (b *bundle) findings() {
	s := b.facts.Status()
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		b.notes = append(b.notes, err.Error())
	}
	b.file("status.json", b.red.Text(string(text))+"\n")
	var lines strings.Builder
	for _, e := range b.facts.Story() {
		at, kind, object, what := Line(e)
		fmt.Fprintf(&lines, "%s %-7s %s %s\n", at, kind, object, what)
	}
	b.file("events.txt", b.red.Text(lines.String()))
}

// objects adds the objects that MyNetwork works with.
func (b *bundle) objects(ctx context.Context, c client.Reader) {
	f := b.facts
	put := func(name string, list any) {
		var v []any
		raw, err := json.Marshal(list)
		if err == nil {
			err = json.Unmarshal(raw, &v)
		}
		var text []byte
		if err == nil {
			text, err = yaml.Marshal(b.red.Object(v))
		}
		if err != nil {
			b.notes = append(b.notes, name+": "+err.Error())
			return
		}
		b.file("objects/"+name+".yaml", string(text))
	}
	put("mynetworks", f.Networks)
	put("storagenodes", f.Nodes)
	put("volumerecords", f.Records)
	put("contentgroups", f.Groups)
	put("nodes", f.Kube)
	put("storageclasses", slices.DeleteFunc(slices.Clone(f.Classes), func(s storageClass) bool { return s.Provisioner != v1alpha1.DriverName }))
	volumes := slices.DeleteFunc(slices.Clone(f.Volumes), func(v corev1.PersistentVolume) bool {
		return v.Spec.CSI == nil || v.Spec.CSI.Driver != v1alpha1.DriverName
	})
	put("persistentvolumes", volumes)
	put("persistentvolumeclaims", slices.DeleteFunc(slices.Clone(f.Claims), func(p corev1.PersistentVolumeClaim) bool {
		return f.recordOf(&p) == nil && p.Status.Phase != corev1.ClaimPending
	}))
	put("pods", slices.DeleteFunc(slices.Clone(f.Pods), func(p corev1.Pod) bool { return p.Namespace != f.System }))
	var sets appsv1.DaemonSetList
	var deployments appsv1.DeploymentList
	for name, l := range map[string]client.ObjectList{"daemonsets": &sets, "deployments": &deployments} {
		if err := c.List(ctx, l, client.InNamespace(f.System)); err != nil {
			b.notes = append(b.notes, name+": "+err.Error())
		}
	}
	put("daemonsets", sets.Items)
	put("deployments", deployments.Items)
}

// pod adds what a pod of MyNetwork says.
func (b *bundle) pod(ctx context.Context, pods Pods, p *corev1.Pod) {
	dir := "pods/" + p.Name + "/"
	for _, s := range p.Status.ContainerStatuses {
		for _, previous := range []bool{false, true} {
			if previous && s.RestartCount == 0 {
				continue
			}
			name := dir + s.Name + ".log"
			if previous {
				name = dir + s.Name + ".previous.log"
			}
			text, err := pods.Logs(ctx, p.Namespace, p.Name, s.Name, previous)
			if err != nil {
				b.notes = append(b.notes, name+": "+err.Error())
				continue
			}
			b.file(name, b.red.Text(string(text)))
		}
	}
	if !IsAgent(p) {
		return
	}
	for name, command := range map[string][]string{"metrics.txt": {"metrics"}, "report.json": {"report", "-o", "json"}, "peers.json": {"node", "list", "-o", "json"}, "volumes.json": {"volume", "list", "-o", "json"}} {
		text, err := pods.Run(ctx, p.Namespace, p.Name, "agent", append(append([]string{"/mynetwork"}, command...), "--socket", AgentSocket)...)
		if err != nil {
			b.notes = append(b.notes, dir+name+": "+err.Error())
			continue
		}
		b.file(dir+name, b.red.Text(string(text)))
	}
}
