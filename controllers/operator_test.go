package controllers_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"

	"mynetwork.io/mynetwork/api/v1alpha1"
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

func TestInUse(t *testing.T) {
	rec := func(name, holder string, change func(*v1alpha1.VolumeRecord)) v1alpha1.VolumeRecord {
		r := v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: name}, State: v1alpha1.VolumeState{Holder: holder}}
		if change != nil {
			change(&r)
		}
		return r
	}
	idle := []v1alpha1.VolumeRecord{rec("detached", "", nil), rec("deleted", "a", func(r *v1alpha1.VolumeRecord) { r.State.Deletion = &v1alpha1.VolumeDeletion{} })}
	if err := controllers.InUse(idle); err != nil {
		t.Error(err)
	}
	used := append(idle, rec("vol-1", "a", func(r *v1alpha1.VolumeRecord) {
		r.Spec.Claim = &v1alpha1.ClaimReference{Namespace: "apps", Name: "data"}
	}))
	for i := range 30 {
		used = append(used, rec(fmt.Sprintf("w-%d", i), "b", nil))
	}
	err := controllers.InUse(used)
	if !errors.Is(err, controllers.ErrInUse) || !strings.Contains(err.Error(), "vol-1 on node a, claim apps/data") || !strings.Contains(err.Error(), "and 11 more") ||
		strings.Contains(err.Error(), "detached") {
		t.Error(err)
	}
}
