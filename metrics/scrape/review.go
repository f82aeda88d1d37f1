package scrape

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authnclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authzclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
)

// Bounds of a Reviewer.
const (
	Remember      = time.Minute      // how long an answer of the API server holds
	RememberNo    = 10 * time.Second // one that does not allow
	Outage        = time.Hour        // how much longer one that allows holds while the API server does not answer
	Reviews       = 5                // a second, of tokens that are not remembered
	remembered    = 256              // tokens
	reviewTimeout = 5 * time.Second
)

// API reviews for a Reviewer.
type API interface {
	// User says whose token it is; ok is false for nobody's.
	User(ctx context.Context, token string) (user authnv1.UserInfo, ok bool, err error)
	// May says whether a user may get a non-resource URL.
	May(ctx context.Context, user *authnv1.UserInfo, path string) (bool, error)
}

// Reviewer is an Authorizer that asks the API server. Make one with NewReviewer.
type Reviewer struct {
	api API
	now func() time.Time

	mu     sync.Mutex
	known  map[[32]byte]answer
	second int64 // of Unix time
	asked  int   // in it
}

type answer struct {
	verdict Verdict
	until   time.Time
}

var _ Authorizer = (*Reviewer)(nil)

// NewReviewer makes a Reviewer. now is the clock.
func NewReviewer(api API, now func() time.Time) *Reviewer {
	return &Reviewer{api: api, now: now, known: map[[32]byte]answer{}}
}

// Authorize implements Authorizer.
func (r *Reviewer) Authorize(ctx context.Context, token string) (Verdict, error) {
	key := sha256.Sum256([]byte(token))
	if v, ok, err := r.remember(key); ok || err != nil {
		return v, err
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	v, err := r.ask(ctx, token)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if a, ok := r.known[key]; ok && a.verdict == Allowed && r.now().Before(a.until.Add(Outage)) {
			return Allowed, nil
		}
		return Unknown, err
	}
	if len(r.known) >= remembered {
		r.forget()
	}
	keep := Remember
	if v != Allowed {
		keep = RememberNo
	}
	r.known[key] = answer{v, r.now().Add(keep)}
	return v, nil
}

// remember gives an answer that holds; else it counts a review, or says that there are too many.
func (r *Reviewer) remember(key [32]byte) (Verdict, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	a, ok := r.known[key]
	if ok && now.Before(a.until) {
		return a.verdict, true, nil
	}
	if ok && a.verdict == Allowed { // strangers do not use up its turn
		return Unknown, false, nil
	}
	if s := now.Unix(); s != r.second {
		r.second, r.asked = s, 0
	}
	if r.asked >= Reviews {
		return Unknown, false, ErrBusy
	}
	r.asked++
	return Unknown, false, nil
}

// forget makes room: first of answers that allow nothing.
func (r *Reviewer) forget() {
	for k, a := range r.known {
		if a.verdict != Allowed {
			delete(r.known, k)
		}
	}
	if len(r.known) >= remembered {
		clear(r.known)
	}
}

func (r *Reviewer) ask(ctx context.Context, token string) (Verdict, error) {
	user, ok, err := r.api.User(ctx, token)
	if err != nil || !ok {
		return Unknown, err
	}
	may, err := r.api.May(ctx, &user, Path)
	if err != nil || !may {
		return Forbidden, err
	}
	return Allowed, nil
}

// Cluster is the API of a cluster.
type Cluster struct {
	authn *authnclient.AuthenticationV1Client
	authz *authzclient.AuthorizationV1Client
}

var _ API = (*Cluster)(nil)

// NewCluster makes the API of the cluster that cfg reaches. Who uses it needs the right to create tokenreviews and subjectaccessreviews.
func NewCluster(cfg *rest.Config) (*Cluster, error) {
	authn, err := authnclient.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client for token reviews: %w", err)
	}
	authz, err := authzclient.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client for access reviews: %w", err)
	}
	return &Cluster{authn, authz}, nil
}

// User implements API.
func (c *Cluster) User(ctx context.Context, token string) (user authnv1.UserInfo, ok bool, err error) {
	r, err := c.authn.TokenReviews().Create(ctx, &authnv1.TokenReview{Spec: authnv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return user, false, fmt.Errorf("review a token: %w", err)
	}
	return r.Status.User, r.Status.Authenticated, nil
}

// May implements API.
func (c *Cluster) May(ctx context.Context, u *authnv1.UserInfo, path string) (bool, error) {
	spec := authzv1.SubjectAccessReviewSpec{User: u.Username, UID: u.UID, Groups: u.Groups, Extra: map[string]authzv1.ExtraValue{},
		NonResourceAttributes: &authzv1.NonResourceAttributes{Path: path, Verb: "get"}}
	for k, v := range u.Extra {
		spec.Extra[k] = authzv1.ExtraValue(v)
	}
	r, err := c.authz.SubjectAccessReviews().Create(ctx, &authzv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("review the access of %s: %w", u.Username, err)
	}
	return r.Status.Allowed && !r.Status.Denied, nil
}
