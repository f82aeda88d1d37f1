package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// Namespace is where config/ installs.
const Namespace = "mynetwork-system"

// ErrNoPrograms tells that there is no API server to run.
var ErrNoPrograms = errors.New("KUBEBUILDER_ASSETS names no directory with kube-apiserver and etcd: hack/cluster builds them, see its README.md")

// startLimit bounds the start of each program on a machine that is busy.
const startLimit = 2 * time.Minute

// Server is a running API server with MyNetwork's definitions, rights and policies.
type Server struct {
	Config *rest.Config // of the administrator
	Admin  client.WithWatch
	Scheme *runtime.Scheme
	env    *envtest.Environment
	top    string
}

// Start starts it. top is the repository.
func Start(ctx context.Context, top string) (*Server, error) {
	dir := os.Getenv("KUBEBUILDER_ASSETS")
	for _, program := range []string{"kube-apiserver", "etcd"} {
		if _, err := os.Stat(filepath.Join(dir, program)); dir == "" || err != nil {
			return nil, fmt.Errorf("%w (KUBEBUILDER_ASSETS=%q)", ErrNoPrograms, dir)
		}
	}
	s := &Server{Scheme: runtime.NewScheme(), top: top}
	if err := errors.Join(clientgoscheme.AddToScheme(s.Scheme), v1alpha1.AddToScheme(s.Scheme)); err != nil {
		return nil, err
	}
	s.env = &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join(top, "config/crd")}, ErrorIfCRDPathMissing: true,
		ControlPlaneStartTimeout: startLimit, ControlPlaneStopTimeout: startLimit}
	var err error
	if s.Config, err = s.env.Start(); err != nil {
		return nil, fmt.Errorf("start the API server: %w", errors.Join(err, s.env.Stop()))
	}
	if s.Admin, err = client.NewWithWatch(s.Config, client.Options{Scheme: s.Scheme}); err == nil {
		err = s.installAll(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.env.Stop())
	}
	return s, nil
}

// Stop ends it; all that it held is gone.
func (s *Server) Stop() error { return s.env.Stop() }

// Kubeconfig is the administrator's, as a file's content.
func (s *Server) Kubeconfig() []byte { return s.env.KubeConfig }

func (s *Server) installAll(ctx context.Context) error {
	if err := s.Install(ctx, filepath.Join(s.top, "config/default/namespace.yaml")); err != nil {
		return err
	}
	for _, dir := range []string{"agent", "operator", "csi", "admission"} {
		files, err := filepath.Glob(filepath.Join(s.top, "config", dir, "*.yaml"))
		if err != nil || len(files) < 2 {
			return fmt.Errorf("config/%s has %d files: %w", dir, len(files), err)
		}
		for _, f := range files {
			if filepath.Base(f) == "kustomization.yaml" {
				continue
			}
			if err := s.Install(ctx, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// Install makes the objects of a file. A field that the server does not know is an error.
func (s *Server) Install(ctx context.Context, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	objects, err := Objects(b)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, u := range objects {
		if err := s.Admin.Create(ctx, u, client.FieldValidation("Strict")); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// Objects reads the objects of a YAML text.
func Objects(text []byte) (out []*unstructured.Unstructured, err error) {
	d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		u := &unstructured.Unstructured{}
		if err := d.Decode(&u.Object); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		if len(u.Object) > 0 {
			out = append(out, u)
		}
	}
}

// Identity is a client's configuration with the rights of a ServiceAccount of Namespace; extra are the claims of its token.
func (s *Server) Identity(account string, extra map[string][]string) *rest.Config {
	c := rest.CopyConfig(s.Config)
	c.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + Namespace + ":" + account,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + Namespace, "system:authenticated"}, Extra: extra}
	return c
}

// Claims that the API server makes of the token of a pod.
const (
	ClaimNode = "authentication.kubernetes.io/node-name"
	ClaimPod  = "authentication.kubernetes.io/pod-name"
	ClaimUID  = "authentication.kubernetes.io/pod-uid"
)

// Agent is a client with the rights of the agent of a node.
func (s *Server) Agent(node string) (client.Client, error) {
	return s.Client(s.Identity("mynetwork-agent", map[string][]string{ClaimNode: {node}}))
}

// Client makes a client that shares what is known of the server's kinds.
func (s *Server) Client(c *rest.Config) (client.Client, error) {
	return client.New(c, client.Options{Scheme: s.Scheme, Mapper: s.Admin.RESTMapper()})
}
