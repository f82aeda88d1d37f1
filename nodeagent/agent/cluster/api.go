package cluster

import (
	"context"
	"fmt"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/metrics/scrape"
)

// fieldOwner owns the fields that agents apply.
const fieldOwner = "mynetwork-agent"

// Bounds of what one agent asks of the API, in requests per second, so that a fault here is none there.
const (
	queries    = 20
	burst      = 40
	apiTimeout = 30 * time.Second // of a request that does not watch and has no shorter limit
)

// Dial makes a client for the API server of the cluster that this process runs in. It connects when it is first used.
func Dial() (client.WithWatch, error) {
	cfg, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("this is no pod of a cluster, or its token is not mounted: %w; without Kubernetes, leave agent.cluster empty", err)
	}
	return NewClient(cfg)
}

// NewClient makes a client without a cache and without discovery: it knows the few kinds that an agent uses.
func NewClient(cfg *rest.Config) (client.WithWatch, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, certv1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{"MyNetwork", "StorageNode", "VolumeRecord"} {
		mapper.Add(v1alpha1.GroupVersion().WithKind(kind), meta.RESTScopeRoot)
	}
	mapper.Add(certv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"), meta.RESTScopeRoot)
	mapper.Add(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), meta.RESTScopeNamespace)
	cfg = rest.CopyConfig(cfg)
	cfg.QPS, cfg.Burst, cfg.UserAgent = queries, burst, "mynetwork-agent"
	c, err := client.NewWithWatch(cfg, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("client of the Kubernetes API: %w", err)
	}
	return c, nil
}

// Reviews asks the API server of the cluster that this process runs in who may read metrics.
func Reviews() (scrape.API, error) {
	cfg, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	cfg.QPS, cfg.Burst, cfg.UserAgent = queries, burst, "mynetwork-agent"
	return scrape.NewCluster(cfg)
}

// applyReport writes the report of a node.
func applyReport(ctx context.Context, api client.Client, name string, st *v1alpha1.AgentStatus) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(st)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	o := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"agent": fields}}}
	o.SetGroupVersionKind(v1alpha1.GroupVersion().WithKind("StorageNode"))
	o.SetName(name)
	if err := api.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldOwner), client.ForceOwnership); err != nil {
		return fmt.Errorf("report of StorageNode %s: %w", name, err)
	}
	return nil
}
