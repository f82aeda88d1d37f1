package controllers_test

import (
	"errors"
	"net/http"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"

	"mynetwork.io/mynetwork/controllers"
)

// All controllers can be added to a manager. None runs: there is no API server here.
func TestSetup(t *testing.T) {
	s, err := controllers.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	o := controllers.Options{Namespace: "mynetwork-system", Image: "i", LeaderElection: true, MetricsAddress: "0", ProbeAddress: "0"}
	options := controllers.ManagerOptions(o, s)
	if *options.LeaseDuration <= *options.RenewDeadline || *options.RenewDeadline <= *options.RetryPeriod {
		t.Errorf("lease %v, renewal %v, retry %v", *options.LeaseDuration, *options.RenewDeadline, *options.RetryPeriod)
	}
	// A mapper that asks nobody.
	options.MapperProvider = func(*rest.Config, *http.Client) (meta.RESTMapper, error) {
		return testrestmapper.TestOnlyStaticRESTMapper(s), nil
	}
	m, err := ctrl.NewManager(&rest.Config{Host: "http://127.0.0.1:1"}, options)
	if err != nil {
		t.Fatal(err)
	}
	if err := controllers.Setup(t.Context(), m, controllers.Options{}); !errors.Is(err, controllers.ErrOptions) {
		t.Errorf("without a namespace: %v", err)
	}
	if err := controllers.Setup(t.Context(), m, o); err != nil {
		t.Fatal(err)
	}
}
