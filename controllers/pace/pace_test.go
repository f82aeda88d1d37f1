package pace_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mynetwork.io/mynetwork/controllers/pace"
)

func node(name, phase string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"phase": phase}}}
}

func TestMapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
		defer q.ShutDown()
		h := pace.Mapped(func(client.Object) string { return "main" }, func(before, after client.Object) bool {
			return before.GetLabels()["phase"] != after.GetLabels()["phase"]
		}, func(_, after client.Object) bool { return after.GetName() == "figures" })
		after := func(d time.Duration, want int, what string) {
			t.Helper()
			<-time.After(d) // by the bubble's clock
			synctest.Wait()
			if q.Len() != want {
				t.Errorf("%s: %d rounds wait, want %d", what, q.Len(), want)
			}
			for q.Len() > 0 {
				r, _ := q.Get()
				q.Done(r)
			}
		}
		for range 1000 {
			h.Update(t.Context(), event.UpdateEvent{ObjectOld: node("a", "1"), ObjectNew: node("a", "1")}, q)
		}
		after(0, 0, "a crowd waits")
		after(pace.Crowd, 1, "a crowd is one round")
		after(pace.Crowd, 0, "and no other")
		h.Update(t.Context(), event.UpdateEvent{ObjectOld: node("a", "1"), ObjectNew: node("a", "2")}, q)
		after(0, 1, "what is urgent does not wait")
		h.Create(t.Context(), event.CreateEvent{Object: node("b", "1")}, q)
		h.Delete(t.Context(), event.DeleteEvent{Object: node("b", "1")}, q)
		after(pace.Crowd, 1, "what comes or goes")
		figures := event.UpdateEvent{ObjectOld: node("figures", "1"), ObjectNew: node("figures", "1")}
		h.Update(t.Context(), figures, q)
		after(pace.Figures-pace.Crowd, 0, "figures wait longer")
		h.Update(t.Context(), figures, q)
		after(pace.Crowd, 1, "and not for the last of them")
		after(pace.Figures, 0, "and no other")
		h.Update(t.Context(), figures, q)
		h.Update(t.Context(), event.UpdateEvent{ObjectOld: node("a", "1"), ObjectNew: node("a", "1")}, q)
		after(pace.Crowd, 1, "what else comes brings them forward")
	})
}
