// SPDX-License-Identifier: Apache-2.0

// Package sink hands the events of a journal to other systems: a SIEM, a
// table, a message stream (45 CFR 164.312(b), 164.308(a)(1)(ii)(D)).
//
//	pipe, err := sink.Open(journal, webhook.New(...), sink.Config{})
//
// The journal is the record, and a [Sink] is a cursor over it. A [Pipe] runs
// in a goroutine of its own: no Record ever waits for it, and a receiver that
// is down costs nothing but the time until it has the events. What it promises:
//
//   - Nothing is lost. Events wait in the journal until the sink has accepted
//     them; nothing expires, and a purge of the journal waits too (see
//     [audit.Cursors]).
//   - Order is kept: that of the journal.
//   - At least once: after a crash, or an answer that did not arrive, events
//     come again. Each has an ID, the writer and its sequence, by which a
//     receiver knows it.
//   - An event that the receiver refuses for good is parked: kept beside the
//     journal for ever, recorded as Parked, and logged; the others go on. So is
//     one that the receiver does not take while it takes later ones. Where it
//     takes none at all, all wait, and [Pipe.Ready] fails.
//
// It cannot promise that a receiver keeps what it accepted: [Compare] holds
// what it has against the journal.
//
// Events in a sink are still PHI. A sink that leaves the machine needs TLS
// and names its recipient, the business associate that runs it (45 CFR
// 164.308(b), 164.502(e)); the name is recorded when the pipe opens.
package sink

import (
	"context"
	"errors"

	"github.com/part164/part164/audit"
)

// A Sink takes events. One goroutine calls it at a time. The conformance suite
// is sinktest.TestSink.
type Sink interface {
	// Name tells the sinks of a journal apart and is the same at every start:
	// an identifier of at most 40 bytes. A sink with another name begins at the
	// journal's first event.
	Name() string

	// Recipient is the opaque ID of who gets the events: the business
	// associate, or the department. Empty only for what stays on this machine
	// or in the database of the app itself.
	Recipient() string

	// Deliver hands over lines in the order of the journal, and returns how
	// many, from the first on, are accepted for good: they need not be
	// delivered again. With all accepted the error is nil.
	//
	// An error that wraps [ErrPoison] says that the first line that was not
	// accepted never will be. Any other error means that the rest is to be
	// tried again later. No error holds anything of a line but its ID.
	//
	// Lines may come again, and one that was set aside, or held the others up,
	// may come behind later ones. The sink does not keep them after it returned.
	Deliver(ctx context.Context, lines []audit.Line) (accepted int, err error)
}

// ErrPoison is wrapped by the error of a Deliver whose first unaccepted line
// the receiver refuses whatever may happen: it is malformed to it, or too
// large. An error of the receiver's own, of its rights or of the way there is
// never poison.
var ErrPoison = errors.New("the receiver refuses the event for good")

// ErrRefused is wrapped by the error of a Deliver whose first unaccepted line
// the receiver refuses, where its answer does not tell whether that is the line
// or everything. The pipe offers a later line: where that is accepted, and this
// one still is not, this one is parked. (Of any other error it does so once the
// line has waited for Config.MaxLag.)
var ErrRefused = errors.New("the receiver refuses the event")

// A Rewinder is a [Sink] whose receiver does not say what it has: what was on
// its way when this process, or the receiver, went down may be lost. When a
// pipe opens it delivers up to Rewind events again from before its cursor.
type Rewinder interface {
	Sink
	Rewind() int
}
