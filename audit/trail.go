// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"iter"
)

// ErrUnavailable means that the event could not be made durable. The caller
// must refuse what it was about to do: no record, no access.
var ErrUnavailable = errors.New("audit: unavailable")

// ErrClosed is returned by every method after Close.
var ErrClosed = errors.New("audit: closed")

// A Receipt names an event that is durable.
type Receipt struct {
	ID string // event ID, unique over all writers
}

// A Recorder makes events durable. Implementations are safe for concurrent
// use. The conformance suite is audittest.TestTrail.
type Recorder interface {
	// Record returns when ev is durable, with the scope of ctx as its actor.
	// It does not stop when ctx is cancelled: a cancelled request is recorded
	// too. An error wraps [ErrUnavailable], [ErrClosed], or says which field
	// of ev is bad; in each case the caller must refuse.
	Record(ctx context.Context, ev Event) (Receipt, error)
}

// A Trail is a Recorder that also follows writes through a database
// transaction. [Journal] is the one for production, audittest.Trail the fake.
type Trail interface {
	Recorder

	// Attempt records ev, a [WriteAttempt], [PolicyChanged], [RelationChanged] or
	// [DirectiveChanged], and returns the ticket that the data's own transaction
	// carries in its outbox table.
	Attempt(ctx context.Context, ev Event) (Ticket, error)

	// Commit appends a [Committed] for each ticket read back from an outbox
	// table and returns when they are durable. A ticket that this trail did
	// not issue, or that was rolled back through it, is recorded as
	// [OutboxRefused] and returned in refused; its row must not stay in the
	// outbox either. Committing a ticket twice is legal.
	Commit(ctx context.Context, tickets []Ticket) (refused []Ticket, err error)

	// Rollback appends a [RolledBack] for each ticket of a transaction or
	// savepoint that is known to have rolled back.
	Rollback(ctx context.Context, tickets []Ticket) error

	// Writer identifies this trail's own tickets in a shared outbox table.
	Writer() string
}

// A History is what a database is held against: a trail that can be read back.
// [Journal] and audittest.Trail are Histories of what they recorded. The
// conformance suite is audittest.TestTrail.
type History interface {
	// Replay yields the events of the types that are by or about the tenant,
	// newest first, up to those that were durable when it began, and every
	// [Committed] and [RolledBack] that is asked for, which name no tenant.
	// An empty tenant means every one: what it yields is for the program, and
	// not to be shown. It ends after the first error.
	Replay(ctx context.Context, tenant string, types ...Type) iter.Seq2[Stored, error]

	// Pseudonym returns what stands in the trail for a patient's or record's
	// ID in tenant; empty where it cannot tell.
	Pseudonym(tenant, id string) string

	// Issued reports whether this trail issued the ticket, every field of it.
	Issued(t Ticket) bool
}

// A Ticket is the outbox row of one write: it proves, without naming anybody,
// that an attempt was recorded before the write ran.
type Ticket struct {
	Attempt string // event ID of the attempt
	Writer  string // the trail that issued it
	Digest  []byte // SHA-256 leaf hash of the attempt's line, 32 bytes
	MAC     []byte // HMAC-SHA256 over the three fields above, under the trail's outbox key
}
