// Package pace lets changes that come in crowds start one round of a controller, and those that can not wait start it at once.
//
// A round of a network reads all of its nodes. A thousand agents that report in the same minute would cost a thousand rounds, and each
// status that a round writes would cost another: work that grows with the square of the nodes. What is urgent is the caller's to say.
//
// # Invariants
//
//  1. Every change but of figures is followed by a round, after Crowd at most. (TestMapped)
//  2. Of the changes of a crowd, however many, one round comes. (TestMapped)
//  3. A change that is but of figures waits for Figures at most, and any other that comes meanwhile brings its round forward. (TestMapped)
//
// Handlers hold no state.
package pace

import (
	"context"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Crowd is how long what is not urgent waits for others of its kind.
const Crowd = time.Second

// Figures is how long what only changes figures waits. A thousand agents write theirs every five minutes: more than three a second, for ever.
const Figures = 15 * time.Second

// Mapped asks for a round of the cluster-scoped object that to names: at once when an object comes or goes, or when urgent says so of a change,
// after Figures if idle says that the change is but of those, else after Crowd. Both may be nil: no change is.
func Mapped(to func(client.Object) string, urgent, idle func(before, after client.Object) bool) handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	of := func(o client.Object) reconcile.Request {
		return reconcile.Request{NamespacedName: client.ObjectKey{Name: to(o)}}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { q.AddAfter(of(e.Object), Crowd/10) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { q.AddAfter(of(e.Object), Crowd/10) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if urgent != nil && urgent(e.ObjectOld, e.ObjectNew) {
				q.Add(of(e.ObjectNew))
				return
			}
			if idle != nil && idle(e.ObjectOld, e.ObjectNew) {
				q.AddAfter(of(e.ObjectNew), Figures)
				return
			}
			q.AddAfter(of(e.ObjectNew), Crowd)
		},
	}
}
