package plane

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"mynetwork.io/mynetwork/hack/cluster/machine"
	"mynetwork.io/mynetwork/hack/cluster/record"
)

// Roles of the control plane's processes in the record, in the order of their start.
const (
	etcd       = "etcd"
	apiServer  = "kube-apiserver"
	controller = "kube-controller-manager"
	scheduler  = "kube-scheduler"
	snapshots  = "snapshot-controller"
)

const (
	serviceNet     = "10.96.0.0/16"
	serviceAddress = "10.96.0.1"
)

// Components are the roles of the control plane's processes.
func Components() []string { return []string{etcd, apiServer, controller, scheduler, snapshots} }

// Start starts what of the control plane does not run, and returns when the API server is ready.
func Start(r *record.Record) error {
	if err := machine.StartHub(r); err != nil {
		return err
	}
	cgroups, err := machine.Cgroups(r, "cp")
	if err != nil {
		return err
	}
	// Under a loaded machine the control plane must not fall behind: leases would expire for no fault of a node.
	if err := machine.SetShares(cgroups, 4096); err != nil {
		return err
	}
	if err := writeKubeconfig(r); err != nil {
		return err
	}
	if err := StartAPI(r); err != nil {
		return err
	}
	return errors.Join(machine.Daemon(r, controller, controllerArgs(r)...), machine.Daemon(r, scheduler, schedulerArgs(r)...))
}

// StartAPI starts etcd and the API server, if they do not run, and waits until the API server is ready.
func StartAPI(r *record.Record) error {
	if err := machine.Daemon(r, etcd, etcdArgs(r)...); err != nil {
		return err
	}
	if err := machine.Daemon(r, apiServer, apiServerArgs(r)...); err != nil {
		return err
	}
	return ready(r, 2*time.Minute)
}

// StartSnapshots starts the snapshot controller, if it does not run. The definitions of snapshots must be applied before.
// It is part of the control plane here, so that the loss of a node never takes it away.
func StartSnapshots(r *record.Record) error {
	return machine.Daemon(r, snapshots, snapshotArgs(r)...)
}

// StopAPI stops the API server alone. Controller manager and scheduler stay and try again.
func StopAPI(r *record.Record) error { return stop(r, apiServer, 10*time.Second) }

// Stop stops the control plane and takes its network down.
func Stop(r *record.Record) error {
	var errs error
	for _, role := range []string{snapshots, scheduler, controller, apiServer, etcd, "hub"} {
		// Nobody waits for the answers that the API server would still give. etcd closes its files.
		errs = errors.Join(errs, stop(r, role, time.Second))
	}
	return errs
}

func stop(r *record.Record, role string, grace time.Duration) error {
	if err := r.Processes[role].Stop(grace); err != nil {
		return fmt.Errorf("stop %s: %w", role, err)
	}
	return r.Ended(role)
}

// writeKubeconfig writes the administrator's kubeconfig: it goes through the loopback port of the real machine.
func writeKubeconfig(r *record.Record) error {
	p, err := openPKI(r.Dir().PKI())
	if err != nil {
		return err
	}
	return p.kubeconfig(r.Dir().Kubeconfig(), "admin", fmt.Sprintf("https://127.0.0.1:%d", r.APIPort))
}

// Client is an HTTP client with the administrator's rights, and the address to use it with.
func Client(r *record.Record) (*http.Client, string, error) {
	dir := r.Dir().PKI()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "admin.crt"), filepath.Join(dir, "admin.key"))
	if err != nil {
		return nil, "", err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, "", err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool}}
	return &http.Client{Transport: transport, Timeout: 5 * time.Second}, fmt.Sprintf("https://127.0.0.1:%d", r.APIPort), nil
}

// Ready asks the API server once whether it is ready.
func Ready(r *record.Record) error {
	client, url, err := Client(r)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the API server is not ready: %s", resp.Status)
	}
	return nil
}

// ready waits for the API server, or for the end of what it needs.
func ready(r *record.Record, most time.Duration) error {
	for end := time.Now().Add(most); ; time.Sleep(100 * time.Millisecond) {
		err := Ready(r)
		if err == nil {
			return nil
		}
		for _, role := range []string{etcd, apiServer} {
			if !r.Alive(role) {
				return fmt.Errorf("%s has ended: see %s", role, r.Dir().Log(role))
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("the API server is not ready after %v: %w: see %s", most, err, r.Dir().Log(apiServer))
		}
	}
}
