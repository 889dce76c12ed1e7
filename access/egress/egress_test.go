// SPDX-License-Identifier: Apache-2.0

package egress_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/egress"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/minimize"
)

const (
	patient = "0198f0aa-0000-7000-8000-000000000001"
	secret  = "Jane Roe"
)

// names resolves as a test says.
type names struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr
	asked int
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	return append([]netip.Addr(nil), n.addrs[host]...), nil
}

func (n *names) set(host string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs[host] = nil
	for _, a := range addrs {
		n.addrs[host] = append(n.addrs[host], netip.MustParseAddr(a))
	}
}

// world is a recipient's server, and a Transport that knows it.
type world struct {
	t     *testing.T
	srv   *httptest.Server
	port  string
	roots *x509.CertPool
	names *names
	trail *audittest.Trail
	fake  *accesstest.Fake
	logs  *observer.ObservedLogs
	got   atomic.Int64 // requests that arrived
	conns atomic.Int64
	serve atomic.Pointer[http.HandlerFunc]
	now   time.Time
	cfg   egress.Config
	*egress.Transport
}

func setup(t *testing.T, change ...func(*world)) *world {
	t.Helper()
	w := &world{t: t, trail: audittest.New(t), fake: accesstest.Allow(), names: &names{addrs: make(map[string][]netip.Addr)}, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	cert, roots := certificate(t, "lab.example", "*.lab.example", "evil.example", "cdn.example")
	w.roots = roots
	w.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		w.got.Add(1)
		if h := w.serve.Load(); h != nil {
			(*h)(rw, req)
			return
		}
		io.Copy(rw, req.Body)
	}))
	w.srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			w.conns.Add(1)
		}
	}
	w.srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	w.srv.StartTLS()
	t.Cleanup(w.srv.Close)
	_, w.port, _ = net.SplitHostPort(w.srv.Listener.Addr().String())
	for _, h := range []string{"lab.example", "api.lab.example", "evil.example", "cdn.example"} {
		w.names.set(h, "127.0.0.1")
	}
	core, logs := observer.New(zapcore.DebugLevel)
	w.logs = logs
	w.cfg = egress.Config{
		Recipients: []egress.Recipient{w.lab()}, Authorizer: w.fake, Audit: w.trail, Development: true, Log: zap.New(core),
		TLS: &tls.Config{RootCAs: roots}, Resolver: w.names, Now: func() time.Time { return w.now },
	}
	for _, c := range change {
		c(w)
	}
	tr, err := egress.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Transport = tr
	return w
}

// lab is a good entry.
func (w *world) lab() egress.Recipient {
	return egress.Recipient{
		ID: "lab-acme", Name: "Acme Laboratories", Address: "1 Main St, Boston", Owner: "privacy office",
		Basis: egress.BusinessAssociate, Hosts: []string{"lab.example:" + w.port}, Tenants: []string{accesstest.Tenant},
		Purposes: []access.Purpose{access.Treatment, access.Payment},
		Types:    map[string]egress.Item{"patient": {Fields: map[string]minimize.Class{"name": minimize.Name, "dob": minimize.DOB}}},
		From:     time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		Description: "laboratory orders",
		Agreement:   &egress.Document{ID: "baa-7", SHA256: strings.Repeat("ab", 32), Signed: time.Date(2025, 12, 1, 0, 0, 0, 0, time.UTC)},
	}
}

func certificate(t *testing.T, hosts ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: hosts, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// said is a Disclosure that lab permits.
func said() egress.Disclosure {
	return egress.Disclosure{Recipient: "lab-acme", Objects: []audit.Object{{Type: "patient", Record: patient, Patient: patient, Fields: []string{"name", "dob"}}}}
}

func as(t *testing.T) context.Context {
	return accesstest.As(t, t.Context(), "physician", access.Treatment)
}

// body notes whether it was read.
type body struct {
	io.Reader
	read, closed int
}

func (b *body) Read(p []byte) (int, error) { b.read++; return b.Reader.Read(p) }
func (b *body) Close() error               { b.closed++; return nil }

// post sends, and returns what came of it.
func (w *world) post(ctx context.Context, target string, edit ...func(*http.Request)) (string, *body, error) {
	w.t.Helper()
	b := &body{Reader: strings.NewReader(secret)}
	req, err := http.NewRequestWithContext(ctx, "POST", target, b)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range edit {
		e(req)
	}
	resp, err := w.Do(req)
	if err != nil {
		return "", b, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text), b, nil
}

func (w *world) url() string { return "https://lab.example:" + w.port + "/orders" }

func (w *world) events(typ audit.Type) (out []audit.Stored) {
	for _, ev := range w.trail.Events() {
		if ev.Type == typ {
			out = append(out, ev)
		}
	}
	return out
}

func TestWhatIsSentIsRecordedFirst(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var before []audit.Stored
	h := http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		before = w.events(audit.Disclosed)
		io.Copy(rw, req.Body)
	})
	w.serve.Store(&h)
	got, b, err := w.post(egress.Disclose(as(t), said()), w.url())
	if err != nil || got != secret || b.closed != 1 {
		t.Fatalf("%q, %v, body closed %d times", got, err, b.closed)
	}
	if n := len(w.trail.Events()) - len(w.events(audit.RecipientsLoaded)); len(before) != 1 || n != 1 {
		t.Fatalf("%d disclosures recorded as the request arrived, %d events after it, want 1 and 1", len(before), n)
	}
	ev := before[0]
	if ev.Outcome != audit.Success || ev.Action != access.Disclose || ev.Code != access.AllowRule || ev.Decision == "" || ev.Purpose != access.Treatment ||
		*ev.Disclosure != (audit.Disclosure{Basis: audit.ByTreatment, Recipient: "lab-acme"}) || ev.Citation != "164.502(e)" ||
		len(ev.Objects) != 1 || ev.Objects[0].Patient != patient || fmt.Sprint(ev.Objects[0].Fields) != "[name dob]" {
		t.Errorf("event = %+v, %+v", ev, ev.Disclosure)
	}
	d, err := w.trail.Detail(as(t), ev.ID)
	if err != nil || d != (audit.Detail{Recipient: "Acme Laboratories", Address: "1 Main St, Boston", Description: "laboratory orders"}) {
		t.Errorf("detail = %+v, %v", d, err)
	}
	calls := w.fake.Calls()
	if len(calls) != 1 || calls[0].Action != access.Disclose || calls[0].Resources[0] != (access.Resource{Type: "patient", ID: patient, Patient: patient, Tenant: accesstest.Tenant}) {
		t.Errorf("the authorizer was asked %+v", calls)
	}
}

// TestNoBasisNoBytes sends what must not go: nothing arrives, the body is closed and
// never read, and the refusal is in the trail.
func TestNoBasisNoBytes(t *testing.T) {
	t.Parallel()
	ok := func(w *world) (context.Context, string, func(*http.Request)) {
		return egress.Disclose(as(w.t), said()), w.url(), func(*http.Request) {}
	}
	type attempt = func(w *world) (context.Context, string, func(*http.Request))
	says := func(change func(*egress.Disclosure)) attempt {
		return func(w *world) (context.Context, string, func(*http.Request)) {
			d := said()
			change(&d)
			return egress.Disclose(as(w.t), d), w.url(), func(*http.Request) {}
		}
	}
	object := func(change func(*audit.Object)) attempt {
		return says(func(d *egress.Disclosure) { change(&d.Objects[0]) })
	}
	entry := func(change func(*egress.Recipient)) func(*world) {
		return func(w *world) { change(&w.cfg.Recipients[0]) }
	}
	to := func(target string) attempt {
		return func(w *world) (context.Context, string, func(*http.Request)) {
			return egress.Disclose(as(w.t), said()), strings.ReplaceAll(target, "PORT", w.port), func(*http.Request) {}
		}
	}
	edit := func(e func(*http.Request)) attempt {
		return func(w *world) (context.Context, string, func(*http.Request)) {
			return egress.Disclose(as(w.t), said()), w.url(), e
		}
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		with func(*world)
		try  attempt
		code access.Code
		says string
	}{
		{"no scope", nil, func(w *world) (context.Context, string, func(*http.Request)) {
			return egress.Disclose(t.Context(), said()), w.url(), func(*http.Request) {}
		}, access.DenyInvalid, "no principal"},
		{"no purpose", nil, func(w *world) (context.Context, string, func(*http.Request)) {
			return egress.Disclose(accesstest.As(t, t.Context(), "physician", ""), said()), w.url(), func(*http.Request) {}
		}, access.DenyInvalid, "no purpose"},
		{"a scope that has ended", nil, func(w *world) (context.Context, string, func(*http.Request)) {
			ctx := as(t)
			s, _ := access.From(ctx)
			s.End()
			return egress.Disclose(ctx, said()), w.url(), func(*http.Request) {}
		}, access.DenyInvalid, "has ended"},
		{"no disclosure", nil, func(w *world) (context.Context, string, func(*http.Request)) {
			return as(t), w.url(), func(*http.Request) {}
		}, access.DenyInvalid, "says no disclosure"},
		{"nobody", nil, says(func(d *egress.Disclosure) { d.Recipient = "" }), access.DenyNoRule, "not registered"},
		{"somebody unknown", nil, says(func(d *egress.Disclosure) { d.Recipient = "lab-other" }), access.DenyNoRule, "not registered"},
		{"an empty registry", func(w *world) { w.cfg.Recipients = nil }, ok, access.DenyNoRule, "not registered"},
		{"another purpose", entry(func(r *egress.Recipient) { r.Purposes = []access.Purpose{access.Payment} }), ok, access.DenyPurpose, "not registered for the purpose TREAT"},
		{"another tenant's recipient", entry(func(r *egress.Recipient) { r.Tenants = []string{"t-other"} }), ok, access.DenyTenant, "caller's tenant"},
		{"nothing named", nil, says(func(d *egress.Disclosure) { d.Objects = nil }), access.DenyInvalid, "Objects is empty"},
		{"another tenant's record", nil, object(func(o *audit.Object) { o.Tenant = "t-other" }), access.DenyTenant, "another tenant's"},
		{"another type", nil, object(func(o *audit.Object) { o.Type = "note" }), access.DenyNoRule, "Type is not registered"},
		{"no patient", nil, object(func(o *audit.Object) { o.Patient = "" }), access.DenyInvalid, "Patient is empty"},
		{"no fields", nil, object(func(o *audit.Object) { o.Fields = nil }), access.DenyInvalid, "Fields is empty"},
		{"a field beyond the minimum", nil, object(func(o *audit.Object) { o.Fields = []string{"name", "ssn"} }), access.DenyNoRule, "one of its Fields"},
		{"a denied object", nil, object(func(o *audit.Object) { o.Denied = true }), access.DenyInvalid, "not for what is sent"},
		{"another patient", entry(func(r *egress.Recipient) { r.Patients = []string{"p-2"} }), ok, access.DenyNoRule, "for its Patient"},
		{"a second object that is not", nil, says(func(d *egress.Disclosure) {
			d.Objects = append(d.Objects, audit.Object{Type: "note", Patient: patient})
		}), access.DenyNoRule, "Objects[1]"},
		{"the policy", func(w *world) { w.cfg.Authorizer = accesstest.Deny() }, ok, access.DenyNoRule, "policy does not allow"},
		{"an authorizer that cannot decide", func(w *world) {
			a := accesstest.Allow()
			a.Fail(errors.New("no policy"))
			w.cfg.Authorizer = a
		}, ok, access.DenyInvalid, "no policy"},
		{"before the entry", entry(func(r *egress.Recipient) { r.From = now.Add(time.Second) }), ok, access.DenyNoRule, "entry is not in force yet"},
		{"after the entry", entry(func(r *egress.Recipient) { r.Until = now.Add(-time.Second) }), ok, access.DenyNoRule, "entry has expired"},
		{"after the agreement", entry(func(r *egress.Recipient) { r.Agreement.Until = now.Add(-time.Second) }), ok, access.DenyNoRule, "agreement has expired"},
		{"before the agreement", entry(func(r *egress.Recipient) { r.Agreement.Signed = now.Add(time.Second) }), ok, access.DenyNoRule, "agreement is not in force"},
		{"another host", nil, to("https://evil.example:PORT/"), access.DenyNoRule, "not one of the recipient's"},
		{"a subdomain that is not declared", nil, to("https://api.lab.example:PORT/"), access.DenyNoRule, "not one of the recipient's"},
		{"the name with a dot", nil, to("https://lab.example.:PORT/"), access.DenyInvalid, "not a DNS name"},
		{"another port", nil, to("https://lab.example/"), access.DenyNoRule, "not one of the recipient's"},
		{"an odd port", nil, to("https://lab.example:0PORT/"), access.DenyInvalid, "not a DNS name"},
		{"an address", nil, to("https://127.0.0.1:PORT/"), access.DenyInvalid, "not a DNS name"},
		{"an IPv6 address", nil, to("https://[::1]:PORT/"), access.DenyInvalid, "not a DNS name"},
		{"a decimal address", nil, to("https://2130706433:PORT/"), access.DenyInvalid, "not a DNS name"},
		{"a short address", nil, to("https://127.1:PORT/"), access.DenyInvalid, "not a DNS name"},
		{"a user", nil, to("https://evil.example@lab.example:PORT/"), access.DenyInvalid, "user name"},
		{"a user that looks like the host", nil, to("https://lab.example:PORT@evil.example/"), access.DenyInvalid, "user name"},
		{"another scheme", nil, to("ftp://lab.example:PORT/"), access.DenyInvalid, "scheme"},
		{"no TLS", func(w *world) { w.cfg.Development = false }, to("http://lab.example:PORT/"), access.DenyInvalid, "scheme"},
		{"another Host header", nil, edit(func(r *http.Request) { r.Host = "evil.example" }), access.DenyInvalid, "Host header"},
		{"a tunnel", nil, edit(func(r *http.Request) { r.Method = "CONNECT" }), access.DenyInvalid, "method"},
		{"an upgrade", nil, edit(func(r *http.Request) { r.Header.Set("Upgrade", "websocket") }), access.DenyInvalid, "upgraded"},
		{"an opaque URL", nil, edit(func(r *http.Request) { r.URL.Opaque = "//evil.example/" }), access.DenyInvalid, "no host"},
		{"a private address", func(w *world) { w.names.set("lab.example", "10.1.2.3") }, ok, access.DenyAddress, "neither public"},
		{"a private address among others", func(w *world) { w.names.set("lab.example", "127.0.0.1", "192.168.0.1") }, ok, access.DenyAddress, "neither public"},
		{"the metadata service", func(w *world) { w.names.set("lab.example", "169.254.169.254") }, ok, access.DenyAddress, "neither public"},
		{"a private address inside IPv6", func(w *world) { w.names.set("lab.example", "::ffff:100.64.0.1") }, ok, access.DenyAddress, "neither public"},
		{"a private address behind a translator", func(w *world) { w.names.set("lab.example", "64:ff9b::a00:1") }, ok, access.DenyAddress, "neither public"},
		{"this machine, in production", func(w *world) { w.cfg.Development = false }, ok, access.DenyAddress, "neither public"},
		{"outside the recipient's networks", entry(func(r *egress.Recipient) {
			r.Networks = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}
		}), func(w *world) (context.Context, string, func(*http.Request)) {
			w.names.set("lab.example", "8.8.8.8")
			return ok(w)
		}, access.DenyAddress, "neither public"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var change []func(*world)
			if tt.with != nil {
				change = append(change, tt.with)
			}
			w := setup(t, change...)
			ctx, target, e := tt.try(w)
			_, b, err := w.post(ctx, target, e)
			var refused *egress.RefusedError
			if !errors.Is(err, access.ErrDenied) || !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("error = %v, want a refusal that says %q", err, tt.says)
			}
			if refused.Code != tt.code || access.CheckDecisionID(refused.Decision) != nil {
				t.Errorf("code %s, decision %s, want %s and an ID", refused.Code, refused.Decision, tt.code)
			}
			if b.read != 0 || b.closed != 1 {
				t.Errorf("the body was read %d and closed %d times, want 0 and 1", b.read, b.closed)
			}
			if w.got.Load() != 0 || len(w.events(audit.Disclosed)) != 0 {
				t.Errorf("%d requests arrived, %d disclosures recorded", w.got.Load(), len(w.events(audit.Disclosed)))
			}
			denied := w.events(audit.Denied)
			if len(denied) != 1 || denied[0].Code != tt.code || denied[0].Action != access.Disclose || denied[0].Decision != refused.Decision {
				t.Errorf("recorded %+v, want one denial", denied)
			}
		})
	}
}

func TestWhatCannotBeRecordedIsNotSent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.trail.Fail(errors.New("disk full"))
	_, b, err := w.post(egress.Disclose(as(t), said()), w.url())
	if !errors.Is(err, audit.ErrUnavailable) || b.read != 0 || b.closed != 1 || w.got.Load() != 0 {
		t.Errorf("%v, body read %d and closed %d times, %d requests arrived", err, b.read, b.closed, w.got.Load())
	}
	d := said()
	d.Recipient = "unknown"
	_, _, err = w.post(egress.Disclose(as(t), d), w.url())
	if !errors.Is(err, audit.ErrUnavailable) || !errors.Is(err, access.ErrDenied) {
		t.Errorf("a refusal that is not recorded: %v", err)
	}
}

// What did not connect was not disclosed: an accounting would list what never was.
func TestNoConnectionNoDisclosure(t *testing.T) {
	t.Parallel()
	w := setup(t)
	down := w.url()
	other, _ := certificate(t, "lab.example")
	impostor := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("an impostor was sent to") }))
	impostor.TLS = &tls.Config{Certificates: []tls.Certificate{other}}
	impostor.Config.ErrorLog = log.New(io.Discard, "", 0)
	impostor.StartTLS()
	defer impostor.Close()
	_, port, _ := net.SplitHostPort(impostor.Listener.Addr().String())
	r := w.lab()
	r.Hosts = append(r.Hosts, "lab.example:"+port, "nowhere.example")
	if err := w.Load(t.Context(), []egress.Recipient{r}); err != nil {
		t.Fatal(err)
	}
	w.srv.Close()
	for _, target := range []string{down, "https://lab.example:" + port, "https://nowhere.example"} {
		_, b, err := w.post(egress.Disclose(as(t), said()), target)
		if err == nil || errors.Is(err, access.ErrDenied) || b.read != 0 || b.closed != 1 {
			t.Errorf("%s: %v, body read %d and closed %d times", target, err, b.read, b.closed)
		}
	}
	if n := len(w.trail.Events()) - len(w.events(audit.RecipientsLoaded)); n != 0 {
		t.Errorf("%d events, want none", n)
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, to string
		ok       bool
		says     string
	}{
		{"to another path", "https://lab.example:PORT/done", true, ""},
		{"to a declared subdomain", "https://api.lab.example:PORT/done", true, ""},
		{"to a stranger", "https://evil.example:PORT/done", false, "not one of the recipient's"},
		{"to another recipient", "https://cdn.example:PORT/done", false, "not one of the recipient's"},
		{"to no TLS", "http://lab.example:PORT/done", false, "neither public"},
		{"to an address", "https://127.0.0.1:PORT/done", false, "not a DNS name"},
		{"to a user", "https://x@lab.example:PORT/done", false, "user name"},
		{"to text", "https://lab.example:PORT/%zz" + secret, false, "failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, func(w *world) {
				if tt.name == "to no TLS" {
					w.cfg.Development = false
					w.cfg.Recipients[0].Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
				}
				w.cfg.Recipients[0].Hosts = append(w.cfg.Recipients[0].Hosts, "*.lab.example:"+w.port)
				cdn := w.lab()
				cdn.ID, cdn.Hosts = "cdn", []string{"cdn.example:" + w.port}
				w.cfg.Recipients = append(w.cfg.Recipients, cdn)
			})
			if tt.name == "to no TLS" {
				tt.says = "scheme is not https"
			}
			h := http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/done" {
					io.Copy(rw, req.Body)
					return
				}
				rw.Header().Set("Location", strings.ReplaceAll(tt.to, "PORT", w.port))
				rw.WriteHeader(http.StatusTemporaryRedirect)
			})
			w.serve.Store(&h)
			got, _, err := w.post(egress.Disclose(as(t), said()), w.url(), func(r *http.Request) {
				r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(secret)), nil }
			})
			if tt.ok {
				if err != nil || got != secret || len(w.events(audit.Disclosed)) != 2 {
					t.Errorf("%q, %v, %d disclosures, want 2", got, err, len(w.events(audit.Disclosed)))
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || w.got.Load() != 1 || len(w.events(audit.Disclosed)) != 1 {
				t.Errorf("%v, %d requests arrived, %d disclosures; want a refusal of the second", err, w.got.Load(), len(w.events(audit.Disclosed)))
			}
			if strings.Contains(err.Error(), "Roe") || strings.Contains(err.Error(), "orders") {
				t.Errorf("the error quotes: %v", err)
			}
		})
	}
}

// The name is looked up once a request, and what was looked up is dialled.
func TestRebinding(t *testing.T) {
	t.Parallel()
	w := setup(t)
	flip := &flipping{w.names, 0}
	w.cfg.Resolver = flip
	tr, err := egress.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Transport = tr
	if _, _, err := w.post(egress.Disclose(as(t), said()), w.url()); err != nil {
		t.Fatal(err)
	}
	if flip.asked != 1 {
		t.Errorf("the name was looked up %d times, want 1", flip.asked)
	}
	if _, _, err := w.post(egress.Disclose(as(t), said()), w.url()); !errors.Is(err, access.ErrDenied) {
		t.Errorf("after the name has moved inside: %v", err)
	}
}

// flipping answers well first, and with a private address from then on.
type flipping struct {
	names *names
	asked int
}

func (f *flipping) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if f.asked++; f.asked > 1 {
		return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
	}
	return f.names.LookupNetIP(ctx, network, host)
}

func TestNothingOfAnExchangeIsLoggedOrQuoted(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for name, answer := range map[string]string{
		"a status line that is none":    "HTTP/1.1 Jane Roe\r\n\r\n",
		"no HTTP at all":                "Jane Roe was here\r\n\r\n",
		"a header that is none":         "HTTP/1.1 200 OK\r\nJane Roe\r\n\r\n",
		"a length that is none":         "HTTP/1.1 200 OK\r\nContent-Length: Roe\r\n\r\n",
		"a trailer that is none":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nJane Roe\r\n\r\n",
		"a redirect that is none":       "HTTP/1.1 302 Found\r\nLocation: https://lab.example:%zz/Jane-Roe\r\nContent-Length: 0\r\n\r\n",
		"a chunk that is none":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nRoe\r\n",
		"an answer that is cut":         "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nJane Roe",
		"more than was asked for":       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nJane Roe",
		"a connection that just closes": "",
	} {
		h := http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			c, _, err := rw.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(c, answer)
			c.Close()
		})
		w.serve.Store(&h)
		req, err := http.NewRequestWithContext(egress.Disclose(as(t), said()), "POST", w.url()+"?q=Jane+Roe", strings.NewReader(secret))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.Do(req)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if name != "more than was asked for" && err == nil {
			t.Errorf("%s: no error", name)
		}
		if err != nil && strings.Contains(err.Error(), "Roe") {
			t.Errorf("%s: the error quotes it: %v", name, err)
		}
	}
	for _, e := range w.logs.All() {
		if strings.Contains(fmt.Sprint(e.Message, e.ContextMap()), "Roe") {
			t.Errorf("the log has %s %v", e.Message, e.ContextMap())
		}
	}
}

// A connection carries one request: nothing of it is sent twice, and nothing that
// a recipient says unasked is read.
func TestOneConnectionARequest(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for range 3 {
		if _, _, err := w.post(egress.Disclose(as(t), said()), w.url()); err != nil {
			t.Fatal(err)
		}
	}
	if w.conns.Load() != 3 || w.got.Load() != 3 || len(w.events(audit.Disclosed)) != 3 {
		t.Errorf("%d connections, %d requests, %d disclosures, want 3 of each", w.conns.Load(), w.got.Load(), len(w.events(audit.Disclosed)))
	}
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	w.serve.Store(&h)
	req, _ := http.NewRequestWithContext(egress.Disclose(as(t), said()), "GET", w.url(), nil) // one that net/http would send again
	if _, err := w.RoundTrip(req); err == nil || w.got.Load() != 4 {
		t.Errorf("%v, %d requests arrived, want an error and 4", err, w.got.Load())
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	w := setup(t)
	send := func() error { _, _, err := w.post(egress.Disclose(as(t), said()), w.url()); return err }
	if err := send(); err != nil {
		t.Fatal(err)
	}
	bad := w.lab()
	bad.Agreement = nil
	if err := w.Load(t.Context(), []egress.Recipient{w.lab(), bad}); err == nil || send() != nil {
		t.Errorf("a bad list: %v, and then %v; want an error, and the old list in force", err, send())
	}
	if err := w.Load(t.Context(), nil); err != nil || !errors.Is(send(), access.ErrDenied) {
		t.Errorf("an empty list: %v; it is not in force", err)
	}
	r := w.lab()
	if err := w.Load(t.Context(), []egress.Recipient{r}); err != nil {
		t.Fatal(err)
	}
	r.Types["patient"].Fields["ssn"] = minimize.SSN // the caller's own
	r.Hosts[0], r.Agreement.SHA256 = "evil.example", ""
	if err := send(); err != nil {
		t.Errorf("what was loaded changes with the caller's copy: %v", err)
	}
	d := said()
	d.Objects[0].Fields = []string{"ssn"}
	if _, _, err := w.post(egress.Disclose(as(t), d), w.url()); !errors.Is(err, access.ErrDenied) {
		t.Errorf("what was loaded changes with the caller's copy: %v", err)
	}
}

// An entry that goes while a connection is made gets nothing.
func TestReloadWhileConnecting(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(w *world, ctx context.Context){
		"the entry goes":  func(w *world, _ context.Context) { w.Load(t.Context(), nil) },
		"the scope ends":  func(_ *world, ctx context.Context) { s, _ := access.From(ctx); s.End() },
		"the time is up":  func(w *world, _ context.Context) { w.now = w.now.AddDate(1, 0, 0) },
		"nothing happens": func(*world, context.Context) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			ctx := egress.Disclose(as(t), said())
			w.cfg.Resolver = hook{w.names, func() { meanwhile(w, ctx) }}
			tr, err := egress.New(w.cfg)
			if err != nil {
				t.Fatal(err)
			}
			w.Transport = tr
			_, b, err := w.post(ctx, w.url())
			if name == "nothing happens" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, access.ErrDenied) || b.read != 0 || w.got.Load() != 0 || len(w.events(audit.Disclosed)) != 0 {
				t.Errorf("%v, body read %d times, %d requests arrived", err, b.read, w.got.Load())
			}
		})
	}
}

type hook struct {
	*names
	f func()
}

func (h hook) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	h.f()
	return h.names.LookupNetIP(ctx, network, host)
}

func TestConcurrentReload(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			list := []egress.Recipient{w.lab()}
			if i%2 == 0 {
				list = nil
			}
			if err := w.Load(t.Context(), list); err != nil {
				t.Error(err)
			}
			w.Expiring(time.Hour)
		}
	})
	var sent atomic.Int64
	var senders sync.WaitGroup
	ctx := as(t)
	for range 4 {
		senders.Go(func() {
			for range 10 {
				_, b, err := w.post(egress.Disclose(ctx, said()), w.url())
				switch {
				case err == nil:
					sent.Add(1)
				case !errors.Is(err, access.ErrDenied):
					t.Error(err)
				case b.read != 0:
					t.Error("a refused body was read")
				}
			}
		})
	}
	senders.Wait()
	close(stop)
	wg.Wait()
	if n := int64(len(w.events(audit.Disclosed))); n != sent.Load() || n != w.got.Load() {
		t.Errorf("%d sent, %d recorded, %d arrived", sent.Load(), n, w.got.Load())
	}
}

func TestSubcontractor(t *testing.T) {
	t.Parallel()
	w := setup(t, func(w *world) {
		w.cfg.Recipients[0].Subcontractors = []egress.Subcontractor{{
			ID: "cdn", Name: "Files Ltd", Hosts: []string{"cdn.example:" + w.port}, From: w.now.AddDate(0, -1, 0), Until: w.now.AddDate(0, 1, 0),
		}}
	})
	if _, _, err := w.post(egress.Disclose(as(t), said()), "https://cdn.example:"+w.port); err != nil {
		t.Fatal(err)
	}
	ev := w.events(audit.Disclosed)[0]
	d, err := w.trail.Detail(as(t), ev.ID)
	if err != nil || ev.Disclosure.Recipient != "cdn" || d.Recipient != "Files Ltd, for Acme Laboratories" || d.Address != "" {
		t.Errorf("recorded as given to %s: %+v, %v", ev.Disclosure.Recipient, d, err)
	}
	w.now = w.now.AddDate(0, 1, 1)
	if _, _, err := w.post(egress.Disclose(as(t), said()), "https://cdn.example:"+w.port); !errors.Is(err, access.ErrDenied) {
		t.Errorf("after the subcontractor's last day: %v", err)
	}
	if _, _, err := w.post(egress.Disclose(as(t), said()), w.url()); err != nil {
		t.Errorf("the business associate itself: %v", err)
	}
}

func TestExpiring(t *testing.T) {
	t.Parallel()
	w := setup(t, func(w *world) {
		r := &w.cfg.Recipients[0]
		r.Until = w.now.AddDate(0, 0, 60)
		r.Agreement.Until = w.now.AddDate(0, 0, 10)
		r.Subcontractors = []egress.Subcontractor{{ID: "cdn", Name: "Files Ltd", Hosts: []string{"cdn.example"}, From: w.now.AddDate(-1, 0, 0), Until: w.now.AddDate(0, 0, -1)}}
	})
	got := fmt.Sprint(w.Expiring(30 * 24 * time.Hour))
	if want := "[{lab-acme subcontractor cdn 2026-11-21 12:00:00 +0000 UTC} {lab-acme agreement 2026-12-02 12:00:00 +0000 UTC}]"; got != want {
		t.Errorf("Expiring = %s, want %s", got, want)
	}
	if n := len(w.Expiring(90 * 24 * time.Hour)); n != 3 {
		t.Errorf("%d expire within 90 days, want 3", n)
	}
	warned := func() int { return w.logs.FilterMessageSnippet("expires soon").Len() }
	for range 2 { // once a day
		if _, _, err := w.post(egress.Disclose(as(t), said()), w.url()); err != nil || warned() != 2 {
			t.Errorf("%v, %d warnings, want 2", err, warned())
		}
	}
	w.now = w.now.AddDate(0, 0, 1)
	if _, _, err := w.post(egress.Disclose(as(t), said()), w.url()); err != nil || warned() != 4 {
		t.Errorf("the next day: %v, %d warnings, want 4", err, warned())
	}
}

func TestWithoutTLSToThisMachineInDevelopment(t *testing.T) {
	t.Parallel()
	w := setup(t)
	plain := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { io.Copy(rw, req.Body) }))
	defer plain.Close()
	_, port, _ := net.SplitHostPort(plain.Listener.Addr().String())
	r := w.lab()
	r.Hosts = []string{"lab.example:" + port}
	r.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	if err := w.Load(t.Context(), []egress.Recipient{r}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := w.post(egress.Disclose(as(t), said()), "http://lab.example:"+port); err != nil || got != secret {
		t.Errorf("%q, %v", got, err)
	}
	w.names.set("lab.example", "10.0.0.1")
	if _, _, err := w.post(egress.Disclose(as(t), said()), "http://lab.example:"+port); !errors.Is(err, access.ErrDenied) {
		t.Errorf("without TLS to another machine: %v", err)
	}
}

func TestNewNamesTheBadField(t *testing.T) {
	t.Parallel()
	a, trail := accesstest.Allow(), audittest.New(t)
	for field, cfg := range map[string]egress.Config{
		"Authorizer":             {Audit: trail},
		"Audit":                  {Authorizer: a},
		"TLS.InsecureSkipVerify": {Authorizer: a, Audit: trail, TLS: &tls.Config{InsecureSkipVerify: true}},
		"TLS.ServerName":         {Authorizer: a, Audit: trail, TLS: &tls.Config{ServerName: "lab.example"}},
		"TLS.MaxVersion":         {Authorizer: a, Audit: trail, TLS: &tls.Config{MaxVersion: tls.VersionTLS11}},
		"ConnectTimeout":         {Authorizer: a, Audit: trail, ConnectTimeout: -1},
		"WarnBefore":             {Authorizer: a, Audit: trail, WarnBefore: -1},
		"Recipients[0]: ID":      {Authorizer: a, Audit: trail, Recipients: make([]egress.Recipient, 1)},
	} {
		if _, err := egress.New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
