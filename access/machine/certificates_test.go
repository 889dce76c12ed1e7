// SPDX-License-Identifier: Apache-2.0

package machine_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/machine"
	"github.com/part164/part164/audit"
)

const importerURI = "spiffe://clinic.example/importer"

// An authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serials = big.NewInt(1000)

func newAuthority(t *testing.T, by *authority, now time.Time) *authority {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	cert, key := sign(t, tmpl, by)
	return &authority{cert, key}
}

func sign(t *testing.T, tmpl *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := tmpl, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// client is what an importer's certificate says.
func client(t *testing.T, now time.Time, uris ...string) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: new(big.Int).Set(serials), Subject: pkix.Name{CommonName: "importer"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = append(c.URIs, u)
	}
	return c
}

type certBench struct {
	*bench
	*machine.Certificates
	root, between *authority
}

func setupCerts(t *testing.T) *certBench {
	t.Helper()
	b := &certBench{bench: setup(t)}
	b.root = newAuthority(t, nil, b.now)
	b.between = newAuthority(t, b.root, b.now)
	roots := x509.NewCertPool()
	roots.AddCert(b.root.cert)
	certs, err := machine.NewCertificates(machine.CertConfig{
		Roots: roots, Store: b.store, Audit: b.trail, Accounts: b.kind, Now: func() time.Time { return b.now }, Services: b.services(),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Certificates = certs
	return b
}

func (b *certBench) services() map[string]machine.Service {
	return map[string]machine.Service{importerURI: {
		Tenant: accesstest.Tenant, ID: "svc-importer", Roles: []string{"importer"}, Purposes: []access.Purpose{access.Treatment},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")},
	}}
}

func TestACertificateIsAService(t *testing.T) {
	t.Parallel()
	b := setupCerts(t)
	cert, _ := sign(t, client(t, b.now, importerURI), b.between)
	p, err := b.Certificates.Authenticate(t.Context(), []*x509.Certificate{cert, b.between.cert}, here)
	want := access.Principal{ID: "svc-importer", Tenant: accesstest.Tenant, Kind: access.Service, Roles: []string{"importer"},
		Purposes: []access.Purpose{access.Treatment}, Session: p.Session, Addr: here}
	if err != nil || !reflect.DeepEqual(p, want) || p.Validate() != nil || !strings.HasPrefix(p.Session, "c-") && p.Session != "" {
		t.Errorf("Authenticate = %+v, %v, want %+v", p, err, want)
	}
	if n := len(b.trail.Events()); n != 0 {
		t.Errorf("%d events", n)
	}
}

func TestCertificatesThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		edit   func(b *certBench, c *x509.Certificate)
		signer func(b *certBench) *authority
		then   func(b *certBench, c *x509.Certificate) error
		addr   string
		reason audit.Reason
	}{
		{name: "another CA", signer: func(b *certBench) *authority { return newAuthority(t, nil, b.now) }, reason: audit.ReasonForged},
		{name: "itself", signer: func(*certBench) *authority { return nil }, reason: audit.ReasonForged},
		{name: "a server's", edit: func(_ *certBench, c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}, reason: audit.ReasonForged},
		{name: "for anything", edit: func(_ *certBench, c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, reason: audit.ReasonForged},
		{name: "for nothing said", edit: func(_ *certBench, c *x509.Certificate) { c.ExtKeyUsage = nil }, reason: audit.ReasonForged},
		{name: "a CA's own", edit: func(_ *certBench, c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, reason: audit.ReasonForged},
		{name: "expired", edit: func(b *certBench, c *x509.Certificate) { c.NotAfter = b.now.Add(-time.Minute) }, reason: audit.ReasonExpired},
		{name: "not yet", edit: func(b *certBench, c *x509.Certificate) { c.NotBefore = b.now.Add(time.Minute) }, reason: audit.ReasonExpired},
		{name: "no URI", edit: func(_ *certBench, c *x509.Certificate) { c.URIs = nil }, reason: audit.ReasonForged},
		{name: "two URIs", edit: func(_ *certBench, c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }, reason: audit.ReasonForged},
		{name: "an unknown URI", edit: func(b *certBench, c *x509.Certificate) {
			c.URIs = client(t, b.now, importerURI+"2").URIs
		}, reason: audit.ReasonPolicy},
		{name: "a name that is no URI", edit: func(_ *certBench, c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"importer"} }, reason: audit.ReasonForged},
		{name: "revoked by fingerprint", then: func(b *certBench, c *x509.Certificate) error {
			return b.Certificates.Revoke(t.Context(), machine.Fingerprint(c))
		}, reason: audit.ReasonRevoked},
		{name: "revoked by serial", then: func(b *certBench, c *x509.Certificate) error {
			return b.Certificates.Revoke(t.Context(), machine.Serial(b.between.cert, c.SerialNumber))
		}, reason: audit.ReasonRevoked},
		{name: "of a CA that is revoked", then: func(b *certBench, _ *x509.Certificate) error {
			return b.Certificates.Revoke(t.Context(), machine.Serial(b.root.cert, b.between.cert.SerialNumber))
		}, reason: audit.ReasonRevoked},
		{name: "from elsewhere", addr: "10.9.9.9", reason: audit.ReasonPolicy},
		{name: "a person's", then: func(b *certBench, _ *x509.Certificate) error {
			b.accounts["svc-importer"] = access.Human
			return nil
		}, reason: audit.ReasonPolicy},
		{name: "a service that is gone", then: func(b *certBench, _ *x509.Certificate) error { return b.Load(nil) }, reason: audit.ReasonPolicy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setupCerts(t)
			tmpl := client(t, b.now, importerURI)
			if tt.edit != nil {
				tt.edit(b, tmpl)
			}
			by := b.between
			if tt.signer != nil {
				by = tt.signer(b)
			}
			cert, _ := sign(t, tmpl, by)
			if tt.then != nil {
				if err := tt.then(b, cert); err != nil {
					t.Fatal(err)
				}
			}
			b.trail.Reset()
			addr := here
			if tt.addr != "" {
				addr = netip.MustParseAddr(tt.addr)
			}
			p, err := b.Certificates.Authenticate(t.Context(), []*x509.Certificate{cert, b.between.cert}, addr)
			if err != machine.ErrRefused || p.ID != "" {
				t.Fatalf("Authenticate = %+v, %v, want ErrRefused", p, err)
			}
			if events := b.trail.Events(); len(events) != 1 || events[0].Type != audit.SignInFailed || events[0].Reason != tt.reason {
				t.Errorf("recorded %+v, want one refusal for %s", events, tt.reason)
			}
		})
	}
}

// A serial is one issuer's.
func TestASerialOfAnotherIssuer(t *testing.T) {
	t.Parallel()
	b := setupCerts(t)
	cert, _ := sign(t, client(t, b.now, importerURI), b.between)
	if err := b.Certificates.Revoke(t.Context(), machine.Serial(b.root.cert, cert.SerialNumber)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Certificates.Authenticate(t.Context(), []*x509.Certificate{cert, b.between.cert}, here); err != nil {
		t.Error(err)
	}
	for _, id := range []machine.CertificateID{{}, machine.Serial(nil, cert.SerialNumber), machine.Serial(b.root.cert, nil)} {
		if err := b.Certificates.Revoke(t.Context(), id); err == nil {
			t.Error("an empty ID was revoked")
		}
	}
}

func TestCertificatesWithoutTheirStore(t *testing.T) {
	t.Parallel()
	b := setupCerts(t)
	cert, _ := sign(t, client(t, b.now, importerURI), b.between)
	down := errors.New("down")
	b.store.Fail(down)
	if _, err := b.Certificates.Authenticate(t.Context(), []*x509.Certificate{cert, b.between.cert}, here); !errors.Is(err, down) || errors.Is(err, machine.ErrRefused) {
		t.Errorf("Authenticate = %v", err)
	}
}

func TestLoadServices(t *testing.T) {
	t.Parallel()
	b := setupCerts(t)
	for says, change := range map[string]func(*machine.Service){
		"Roles":    func(s *machine.Service) { s.Roles = nil },
		"Purposes": func(s *machine.Service) { s.Purposes = nil },
		"Tenant":   func(s *machine.Service) { s.Tenant = "" },
		"ID":       func(s *machine.Service) { s.ID = "nora@clinic.example" },
		"Networks": func(s *machine.Service) { s.Networks = make([]netip.Prefix, 1) },
	} {
		list := b.services()
		s := list[importerURI]
		change(&s)
		if err := b.Load(map[string]machine.Service{importerURI: s}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if err := b.Load(map[string]machine.Service{"": b.services()[importerURI]}); err == nil {
		t.Error("an empty URI")
	}
	cert, _ := sign(t, client(t, b.now, importerURI), b.between)
	if _, err := b.Certificates.Authenticate(t.Context(), []*x509.Certificate{cert, b.between.cert}, here); err != nil {
		t.Errorf("after lists that were refused: %v", err)
	}
	good := machine.CertConfig{Roots: x509.NewCertPool(), Store: b.store, Audit: b.trail, Accounts: b.kind}
	for field, change := range map[string]func(*machine.CertConfig){
		"Roots":    func(c *machine.CertConfig) { c.Roots = nil },
		"Store":    func(c *machine.CertConfig) { c.Store = nil },
		"Audit":    func(c *machine.CertConfig) { c.Audit = nil },
		"Accounts": func(c *machine.CertConfig) { c.Accounts = nil },
	} {
		cfg := good
		change(&cfg)
		if _, err := machine.NewCertificates(cfg); err == nil || !strings.Contains(err.Error(), "CertConfig."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// TestOverTLS goes through a server that asks for a certificate and does not know
// the CA.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	b := setupCerts(t)
	b.now = time.Now() // the server's clock is the machine's
	list := b.services()
	s := list[importerURI]
	s.Networks = nil
	if err := b.Load(map[string]machine.Service{importerURI: s}); err != nil {
		t.Fatal(err)
	}
	root := newAuthority(t, nil, b.now)
	var who string
	srv := httptest.NewUnstartedServer(b.Certificates.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		p, _ := access.PrincipalFrom(req.Context())
		who = p.ID
	})))
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	srv.StartTLS()
	defer srv.Close()
	good, goodKey := sign(t, client(t, b.now, importerURI), b.between)
	forged, forgedKey := sign(t, client(t, b.now, importerURI), root)
	for _, tt := range []struct {
		name   string
		cert   *tls.Certificate
		status int
		who    string
	}{
		{"good", &tls.Certificate{Certificate: [][]byte{good.Raw, b.between.cert.Raw}, PrivateKey: goodKey}, 200, "svc-importer"},
		{"forged", &tls.Certificate{Certificate: [][]byte{forged.Raw, root.cert.Raw}, PrivateKey: forgedKey}, 401, ""},
		{"none", nil, 200, ""},
	} {
		who = ""
		cfg := srv.Client().Transport.(*http.Transport).Clone()
		cfg.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if tt.cert == nil {
				return &tls.Certificate{}, nil
			}
			return tt.cert, nil
		}
		resp, err := (&http.Client{Transport: cfg}).Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.status || who != tt.who {
			t.Errorf("%s: %d for %q, want %d for %q", tt.name, resp.StatusCode, who, tt.status, tt.who)
		}
	}
	// A certificate beside somebody who is signed in.
	req := httptest.NewRequestWithContext(accesstest.As(t, t.Context(), "nurse", ""), "GET", "/", nil)
	req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{good, b.between.cert}}
	w := httptest.NewRecorder()
	if b.Certificates.Middleware(http.NotFoundHandler()).ServeHTTP(w, req); w.Code != 401 {
		t.Errorf("beside somebody: %d", w.Code)
	}
}
