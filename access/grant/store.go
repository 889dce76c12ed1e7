// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"time"
)

// ErrNotFound means that there is no such grant in the tenant.
var ErrNotFound = errors.New("grant: there is no such grant")

// A Store keeps grants. Each method is one atomic step, so that any number of
// nodes may share a Store; what is allowed is decided by [Desk].
//
// Times are those of the caller. Implementations are safe for concurrent use
// and keep times to the nanosecond. The conformance suite is
// granttest.TestStore.
type Store interface {
	// Create inserts g, with its steps and Version 1, unless there is an open
	// one with the same [Grant.Key], which keep says to keep: it returns that
	// one, without steps, and false. One that is not kept loses the key. Of
	// concurrent callers with one key exactly one inserts.
	Create(ctx context.Context, g Grant, keep func(Grant) bool) (Grant, bool, error)

	// Grant returns a grant with its steps, or [ErrNotFound].
	Grant(ctx context.Context, tenant, id string) (Grant, error)

	// Change replaces the grant of g's Tenant and ID by g, with Version one
	// higher and step, where it is not nil, behind its steps, if the stored
	// Version is still g's, and reports whether it was. What [Grant.Scope],
	// [Grant.Reason] and the times before say of it stays as it was created.
	//
	// A check that is not nil is called inside the transaction, with its
	// context, while no other call with a check goes on in the tenant, and what
	// it returns leaves everything as it was: for separation of duties, which
	// holds only if what it looks at stays.
	Change(ctx context.Context, g Grant, step *Step, check func(ctx context.Context) error) (bool, error)

	// Use counts one use of an active grant that has one left at that time, and
	// reports whether it had. Of any number of callers no more than MaxUses get
	// true.
	Use(ctx context.Context, tenant, id string, at time.Time) (bool, error)

	// Settle notes that step n, from 0, has been recorded. It makes an approved
	// grant active, and its Version one higher, once no step of it is owed.
	Settle(ctx context.Context, tenant, id string, n int) error

	// Live returns the holder's grants that are active at that time, without
	// steps, oldest first. It is asked by decisions: one look-up in an index.
	Live(ctx context.Context, tenant, holder string, at time.Time) ([]Grant, error)

	// List returns the grants that q selects, with steps, newest first; those to
	// review by when that is due, so that a limit cuts none that is overdue.
	List(ctx context.Context, q Query) ([]Grant, error)

	// Owed returns grants, with steps, that have a step owed since before or
	// longer, about limit, of every tenant. Their owed steps count as owed since
	// at from then on, so that no other caller gets them at once.
	Owed(ctx context.Context, before, at time.Time, limit int) ([]Grant, error)

	// Alerts returns grants, with steps, whose AlertAt has come, about limit,
	// of every tenant, and sets it to again. The Version stays: see Alerted.
	Alerts(ctx context.Context, at, again time.Time, limit int) ([]Grant, error)

	// Alerted sets AlertAt to next, if it still is what Alerts set it to.
	Alerted(ctx context.Context, tenant, id string, again, next time.Time) error

	// Over returns grants, with steps, that are stored as requested, approved
	// or active and whose time is over, or whose uses are, about limit, of every
	// tenant.
	Over(ctx context.Context, at time.Time, limit int) ([]Grant, error)
}

// A Query selects grants of a tenant. Its zero fields select everything, save
// Tenant, which is required.
type Query struct {
	Tenant   string
	Holder   string
	Role     string
	Kind     Kind
	States   []State   // as stored
	ToReview bool      // only those that somebody must review, and nobody has
	Since    time.Time // created not before
	Limit    int       // at most so many; 0 means 1,000
}

// limit is how many a List returns.
func (q *Query) limit() int {
	if q.Limit <= 0 {
		return 1000
	}
	return q.Limit
}

// Key names what a holder may have open once: the scope, and what it extends.
func (g *Grant) Key() string {
	h := sha256.New()
	parts := []string{g.Tenant, string(g.Kind), g.Holder, g.Role, g.Patient, g.Type, g.Record, g.Extends}
	purposes := slices.Clone(g.Purposes)
	slices.Sort(purposes)
	for _, p := range purposes {
		parts = append(parts, string(p))
	}
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil))
}
