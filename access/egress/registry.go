// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/part164/part164/access"
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
// entry leaves everything as it was. Requests that have not begun to be sent are
// held to the new list. It is safe for concurrent use.
func (t *Transport) Load(recipients []Recipient) error {
	reg, err := t.register(recipients)
	if err != nil {
		return err
	}
	t.registry.Store(reg)
	return nil
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
