// SPDX-License-Identifier: Apache-2.0

package relation

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// ErrNotFound means that there is no such relation in the tenant.
var ErrNotFound = errors.New("relation: not found")

// A Store keeps relations. [NewMemory] and storage/accessstore are ones.
// Implementations are safe for concurrent use; the conformance suite is
// relationtest.TestStore.
type Store interface {
	// Add keeps a new relation, which is valid and whose times are whole
	// microseconds in UTC, with Version 1. ev becomes an attempt of the store's
	// trail (see [audit.Trail]), and the relation is there if and only if that is
	// committed; where it cannot be recorded, nothing is kept.
	Add(ctx context.Context, r Relation, ev audit.Event) error

	// Change replaces Until and Void of a relation by what change makes of it,
	// and makes its Version one higher, or returns [ErrNotFound] or change's
	// error. What event makes of the relation that will be kept is recorded as
	// by Add. Changes of one relation queue: none is lost.
	Change(ctx context.Context, tenant, id string, change func(*Relation) error, event func(Relation) audit.Event) error

	// List returns the relations of the tenant that the query finds, the oldest
	// ID first, void ones too.
	List(ctx context.Context, tenant string, q Query) ([]Relation, error)

	// Set returns the patients to whom a principal is related: of the tenant
	// only, whatever tenant the set is asked about.
	Set(q Reach) access.Set
}

// A Query says which relations [Store.List] returns: those of everything that
// it names.
type Query struct {
	ID        string
	Patient   string
	Principal string
	Kinds     []Kind // empty: any
}

// Finds reports whether the query finds a relation.
func (q Query) Finds(r Relation) bool {
	return (q.ID == "" || q.ID == r.ID) && (q.Patient == "" || q.Patient == r.Patient) && (q.Principal == "" || q.Principal == r.Principal) &&
		(len(q.Kinds) == 0 || slices.Contains(q.Kinds, r.Kind))
}

// A Reach says which patients [Store.Set] holds: those to whom the principal has
// a live relation of one of the kinds.
type Reach struct {
	Tenant, Principal string
	Patient           string          // this one only; empty: any
	Kinds             map[Kind]Window // with the window of each; empty: nobody
	At                time.Time       // in whole microseconds, as the times of relations are
}

// Holds reports whether a relation brings its patient into reach.
func (q Reach) Holds(r Relation) bool {
	w, ok := q.Kinds[r.Kind]
	return ok && r.Tenant == q.Tenant && r.Principal == q.Principal && (q.Patient == "" || q.Patient == r.Patient) && r.Live(q.At, w)
}
