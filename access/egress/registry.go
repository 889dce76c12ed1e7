// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A registry is the recipients in force. It is never changed, but for when an
// entry was last warned of.
type registry struct{ entries map[string]*entry }

type entry struct {
	Recipient
	transport *http.Transport // makes connections, and keeps none
	warned    atomic.Int64    // the day, since 1970
}

// register validates recipients and makes them a registry.
func (t *Transport) register(recipients []Recipient) (*registry, error) {
	reg := &registry{make(map[string]*entry, len(recipients))}
	for i := range recipients {
		r := recipients[i].clone()
		if err := r.validate(); err != nil {
			return nil, &recipientError{i, r.ID, err}
		}
		if reg.entries[r.ID] != nil {
			return nil, &recipientError{i, r.ID, errors.New("ID is taken by another entry")}
		}
		reg.entries[r.ID] = t.entry(r)
	}
	return reg, nil
}

// A recipientError says which entry of a list is bad.
type recipientError struct {
	index int
	id    string
	err   error
}

func (e *recipientError) Error() string {
	if access.CheckID(e.id) != nil {
		return fmt.Sprintf("egress: Recipients[%d]: %v", e.index, e.err)
	}
	return fmt.Sprintf("egress: Recipients[%d] (%s): %v", e.index, e.id, e.err)
}

func (e *recipientError) Unwrap() error { return e.err }

func (t *Transport) entry(r Recipient) *entry {
	e := &entry{Recipient: r}
	secure := new(tls.Config)
	if t.cfg.TLS != nil {
		secure = t.cfg.TLS.Clone()
	}
	secure.MinVersion = max(secure.MinVersion, tls.VersionTLS12)
	secure.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	secure.NextProtos = nil
	e.transport = &http.Transport{
		TLSClientConfig: secure,
		Protocols:       new(http.Protocols),
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return t.dial(ctx, &e.Recipient, address, ctx.Value(plainKey{}) != nil)
		},
	}
	e.transport.Protocols.SetHTTP1(true) // one request a connection
	return e
}

// plainKey marks the context of a connection without TLS.
type plainKey struct{}

// Load puts recipients in place of those in force, all or none: a list with a bad
// entry leaves everything as it was, and so does one that cannot be recorded.
// Requests that have not begun to be sent are held to the new list. It is safe for
// concurrent use.
//
// Each load is on record (audit.RecipientsLoaded), by the principal of ctx where
// there is one, with the entries that it adds, changes and takes away.
func (t *Transport) Load(ctx context.Context, recipients []Recipient) error {
	reg, err := t.register(recipients)
	if err != nil {
		return err
	}
	t.loading.Lock()
	defer t.loading.Unlock()
	ev, err := reg.loaded(ctx, t.registry.Load())
	if err == nil {
		_, err = t.cfg.Audit.Record(ctx, ev)
	}
	if err != nil {
		return fmt.Errorf("egress: record the recipients: those in force stay: %w", err)
	}
	t.registry.Store(reg)
	return nil
}

// maxChanged bounds the entries that an event names. Its Count is of all that are
// in force.
const maxChanged = 1000

// loaded is the record of a registry that replaces another, nil for none. An
// entry's digest says which of its versions it is: empty where it is taken away.
func (r *registry) loaded(ctx context.Context, old *registry) (audit.Event, error) {
	ev := audit.Event{Type: audit.RecipientsLoaded, Outcome: audit.Success, Reason: audit.ReasonCreated, Count: len(r.entries)}
	before := map[string]*entry{}
	if old != nil {
		ev.Reason, before = audit.ReasonAmended, old.entries
	}
	who, _ := access.PrincipalFrom(ctx)
	ids := slices.Collect(maps.Keys(r.entries))
	for id := range before {
		if r.entries[id] == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		was, err := before[id].digest()
		if err != nil {
			return ev, err
		}
		now, err := r.entries[id].digest()
		if err != nil {
			return ev, err
		}
		if was == now || len(ev.Objects) >= maxChanged {
			continue
		}
		e := r.entries[id]
		if e == nil {
			e = before[id]
		}
		o := audit.Object{Type: "recipient", Tenant: who.Tenant}
		if o.Tenant == "" && e.Tenants[0] != anyTenant {
			o.Tenant = e.Tenants[0]
		}
		if o.Tenant != "" { // else an event without a tenant has nobody to name it to
			o.Record = id
		}
		if o.Fields = []string{"removed"}; now != "" {
			o.Fields, o.Digests = []string{"entry"}, []string{now}
		}
		ev.Objects = append(ev.Objects, o)
	}
	return ev, nil
}

// digest is that of an entry as an event has it; empty for none.
func (e *entry) digest() (string, error) {
	if e == nil {
		return "", nil
	}
	text, err := json.Marshal(&e.Recipient)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

// An Expiry is something that ends soon, or has ended.
type Expiry struct {
	Recipient string
	What      string // "entry", "agreement", "document", or "subcontractor" and its ID
	Until     time.Time
}

// Expiring returns what ends within d from now or has ended already, the
// earliest first: from then on nothing is sent to the recipient. Show it to whom
// the entries belong.
func (t *Transport) Expiring(d time.Duration) []Expiry {
	var out []Expiry
	by := t.cfg.Now().Add(d)
	for _, e := range t.registry.Load().entries {
		out = append(out, e.expiring(by)...)
	}
	slices.SortFunc(out, func(a, b Expiry) int {
		if c := a.Until.Compare(b.Until); c != 0 {
			return c
		}
		return strings.Compare(a.Recipient+a.What, b.Recipient+b.What)
	})
	return out
}

// expiring returns what of r ends before a time.
func (r *Recipient) expiring(by time.Time) (out []Expiry) {
	add := func(what string, until time.Time) {
		if !until.IsZero() && until.Before(by) {
			out = append(out, Expiry{r.ID, what, until})
		}
	}
	add("entry", r.Until)
	if r.Agreement != nil {
		add("agreement", r.Agreement.Until)
	}
	if r.Document != nil {
		add("document", r.Document.Until)
	}
	for _, s := range r.Subcontractors {
		add("subcontractor "+s.ID, s.Until)
	}
	return out
}
