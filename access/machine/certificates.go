// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A CertificateID names a certificate for its revocation: see [Fingerprint] and
// [Serial].
type CertificateID [sha256.Size]byte

// String returns the ID in hexadecimal, as stores keep it.
func (id CertificateID) String() string { return hex.EncodeToString(id[:]) }

// Fingerprint names a certificate by the SHA-256 of its bytes.
func Fingerprint(c *x509.Certificate) CertificateID { return sha256.Sum256(c.Raw) }

// Serial names the certificate, seen or not, to which an issuer has given a
// serial number. It is empty, and names none, without both.
func Serial(issuer *x509.Certificate, serial *big.Int) CertificateID {
	if issuer == nil || serial == nil {
		return CertificateID{}
	}
	h := sha256.New()
	h.Write([]byte("serial\x00"))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(issuer.RawSubjectPublicKeyInfo))))
	h.Write(issuer.RawSubjectPublicKeyInfo)
	h.Write(serial.Bytes())
	return CertificateID(h.Sum(nil))
}

// A Service is whom the URI of a client certificate names.
type Service struct {
	Tenant   string           // required
	ID       string           // of the principal; required
	Roles    []string         // required
	Purposes []access.Purpose // required
	Networks []netip.Prefix   // empty means that it may come from anywhere
}

// CertConfig configures [NewCertificates]. Roots, Store, Audit and Accounts are
// required.
type CertConfig struct {
	Roots    *x509.CertPool     // the CA that issues client certificates, and no other
	Services map[string]Service // by the URI in the certificate, such as spiffe://clinic.example/importer; see Certificates.Load

	Store    Store          // of revocations
	Audit    audit.Recorder // records refusals and revocations
	Accounts func(ctx context.Context, tenant, id string) (access.Kind, error)

	Addr func(*http.Request) netip.Addr
	Now  func() time.Time
	Log  *zap.Logger
}

// Certificates verifies client certificates. It is safe for concurrent use.
type Certificates struct {
	cfg      CertConfig
	services atomic.Pointer[map[string]Service]
}

// NewCertificates returns a Certificates, or an error naming the first bad field of
// cfg, whose fields that Config has too mean the same.
func NewCertificates(cfg CertConfig) (*Certificates, error) {
	switch {
	case cfg.Roots == nil:
		return nil, errors.New("machine: CertConfig.Roots is nil: the system's roots would let in whoever buys a certificate")
	case cfg.Store == nil:
		return nil, errors.New("machine: CertConfig.Store is nil: take storage/machinestore, or NewMemory for a trial")
	case cfg.Audit == nil:
		return nil, errors.New("machine: CertConfig.Audit is nil: give the journal of audit.Open")
	case cfg.Accounts == nil:
		return nil, errors.New("machine: CertConfig.Accounts is nil: without it a certificate might be a person's")
	}
	if cfg.Addr == nil {
		cfg.Addr = connAddr
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	c := &Certificates{cfg: cfg}
	if err := c.Load(cfg.Services); err != nil {
		return nil, err
	}
	return c, nil
}

// Load puts services in place of those known: a map with a bad entry leaves
// everything as it was.
func (c *Certificates) Load(services map[string]Service) error {
	own := make(map[string]Service, len(services))
	for uri, s := range services {
		n := NewKey{Tenant: s.Tenant, Service: s.ID, Roles: s.Roles, Purposes: s.Purposes, Networks: s.Networks}
		if uri == "" {
			return errors.New("machine: load services: a URI is empty")
		}
		if err := n.validate("Service"); err != nil {
			return fmt.Errorf("machine: load services: the entry of %q: %w", uri, err)
		}
		s.Roles, s.Purposes, s.Networks = slices.Clone(s.Roles), slices.Clone(s.Purposes), slices.Clone(s.Networks)
		own[uri] = s
	}
	c.services.Store(&own)
	return nil
}

// Authenticate returns the service of a client certificate, presented with its
// chain as [tls.ConnectionState].PeerCertificates has it. Errors are those of
// [Keys.Authenticate].
func (c *Certificates) Authenticate(ctx context.Context, presented []*x509.Certificate, addr netip.Addr) (access.Principal, error) {
	nobody := access.Principal{Addr: addr}
	if len(presented) == 0 {
		return access.Principal{}, refuse(ctx, c.cfg.Audit, nobody, audit.ReasonForged, "")
	}
	chains, err := c.verify(presented)
	if err != nil {
		c.cfg.Log.Info("machine: a client certificate does not verify", zap.Error(err))
		reason := audit.ReasonForged
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			reason = audit.ReasonExpired
		}
		return access.Principal{}, refuse(ctx, c.cfg.Audit, nobody, reason, "")
	}
	leaf := presented[0]
	s, ok := (*c.services.Load())[leaf.URIs[0].String()]
	if !ok {
		return access.Principal{}, refuse(ctx, c.cfg.Audit, nobody, audit.ReasonPolicy, access.DenyNoRule)
	}
	fp := Fingerprint(leaf)
	p := access.Principal{
		ID: s.ID, Tenant: s.Tenant, Kind: access.Service, Roles: slices.Clone(s.Roles), Purposes: slices.Clone(s.Purposes),
		Session: "c-" + hex.EncodeToString(fp[:8]), Addr: addr,
	}
	if access.CheckID(p.Session) != nil { // it has the shape of a number that a person is known by
		p.Session = ""
	}
	revoked, err := c.cfg.Store.CertificateRevoked(ctx, names(chains)...)
	if err == nil {
		err = notAPerson(ctx, c.cfg.Accounts, s.Tenant, s.ID)
	}
	switch {
	case errors.Is(err, errPerson):
		return access.Principal{}, refuse(ctx, c.cfg.Audit, p, audit.ReasonPolicy, access.DenyInvalid)
	case err != nil:
		return access.Principal{}, fmt.Errorf("machine: authenticate: %w", err)
	case revoked:
		return access.Principal{}, refuse(ctx, c.cfg.Audit, p, audit.ReasonRevoked, "")
	case !within(s.Networks, addr):
		return access.Principal{}, refuse(ctx, c.cfg.Audit, p, audit.ReasonPolicy, access.DenyAddress)
	}
	return p, nil
}

// verify holds a certificate against the pinned CA, and to being a client's.
func (c *Certificates) verify(presented []*x509.Certificate) ([][]*x509.Certificate, error) {
	leaf := presented[0]
	switch {
	case leaf.IsCA:
		return nil, errors.New("it is a CA's")
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth): // Verify takes none for all
		return nil, errors.New("its extended key usage has no client authentication")
	case len(leaf.URIs) != 1:
		return nil, errors.New("it has not exactly one URI")
	}
	between := x509.NewCertPool()
	for _, more := range presented[1:] {
		between.AddCert(more)
	}
	return leaf.Verify(x509.VerifyOptions{
		Roots: c.cfg.Roots, Intermediates: between, CurrentTime: c.cfg.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// names returns by what the certificates of chains may have been revoked.
func names(chains [][]*x509.Certificate) (ids []CertificateID) {
	for _, chain := range chains {
		for i, cert := range chain {
			ids = append(ids, Fingerprint(cert))
			if i+1 < len(chain) {
				ids = append(ids, Serial(chain[i+1], cert.SerialNumber))
			}
		}
	}
	slices.SortFunc(ids, func(a, b CertificateID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// Revoke revokes certificates, of clients or of intermediate CAs, at once and for
// good.
func (c *Certificates) Revoke(ctx context.Context, ids ...CertificateID) error {
	for _, id := range ids {
		if id == (CertificateID{}) {
			return errors.New("machine: revoke certificate: a CertificateID is empty")
		}
		if err := c.cfg.Store.RevokeCertificate(ctx, id, c.cfg.Now()); err != nil {
			return fmt.Errorf("machine: revoke certificate: %w", err)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := c.cfg.Audit.Record(ctx, audit.Event{Type: audit.FactorChanged, Outcome: audit.Success, Reason: audit.ReasonRevoked,
		Objects: []audit.Object{{Type: "certificate"}}, Count: len(ids)})
	if err != nil {
		return fmt.Errorf("machine: revoke certificate: it is revoked, and not recorded: %w", err)
	}
	return nil
}

// Middleware puts the service of a request's client certificate into its context,
// without a purpose: the route adds that. A request without a certificate goes on
// as it came. One with a bad one, or beside somebody who is signed in already, is
// answered with 401, and one that cannot be looked up with 503. A proxy in front
// that ends TLS ends this too: there is no header to forge.
func (c *Certificates) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.TLS == nil || len(req.TLS.PeerCertificates) == 0 {
			next.ServeHTTP(w, req)
			return
		}
		p, err := access.Principal{}, ErrRefused
		if _, somebody := access.PrincipalFrom(req.Context()); !somebody {
			p, err = c.Authenticate(req.Context(), req.TLS.PeerCertificates, c.cfg.Addr(req))
		}
		if err != nil {
			unauthenticated(w, c.cfg.Log, "", err)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, req.WithContext(access.With(req.Context(), p, "")))
	})
}
