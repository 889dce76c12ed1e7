// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A Disclosure says what a request sends, and to whom. The zero Disclosure sends
// nothing.
type Disclosure struct {
	Recipient string // ID of the registered Recipient; required

	// Objects are the records that are in the request, or that it asks about:
	// each with its Type, its Patient (but for a limited data set), and, where
	// minimum necessary applies, its Fields. Tenant is the principal's.
	// Required.
	Objects []audit.Object

	Description string // what is sent, in brief; empty means Recipient.Description
	Statement   string // the purpose; empty means Recipient.Statement
}

type disclosureKey struct{}

// Disclose returns a context whose requests send d. The last one counts.
func Disclose(ctx context.Context, d Disclosure) context.Context {
	d.Objects = slices.Clone(d.Objects)
	for i := range d.Objects {
		d.Objects[i].Fields = slices.Clone(d.Objects[i].Fields)
	}
	return context.WithValue(ctx, disclosureKey{}, &d)
}

// A passage is a request that nothing of the registry stands against.
type passage struct {
	entry     *entry
	scope     *access.Scope
	said      *Disclosure
	recipient string // who receives: the entry's ID, or a subcontractor's
	name      string
	address   string // name and port of the host
}

// refused is why a request may not go out, and the code that says it.
type refused struct {
	code  access.Code
	cause error
}

func (r *refused) Error() string { return r.cause.Error() }

func no(code access.Code, format string, args ...any) *refused {
	return &refused{code, fmt.Errorf(format, args...)}
}

// passage holds a request against a registry at a time. It has no effect.
func (t *Transport) passage(reg *registry, req *http.Request, now time.Time) (*passage, *refused) {
	scope, err := access.From(req.Context())
	if err != nil {
		return nil, no(access.DenyInvalid, "%w", err)
	}
	said, _ := req.Context().Value(disclosureKey{}).(*Disclosure)
	if said == nil {
		return nil, no(access.DenyInvalid, "the context says no disclosure: call egress.Disclose, and send what holds no PHI with another client")
	}
	e := reg.entries[said.Recipient]
	if e == nil {
		return nil, no(access.DenyNoRule, "Disclosure.Recipient is not registered")
	}
	p := &passage{entry: e, scope: scope, said: said}
	name, port, err := t.target(req)
	if err != nil {
		return p, no(access.DenyInvalid, "%w", err)
	}
	p.address = name + ":" + port
	if no := p.to(name, port, now); no != nil {
		return p, no
	}
	return p, e.permits(scope, said)
}

// target returns the host that a request goes to, or why it goes to none.
func (t *Transport) target(req *http.Request) (name, port string, err error) {
	u := req.URL
	switch {
	case u == nil || u.Host == "" || u.Opaque != "":
		return "", "", errors.New("the URL names no host")
	case u.User != nil:
		return "", "", errors.New("the URL holds a user name or a password: put them into a header")
	case u.Scheme != "https" && (u.Scheme != "http" || !t.cfg.Development):
		return "", "", errors.New("the URL's scheme is not https")
	case req.Method == http.MethodConnect || req.Method == http.MethodTrace:
		return "", "", errors.New("the method is for proxies, or sends back what it was sent")
	case req.Header.Get("Upgrade") != "":
		return "", "", errors.New("an upgraded connection carries more than one request")
	case req.Host != "" && !strings.EqualFold(req.Host, u.Host):
		return "", "", errors.New("the Host header is not the URL's host")
	}
	name, port, given := cutPort(strings.ToLower(u.Host))
	if !given && u.Scheme == "http" {
		port = "80"
	}
	if err := checkDNSName(name); err != nil || port == "" {
		return "", "", errors.New("the URL's host is not a DNS name, with a port or without")
	}
	return name, port, nil
}

// to finds out who is at a host, and whether their time is now.
func (p *passage) to(name, port string, now time.Time) *refused {
	at := func(host string) bool { return matches(host, name, port) }
	e := p.entry
	if err := inForce("the entry", e.From, e.Until, now); err != nil {
		return no(access.DenyNoRule, "%w", err)
	}
	for what, d := range map[string]*Document{"the agreement": e.Agreement, "the document": e.Document} {
		if d == nil {
			continue
		}
		if err := inForce(what, d.Signed, d.Until, now); err != nil {
			return no(access.DenyNoRule, "%w", err)
		}
	}
	if slices.ContainsFunc(e.Hosts, at) {
		p.recipient, p.name = e.ID, e.Name
		return nil
	}
	for _, s := range e.Subcontractors {
		if !slices.ContainsFunc(s.Hosts, at) {
			continue
		}
		if err := inForce("the subcontractor", s.From, s.Until, now); err != nil {
			return no(access.DenyNoRule, "%w", err)
		}
		p.recipient, p.name = s.ID, s.Name+", for "+e.Name
		return nil
	}
	return no(access.DenyNoRule, "the URL's host is not one of the recipient's")
}

func inForce(what string, from, until, now time.Time) error {
	switch {
	case now.Before(from):
		return fmt.Errorf("%s is not in force yet", what)
	case !until.IsZero() && now.After(until):
		return fmt.Errorf("%s has expired", what)
	}
	return nil
}

// permits holds what is sent, by whom and for which purpose against the entry.
func (r *Recipient) permits(scope *access.Scope, said *Disclosure) *refused {
	tenant := scope.Principal().Tenant
	if !slices.Contains(r.Tenants, tenant) && !slices.Contains(r.Tenants, anyTenant) {
		return no(access.DenyTenant, "the recipient is not one of the caller's tenant")
	}
	if !slices.Contains(r.Purposes, scope.Purpose()) {
		return no(access.DenyPurpose, "the recipient is not registered for the purpose %s", scope.Purpose())
	}
	if len(said.Objects) == 0 {
		return no(access.DenyInvalid, "Disclosure.Objects is empty: name the records that are sent")
	}
	for i := range said.Objects {
		if no := r.permitsObject(tenant, &said.Objects[i]); no != nil {
			no.cause = fmt.Errorf("Disclosure.Objects[%d]: %w", i, no.cause)
			return no
		}
	}
	return nil
}

func (r *Recipient) permitsObject(tenant string, o *audit.Object) *refused {
	item, ok := r.Types[o.Type]
	switch {
	case o.Tenant != "" && o.Tenant != tenant:
		return no(access.DenyTenant, "it is another tenant's")
	case o.Denied || len(o.Digests) != 0:
		return no(access.DenyInvalid, "Denied and Digests are not for what is sent")
	case !ok:
		return no(access.DenyNoRule, "its Type is not registered for the recipient")
	case o.Patient == "" && r.Basis != LimitedDataSet:
		return no(access.DenyInvalid, "Patient is empty: an accounting of disclosures needs it")
	case len(r.Patients) > 0 && !slices.Contains(r.Patients, o.Patient):
		return no(access.DenyNoRule, "the recipient is not registered for its Patient")
	case len(o.Fields) == 0 && item.Fields != nil:
		return no(access.DenyInvalid, "Fields is empty: say which are sent, the recipient is registered for some only")
	}
	for _, f := range o.Fields {
		if _, ok := item.Fields[f]; !ok && item.Fields != nil {
			return no(access.DenyNoRule, "the recipient is not registered for one of its Fields")
		}
	}
	return nil
}

// event is what is recorded before the first byte.
func (p *passage) event(d access.Decision) audit.Event {
	said, r := p.said, &p.entry.Recipient
	detail := audit.Detail{Recipient: p.name, Address: r.Address, Description: said.Description, Statement: said.Statement}
	if p.recipient != r.ID {
		detail.Address = ""
	}
	if detail.Description == "" {
		detail.Description = r.Description
	}
	if detail.Statement == "" {
		detail.Statement = r.Statement
	}
	if r.Law != "" {
		detail.Statement += " (" + r.Law + ")"
	}
	return audit.Event{
		Type: audit.Disclosed, Outcome: audit.Success, Action: access.Disclose, Code: d.Verdicts[0].Code, Decision: d.ID,
		Objects: said.Objects, Citation: r.citation(), Detail: &detail,
		Disclosure: &audit.Disclosure{Basis: r.record(p.scope.Purpose()), Recipient: p.recipient, Protocol: r.Protocol},
	}
}
