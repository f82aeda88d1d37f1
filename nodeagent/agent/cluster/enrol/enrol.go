package enrol

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/nodeagent/peer/identity"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// ErrDenied is returned when the operator refuses a request for good.
var ErrDenied = errors.New("the operator does not sign the certificate request")

// API is what enrolment needs of Kubernetes.
type API interface {
	Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error
	Create(ctx context.Context, obj client.Object, opts ...client.CreateOption) error
}

// Options say who enrols, and where.
type Options struct {
	API     API
	Network string // uid
	Node    string
	Dir     string // of tls.key and tls.crt
	CA      string // file with the authorities' certificates
	// Changed is told that a certificate is in use; its end is in the credentials.
	Changed func()
	Log     *slog.Logger
	// Now is the clock; nil: the system's. Poll is how often an answer and the file of authorities are looked at; 0: 1 s and 5 s.
	Now  func() time.Time
	Poll time.Duration
}

// Enrolment is one node's. The zero value is not usable: see New.
type Enrolment struct {
	opt   Options
	creds *identity.Credentials
	ca    []byte // in use
	pair  pair   // in use
}

const (
	lookInterval  = 5 * time.Second // at the file of authorities, and at the clock
	firstPoll     = time.Second
	answerWait    = time.Minute // for an answer before it is asked anew: a request may be lost
	retryInterval = 15 * time.Second
)

// New makes an enrolment; it does nothing yet.
func New(o Options) *Enrolment {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	return &Enrolment{opt: o}
}

func (e *Enrolment) every(d time.Duration) time.Duration {
	if e.opt.Poll > 0 {
		return e.opt.Poll
	}
	return d
}

// First gives credentials: those on disk if peers would accept them, else it asks until the operator has signed, or ctx ends.
func (e *Enrolment) First(ctx context.Context) (*identity.Credentials, error) {
	if err := os.MkdirAll(e.opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	for said := ""; ; {
		err := e.load()
		if err == nil {
			e.opt.Changed()
			return e.creds, nil
		}
		asked := e.renew(ctx)
		if asked == nil {
			return e.creds, nil
		}
		err = errors.Join(asked, err)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("enrol node %s: %w", e.opt.Node, errors.Join(ctx.Err(), err))
		}
		if text := err.Error(); text != said {
			e.opt.Log.Warn("this node has no certificate yet and serves nobody; it goes on asking", "node", e.opt.Node, "err", err)
			said = text
		}
		task.Pause(ctx, e.every(retryInterval))
	}
}

// load takes the pair on disk into use.
func (e *Enrolment) load() error {
	ca, err := os.ReadFile(e.opt.CA)
	if err != nil {
		return fmt.Errorf("the network's authorities: %w", err)
	}
	err = errors.New("no certificate on disk")
	for _, p := range readPairs(e.opt.Dir) {
		if err = e.use(p, ca); err == nil {
			return nil
		}
	}
	return err
}

// use takes a pair and authorities into use, or leaves what is in use.
func (e *Enrolment) use(p pair, ca []byte) error {
	if e.creds == nil {
		creds, err := identity.NewCredentials(p.cert, p.key, ca, identity.CredentialOptions{Now: e.opt.Now})
		if err != nil {
			return err
		}
		if want := (identity.Identity{Network: e.opt.Network, Node: e.opt.Node}).URI(); creds.Self().URI() != want {
			return fmt.Errorf("the certificate is for %s, this is %s", creds.Self().URI(), want)
		}
		e.creds = creds
	} else if err := e.creds.Replace(p.cert, p.key, ca); err != nil {
		return err
	}
	e.pair, e.ca = p, ca
	return nil
}

// Run keeps the credentials that First gave fresh, until ctx ends.
func (e *Enrolment) Run(ctx context.Context) error {
	jitter := rand.Float64() / 20 // so that a network's nodes do not all ask at once
	for {
		if !task.Pause(ctx, e.every(lookInterval)) {
			return nil
		}
		e.authorities()
		if !e.due(jitter) {
			continue
		}
		if err := e.renew(ctx); err != nil && ctx.Err() == nil {
			e.opt.Log.Warn("the node's certificate is not renewed yet; the present one stays in use", "ends", e.creds.Self().NotAfter, "err", err)
			task.Pause(ctx, e.every(retryInterval))
		}
	}
}

// authorities takes a changed file of authorities into use.
func (e *Enrolment) authorities() {
	ca, err := os.ReadFile(e.opt.CA)
	if err != nil || bytes.Equal(ca, e.ca) {
		return
	}
	if err := e.use(e.pair, ca); err != nil {
		// Those of an authority that did not sign our certificate: others would not be understood either, so a certificate of it is
		// needed first. The old bundle stays.
		e.opt.Log.Debug("the changed authorities can not be used yet", "err", err)
		return
	}
	e.opt.Log.Info("the network's authorities have changed, and are in use")
}

// due tells whether a third of the certificate's life has passed.
func (e *Enrolment) due(jitter float64) bool {
	block, _ := pem.Decode(e.pair.cert)
	if block == nil {
		return true
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return true
	}
	life := c.NotAfter.Sub(c.NotBefore)
	return e.opt.Now().After(c.NotBefore.Add(life/3 + time.Duration(jitter*float64(life))))
}

// renew makes a key, has it signed, and takes the pair into use.
func (e *Enrolment) renew(ctx context.Context) error {
	key, request, err := newRequest(e.opt.Network, e.opt.Node)
	if err != nil {
		return err
	}
	cert, err := e.ask(ctx, request)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(e.opt.CA)
	if err != nil {
		return fmt.Errorf("the network's authorities: %w", err)
	}
	p := pair{cert: cert, key: key}
	if err := e.use(p, ca); err != nil {
		return fmt.Errorf("the certificate that the operator signed can not be used: %w", err)
	}
	if err := p.write(e.opt.Dir); err != nil {
		e.opt.Log.Warn("the node's certificate can not be kept on disk: a restart needs the operator", "err", err)
	}
	e.opt.Log.Info("the node has a certificate", "node", e.opt.Node, "ends", e.creds.Self().NotAfter)
	e.opt.Changed()
	return nil
}
