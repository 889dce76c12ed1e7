// SPDX-License-Identifier: Apache-2.0

package crypto

import "errors"

// Errors of this package. Each is matched with errors.Is; the text around it
// names the act, and never holds plaintext, key bytes or a record number.
var (
	// ErrFormat means that the bytes are no cell: too short, or not written by
	// this package.
	ErrFormat = errors.New("not a cell: it is truncated, or something else wrote it: run the job that seals existing data, or restore the value")

	// ErrVersion means a cell of a format or algorithm that this release does
	// not know. Every released format opens in every later release.
	ErrVersion = errors.New("unknown cell version or algorithm: upgrade part164 to the release that wrote it, or newer")

	// ErrOpen means that authentication failed: the key is another one, the
	// bytes were changed, or the cell belongs to another tenant, field, record
	// or subject.
	ErrOpen = errors.New("authentication failed: wrong key, changed bytes, or the cell of another record: restore the value from a backup")

	// ErrBinding means that a [Binding] is incomplete, or names another tenant
	// or subject than the key.
	ErrBinding = errors.New("bad binding: Tenant, Field and Record must be set, and Tenant and Subject must be those of the key")

	// ErrShredded means that the subject's keys were destroyed for good. No new
	// key is ever made for the subject.
	ErrShredded = errors.New("the subject's keys were shredded: its data cannot be opened, and nothing new can be sealed for it")

	// ErrNoKey means that the key table holds no such key.
	ErrNoKey = errors.New("no such key: it was never made here, was retired, or the key tables are older than the data: restore both from the same moment")

	// ErrNoKeyFile means that a [FileKEK] has no file.
	ErrNoKeyFile = errors.New("no key file: restore it from its separate place, or, in development only, let storage.Open make it (Config.Development)")

	// ErrUnwrap means that a wrapped key did not open: the KEK is another one,
	// or refused, or cannot be reached, or the wrapped bytes were changed. The
	// KEK's own error, where there is one, is in the chain.
	ErrUnwrap = errors.New("wrapped key does not open: give the KEK that wrapped it, and see that it can be reached and may decrypt")

	// ErrUnreachable means that the KEK did not answer, as opposed to one that
	// refuses: a tenant's key that is cached goes on for [Config].Outage.
	ErrUnreachable = errors.New("the KEK does not answer: look at the KMS's status, its network path, quotas and credentials; keys come back by themselves once it answers")

	// ErrTestKey means that a test's KEK made the key or sealed the cell, and
	// this process has another.
	ErrTestKey = errors.New("made under a test's KEK, which production refuses: remove the test's rows from this database")

	// ErrKeyLost means that a key made in a transaction is not in the key
	// tables any more. The transaction must roll back: what it sealed could
	// never be opened.
	ErrKeyLost = errors.New("a key made in this transaction is lost: roll back and retry")

	// ErrClosed means that nothing new may be sealed for the subject, as for
	// the duplicate record of a patient that was merged into another.
	ErrClosed = errors.New("the subject is closed: its data opens, and nothing new is sealed for it: seal for the subject that it was merged into")

	// ErrInUse means that a key that would be retired is still needed.
	ErrInUse = errors.New("the key is still in use: rewrap what it wraps, then retire it")

	// ErrGeneration means that the key generation could not be read, so that
	// nobody can tell whether a cached key has been shredded: opens stop.
	ErrGeneration = errors.New("key generation cannot be read, so opens stop: see that the key tables can be reached")
)

// A SubjectError says which subject a key operation on several failed for. Its
// text leaves the subject out, so that it may be logged.
type SubjectError struct {
	Subject string
	Err     error // wraps one of the errors above
}

func (e *SubjectError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *SubjectError) Unwrap() error { return e.Err }
