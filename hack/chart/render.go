package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

// Namespace is where the chart is rendered for.
const Namespace = "mynetwork-system"

// Rendering is what the chart is rendered with.
type Rendering struct {
	Values  map[string]any
	Service string   // who manages the objects; empty: Helm
	APIs    []string // that the cluster serves beside its own, as "snapshot.storage.k8s.io/v1"
}

// Render gives the text of each template by its path in templates/, without those that are empty. Values are held against the schema.
func Render(dir string, r Rendering) (map[string]string, error) {
	c, err := loader.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", dir, err)
	}
	caps := chartutil.DefaultCapabilities.Copy()
	caps.APIVersions = append(slices.Clone(caps.APIVersions), r.APIs...)
	values, err := chartutil.ToRenderValues(c, r.Values, chartutil.ReleaseOptions{Name: "mynetwork", Namespace: Namespace, IsInstall: true, Revision: 1}, caps)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", dir, err)
	}
	if r.Service != "" {
		values["Release"].(map[string]any)["Service"] = r.Service
	}
	raw, err := engine.Render(c, values)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", dir, err)
	}
	out := map[string]string{}
	for name, text := range raw {
		name = strings.TrimPrefix(name, c.Name()+"/templates/")
		if strings.TrimSpace(text) != "" && !strings.HasPrefix(path.Base(name), "_") {
			out[name] = text
		}
	}
	return out, nil
}

// mark is the first line of each file that is made from the chart.
const mark = "# Made from charts/mynetwork by make generate. Change it there.\n"

// Config is what config/ has of the chart: each template with the default values, but no definitions of resources, which the
// code makes, and no hooks, which only Helm runs.
func Config(dir string) (map[string]string, error) {
	rendered, err := Render(dir, Rendering{Service: "kustomize"})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	dirs := map[string][]string{}
	for name, text := range rendered {
		if path.Ext(name) != ".yaml" || strings.HasPrefix(name, "crds/") || strings.HasPrefix(name, "hooks/") {
			continue
		}
		if path.Dir(name) == "." {
			name = "operator/" + name
		}
		out[name] = mark + strings.TrimLeft(strings.TrimPrefix(strings.TrimSpace(text), "---"), "\n") + "\n"
		dirs[path.Dir(name)] = append(dirs[path.Dir(name)], path.Base(name))
	}
	for d, files := range dirs {
		slices.Sort(files)
		out[d+"/kustomization.yaml"] = mark + "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- " + strings.Join(files, "\n- ") + "\n"
	}
	return out, nil
}
