package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Namespace is where the chart is rendered for.
const Namespace = "mynetwork-system"

// KubeVersion is what it is rendered for: a helm that was built from its module takes itself for an old one.
const KubeVersion = "1.36.0"

// Helm runs the helm program on a chart.
type Helm struct {
	Program string // built from hack/tools
	Chart   string // directory
}

// Build builds the helm program of hack/tools into a directory. top is the repository.
func Build(ctx context.Context, top, dir string) (program string, err error) {
	program = filepath.Join(dir, "helm")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "helm.sh/helm/v3/cmd/helm")
	cmd.Dir = filepath.Join(top, "hack", "tools")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build helm: %w\n%s", err, out)
	}
	return program, nil
}

// Render gives the objects of each template by its path in templates/, in YAML. Values are held against the chart's schema. apis
// are served by the cluster beside its own, as "snapshot.storage.k8s.io/v1".
func (h Helm) Render(ctx context.Context, values map[string]any, apis ...string) (map[string]string, error) {
	args := []string{"template", "mynetwork", h.Chart, "--namespace", Namespace, "--kube-version", KubeVersion, "--values", "-"}
	for _, a := range apis {
		args = append(args, "--api-versions", a)
	}
	in, err := json.Marshal(values)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, h.Program, args...)
	cmd.Stdin = bytes.NewReader(in)
	cmd.Env = append(os.Environ(), "KUBECONFIG=/dev/null", "HELM_CACHE_HOME="+os.TempDir(), "HELM_CONFIG_HOME="+os.TempDir(), "HELM_DATA_HOME="+os.TempDir())
	var errOut strings.Builder
	cmd.Stderr = &errOut
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("helm template: %w\n%s", err, errOut.String())
	}
	out := map[string]string{}
	for doc := range strings.SplitSeq("\n"+string(b), "\n---\n") {
		head, body, ok := strings.Cut(strings.TrimSpace(doc), "\n")
		name, is := strings.CutPrefix(head, "# Source: mynetwork/templates/")
		if !ok || !is {
			continue
		}
		if out[name] != "" {
			out[name] += "---\n"
		}
		out[name] += strings.TrimSpace(body) + "\n"
	}
	return out, nil
}

// mark is the first line of each file that is made from the chart.
const mark = "# Made from charts/mynetwork by make generate. Change it there.\n"

// Monitoring are values that switch on all that watches the network.
func Monitoring() map[string]any {
	on := map[string]any{"enabled": true}
	return map[string]any{"monitoring": map[string]any{"podMonitors": on, "rules": on, "dashboards": on}}
}

// Config is what config/ has of the chart: each template with the default values, but for monitoring/, which is switched on and stands
// for itself; no definitions of resources, which the code makes, and no hooks, which only Helm runs.
func (h Helm) Config(ctx context.Context) (map[string]string, error) {
	rendered, err := h.Render(ctx, nil)
	if err != nil {
		return nil, err
	}
	watched, err := h.Render(ctx, Monitoring())
	if err != nil {
		return nil, err
	}
	for name, text := range watched {
		if strings.HasPrefix(name, "monitoring/") {
			rendered[name] = text
		}
	}
	out := map[string]string{}
	dirs := map[string][]string{}
	for name, text := range rendered {
		if strings.HasPrefix(name, "crds/") || strings.HasPrefix(name, "hooks/") {
			continue
		}
		if path.Dir(name) == "." {
			name = "operator/" + name
		}
		out[name] = mark + strings.ReplaceAll(text, "managed-by: Helm", "managed-by: kustomize")
		dirs[path.Dir(name)] = append(dirs[path.Dir(name)], path.Base(name))
	}
	for d, files := range dirs {
		slices.Sort(files)
		out[d+"/kustomization.yaml"] = mark + "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- " + strings.Join(files, "\n- ") + "\n"
	}
	return out, nil
}
