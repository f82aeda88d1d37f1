// Command metrics writes docs/metrics.md: all that the components export, from their own tables.
//
//	go run ./hack/metrics            write it
//	go run ./hack/metrics -names     list the names that queries may use
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	csi "mynetwork.io/mynetwork/csi/figures"
	"mynetwork.io/mynetwork/metrics"

	operator "mynetwork.io/mynetwork/controllers/figures"
	agent "mynetwork.io/mynetwork/nodeagent/agent/metrics"
)

// File is what is written, from the top of the repository.
const File = "docs/metrics.md"

func main() {
	names := flag.Bool("names", false, "list the names that queries may use")
	flag.Parse()
	if *names {
		fmt.Println(strings.Join(Names(), "\n"))
		return
	}
	if err := os.WriteFile(File, []byte(Document()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "metrics:", err)
		os.Exit(1)
	}
}

// Names lists the series that all components export, sorted.
func Names() (out []string) {
	for _, list := range [][]metrics.Family{agent.Families(), operator.Families(), csi.Families()} {
		for _, f := range list {
			out = append(out, f.Series()...)
		}
	}
	slices.Sort(out)
	return out
}

const head = `# Metrics

Made from the components' own tables by ` + "`go run ./hack/metrics`" + `; a test compares. Names are kept: a family that changes its meaning gets a new name.

| component | where | who may read |
|---|---|---|
| agent | port 7402 of its pod, ` + "`/metrics`" + `, TLS 1.3 | whom the API server lets ` + "`get /metrics`" + ` |
| operator | port 8080 (` + "`operator.metricsPort`" + `), TLS | the same |
| CSI controller | port 8080 (` + "`csi.controller.metricsPort`" + `), TLS | the same |
| CSI node plugin | it has no network listener: the agents of its node export its calls | the same |
| without Kubernetes | ` + "`agent.metrics-listen`" + `, loopback addresses only, in clear | everybody on the machine |

Bind the ClusterRole ` + "`mynetwork-metrics-reader`" + ` to the ServiceAccount of Prometheus. Who asks shows that account's token; the component has the API
server review it (TokenReview, SubjectAccessReview) and keeps the answer for a minute, or for an hour more while the API server does not answer.
The certificates are not for host names: an agent shows its node's certificate, the others one of their own. The PodMonitors of the
chart therefore do not verify them; use an account for Prometheus that may do nothing that you would not tell whoever can listen in the pod network.

A volume's metrics are exported by the agent of the node that has it open; counters begin anew with each opening. With several networks on one
node, each agent exports the node plugin's calls. Beside these there are the metrics of the Go runtime and process, and controller-runtime's.
`

// Document is the text of File.
func Document() string {
	var b strings.Builder
	b.WriteString(head)
	for _, part := range []struct {
		title    string
		families []metrics.Family
	}{{"Agent", agent.Families()}, {"Operator", operator.Families()}, {"CSI driver", csi.Families()}} {
		fmt.Fprintf(&b, "\n## %s\n\n%s", part.title, metrics.Table(part.families))
	}
	return b.String()
}
