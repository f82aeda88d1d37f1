// Command dashboards writes the chart's dashboards for Grafana: charts/mynetwork/monitoring/{network,node,volume}.json.
//
// What a dashboard shows is a list of panels in boards.go; hack/monitoring tests every query against the names that are exported.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Dir is where they are written, from the top of the repository.
const Dir = "charts/mynetwork/monitoring"

func main() {
	for name, b := range Files() {
		if err := os.WriteFile(filepath.Join(Dir, name), b, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "dashboards:", err)
			os.Exit(1)
		}
	}
}

// Files gives the dashboards by file name.
func Files() map[string][]byte {
	out := map[string][]byte{}
	for _, b := range boards() {
		text, err := json.MarshalIndent(b.grafana(), "", " ")
		if err != nil {
			panic(err) // of maps, strings and numbers
		}
		out[b.name+".json"] = append(text, '\n')
	}
	return out
}

// board is one dashboard. choices are its variables beside the data source: a label's values, chosen from a metric.
type board struct {
	name, title string
	choices     []choice
	rows        []row
}

type choice struct{ name, query string }

type row struct {
	title  string
	panels []panel
}

// panel shows queries over time, or, if now is set, their present values.
type panel struct {
	title, unit string
	now         bool
	queries     []query
}

type query struct{ expr, legend string }

type object = map[string]any

// Grafana's grid has 24 columns.
const (
	columns = 24
	height  = 7
)

func source() object { return object{"type": "prometheus", "uid": "${datasource}"} }

func (b *board) grafana() object {
	list := []object{{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}}
	for _, c := range b.choices {
		list = append(list, object{"name": c.name, "type": "query", "datasource": source(), "refresh": 2, "includeAll": true, "multi": true, "allValue": ".*", "sort": 1,
			"query": object{"query": c.query, "refId": c.name}, "definition": c.query, "current": object{"text": "All", "value": "$__all"}})
	}
	var panels []object
	id, y := 1, 0
	for _, r := range b.rows {
		panels = append(panels, object{"id": id, "type": "row", "title": r.title, "gridPos": object{"x": 0, "y": y, "w": columns, "h": 1}, "collapsed": false, "panels": []object{}})
		id, y = id+1, y+1
		w := columns / len(r.panels)
		for i := range r.panels {
			o := r.panels[i].grafana()
			o["id"], o["gridPos"] = id, object{"x": i * w, "y": y, "w": w, "h": height}
			panels = append(panels, o)
			id++
		}
		y += height
	}
	return object{"uid": "mynetwork-" + b.name, "title": b.title, "tags": []string{"mynetwork"}, "schemaVersion": 39, "editable": true, "timezone": "", "refresh": "30s",
		"time": object{"from": "now-3h", "to": "now"}, "templating": object{"list": list}, "panels": panels, "annotations": object{"list": []object{}}}
}

func (p *panel) grafana() object {
	var targets []object
	for i, q := range p.queries {
		targets = append(targets, object{"refId": string(rune('A' + i)), "datasource": source(), "expr": q.expr, "legendFormat": q.legend, "instant": p.now, "range": !p.now})
	}
	o := object{"type": "timeseries", "title": p.title, "datasource": source(), "targets": targets,
		"fieldConfig": object{"defaults": object{"unit": p.unit, "min": 0, "custom": object{"fillOpacity": 8, "showPoints": "never"}}, "overrides": []object{}},
		"options":     object{"legend": object{"displayMode": "list", "placement": "bottom"}, "tooltip": object{"mode": "multi", "sort": "desc"}}}
	if p.now {
		o["type"] = "stat"
		o["fieldConfig"] = object{"defaults": object{"unit": p.unit}, "overrides": []object{}}
		o["options"] = object{"reduceOptions": object{"calcs": []string{"lastNotNull"}}, "colorMode": "none", "graphMode": "none"}
	}
	return o
}
