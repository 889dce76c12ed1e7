// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Config configures a [Transport]. Authorizer and Audit are required.
type Config struct {
	Recipients []Recipient       // in force at first; without any nothing is sent. See Transport.Load
	Authorizer access.Authorizer // is asked for access.Disclose on each object
	Audit      audit.Recorder    // records disclosures and refusals

	// TLS adds client certificates and roots. Nil means those of the system.
	// Verification is not to be turned off, and TLS is 1.2 or newer.
	TLS *tls.Config

	Resolver       Resolver      // nil means net.DefaultResolver
	ConnectTimeout time.Duration // for look-up, connection and TLS together; 0 means 10 s
	WarnBefore     time.Duration // from when on the log warns of what expires; 0 means 30 days

	// Development admits addresses of this machine, and http to them, for tests.
	Development bool

	Log *zap.Logger      // gets refusals and what expires, never a URL; nil is silent
	Now func() time.Time // nil means time.Now
}

// A Transport is an [http.RoundTripper] that sends PHI to registered recipients:
// see the package's documentation. It is safe for concurrent use.
type Transport struct {
	cfg      Config
	loading  sync.Mutex // one at a time, so that each is recorded against the one before
	registry atomic.Pointer[registry]
}

var _ http.RoundTripper = (*Transport)(nil)

// New returns a Transport, or an error naming the first bad field of cfg.
func New(cfg Config) (*Transport, error) {
	switch {
	case cfg.Authorizer == nil:
		return nil, errors.New("egress: Config.Authorizer is nil: give the one that decides about reading")
	case cfg.Audit == nil:
		return nil, errors.New("egress: Config.Audit is nil: give the journal of audit.Open")
	case cfg.TLS != nil && cfg.TLS.InsecureSkipVerify:
		return nil, errors.New("egress: Config.TLS.InsecureSkipVerify is set: add the recipient's root to Config.TLS.RootCAs")
	case cfg.TLS != nil && cfg.TLS.ServerName != "":
		return nil, errors.New("egress: Config.TLS.ServerName is set: the name is the recipient's")
	case cfg.TLS != nil && cfg.TLS.MaxVersion != 0 && cfg.TLS.MaxVersion < tls.VersionTLS12:
		return nil, errors.New("egress: Config.TLS.MaxVersion is older than TLS 1.2")
	case cfg.ConnectTimeout < 0:
		return nil, errors.New("egress: Config.ConnectTimeout is negative")
	case cfg.WarnBefore < 0:
		return nil, errors.New("egress: Config.WarnBefore is negative")
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	if cfg.WarnBefore == 0 {
		cfg.WarnBefore = 30 * 24 * time.Hour
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	t := &Transport{cfg: cfg}
	if err := t.Load(context.Background(), cfg.Recipients); err != nil {
		return nil, err
	}
	return t, nil
}

// RoundTrip implements [http.RoundTripper]. An error that is [access.ErrDenied]
// is a refusal, of type [*RefusedError]; one that wraps [audit.ErrUnavailable]
// means that the disclosure could not be recorded. After either nothing of the
// request has left.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	body := &gate{ReadCloser: req.Body}
	if req.Body == nil {
		body.ReadCloser = http.NoBody
	}
	defer body.closeUnlessSent()
	now := t.cfg.Now()
	reg := t.registry.Load()
	p, no := t.passage(reg, req, now)
	if no != nil {
		return nil, t.refuse(req.Context(), p, no, "")
	}
	decision, no := t.ask(req.Context(), p)
	if no != nil {
		return nil, t.refuse(req.Context(), p, no, decision.ID)
	}
	conn, err := t.connect(req.Context(), p, req.URL.Scheme)
	if errors.Is(err, errAddress) {
		return nil, t.refuse(req.Context(), p, &refused{access.DenyAddress, errAddress}, decision.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("egress: connect to recipient %s: %w", p.entry.ID, err)
	}
	// Connecting takes time: what was true may have ended.
	if p, no = t.passage(t.registry.Load(), req, t.cfg.Now()); no != nil {
		conn.Close()
		return nil, t.refuse(req.Context(), p, no, decision.ID)
	}
	if _, err := t.cfg.Audit.Record(req.Context(), p.event(decision)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("egress: record disclosure to recipient %s: nothing was sent: %w", p.entry.ID, err)
	}
	t.warn(p.entry, now)
	out := req.Clone(req.Context())
	out.Close = true
	if req.Body != nil && req.Body != http.NoBody {
		out.Body = body
	}
	body.sent = true
	resp, err := conn.RoundTrip(out)
	if err != nil {
		conn.Close()
		body.Close()
		return nil, fmt.Errorf("egress: send to recipient %s, which is recorded: %w", p.entry.ID, unquoted(err))
	}
	resp.Body = answer{resp.Body}
	return resp, nil
}

// ask puts the objects to the authorizer.
func (t *Transport) ask(ctx context.Context, p *passage) (access.Decision, *refused) {
	req := access.Request{Action: access.Disclose, Recipient: p.entry.ID}
	for _, o := range p.said.Objects {
		req.Resources = append(req.Resources, access.Resource{Type: o.Type, ID: o.Record, Patient: o.Patient, Tenant: p.scope.Principal().Tenant})
	}
	d, err := t.cfg.Authorizer.Check(ctx, req)
	if err != nil {
		return d, no(access.DenyInvalid, "decide: %w", err)
	}
	if d.AllowAll(len(req.Resources)) && len(d.Verdicts) == len(req.Resources) {
		return d, nil
	}
	code := access.DenyInvalid
	for _, v := range d.Verdicts {
		if !v.Allow && v.Code != "" {
			code = v.Code
			break
		}
	}
	return d, no(code, "the policy does not allow to %s each of the objects", access.Disclose)
}

// connect makes a connection to the recipient, through which nothing has gone but
// what TLS sends.
func (t *Transport) connect(ctx context.Context, p *passage, scheme string) (*http.ClientConn, error) {
	if scheme == "http" {
		ctx = context.WithValue(ctx, plainKey{}, true)
	}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.ConnectTimeout)
	defer cancel()
	return p.entry.transport.NewClientConn(ctx, scheme, p.address)
}

// warn logs once a day what of an entry ends soon.
func (t *Transport) warn(e *entry, now time.Time) {
	today := now.Unix() / 86400
	if last := e.warned.Load(); last == today || !e.warned.CompareAndSwap(last, today) {
		return
	}
	for _, x := range e.expiring(now.Add(t.cfg.WarnBefore)) {
		t.cfg.Log.Warn("egress: expires soon: renew it, or nothing will be sent",
			zap.String("recipient", x.Recipient), zap.String("what", x.What), zap.Time("until", x.Until))
	}
}

// Do sends a request as [http.Client.Do] does, redirects included, with errors
// that do not quote the URL.
func (t *Transport) Do(req *http.Request) (*http.Response, error) {
	client := http.Client{Transport: t}
	resp, err := client.Do(req)
	var quoting *url.Error
	if !errors.As(err, &quoting) {
		return resp, err
	}
	if resp != nil { // of a redirect that was not followed
		resp.Body.Close()
	}
	if quoting.Err == nil || !strings.HasPrefix(quoting.Err.Error(), "egress: ") {
		return nil, fmt.Errorf("egress: send: %w", unquoted(quoting.Err))
	}
	return nil, quoting.Err
}

// A gate is a body that is closed once.
type gate struct {
	io.ReadCloser
	once sync.Once
	err  error
	sent bool
}

func (g *gate) Close() error {
	g.once.Do(func() { g.err = g.ReadCloser.Close() })
	return g.err
}

func (g *gate) closeUnlessSent() {
	if !g.sent {
		g.Close()
	}
}

// An answer is a body whose errors quote nothing of it.
type answer struct{ io.ReadCloser }

func (a answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("egress: read answer: %w", unquoted(err))
	}
	return n, err
}
