package metrics

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
)

// TestNeighbour: what a program of this node shows is exported too; one that is away, or shows what is not ours, changes nothing.
func TestNeighbour(t *testing.T) {
	path := filepath.Join(t.TempDir(), "figures")
	n := NewNeighbour(path)
	if got, err := n.Gather(); err != nil || len(got) != 0 {
		t.Error("nobody is there:", got, err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	text := "# TYPE mynetwork_csi_operations_active gauge\nmynetwork_csi_operations_active{part=\"node\"} 2\n# TYPE go_goroutines gauge\ngo_goroutines 7\n"
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	got, err := n.Gather()
	if err != nil || len(got) != 1 || got[0].GetName() != "mynetwork_csi_operations_active" || got[0].GetMetric()[0].GetGauge().GetValue() != 2 {
		t.Error(got, err)
	}
	text = "}{"
	if _, err := n.Gather(); err == nil {
		t.Error("nonsense is exported")
	}
	_ = s.Close()
	<-ended
}
