// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/part164/part164/crypto"
)

// Errors of [Sealed.Get]: why there is no plaintext.
var (
	ErrSealed      = errors.New("storage: sealed: call storage.Reveal first")
	ErrNotRevealed = errors.New("storage: not revealed to this scope: the scope has ended, its RevealTTL has passed, or the value was revealed to another")
	ErrWithheld    = errors.New("storage: withheld: the policy shows nothing of this field for this role and purpose")
	ErrMasked      = errors.New("storage: masked: the policy shows only a part of this field; print it with Text")
	ErrUnavailable = errors.New("storage: unavailable: the cell did not open; see the reveal.failed event")
)

// Errors of statements.
var (
	// ErrConflict means that the record changed, or left the scope, since it
	// was read. Read it again. A database may also ask for the transaction to be
	// done again, as the victim of a deadlock for instance: such an error has a
	// method SQLState that returns 40001 or 40P01.
	ErrConflict = errors.New("storage: conflict: the record changed since it was read: read it again")

	// ErrDuplicate means that another record has this value in a unique field,
	// or this ID. It names no record and no value, and does not tell whose it
	// is. That a value is taken is the answer of a search, also to a write that
	// is rolled back: it counts as one against Config.SearchLimits, and is
	// recorded as one. It is also gorm.ErrDuplicatedKey.
	ErrDuplicate = fmt.Errorf("storage: duplicate: the value is taken in a unique field: %w", gorm.ErrDuplicatedKey)

	// ErrRefused is what every [RefusedError] is.
	ErrRefused = errors.New("storage: refused")

	// ErrFilterOnHidden means that a statement would filter, sort or group by
	// a field that the caller may not see in full: the answer would be an
	// oracle.
	ErrFilterOnHidden = errors.New("storage: filter on a hidden field")

	// ErrSearchLimit means that the principal has made as many searches in the
	// last hour as Config.SearchLimits allows its roles. A write to a unique
	// field has it too, whether the value is taken or not, where one of those
	// searches was an [ErrDuplicate].
	ErrSearchLimit = errors.New("storage: search limit reached")

	// ErrNotPermitted is what every [WriteError] is.
	ErrNotPermitted = errors.New("storage: write not permitted")

	// ErrUnbound means that a value was not read through storage, so that it
	// is not known which record it belongs to.
	ErrUnbound = errors.New("storage: unbound: read the record through the database of storage.Open, with its id, tenant_id and subject columns")
)

// A RefusedError says which statement was refused and what to do instead.
type RefusedError struct {
	Op    string // such as "update"
	Table string // empty where it is not known
	Why   string
	Mend  string
}

func (e *RefusedError) Error() string {
	op := e.Op
	if e.Table != "" {
		op += " " + e.Table
	}
	return fmt.Sprintf("storage: %s: refused: %s: %s", op, e.Why, e.Mend)
}

// Is makes errors.Is(err, ErrRefused) true for every RefusedError.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// A WriteError names the fields that the caller's role may not write for its
// purpose, or that hold a placeholder or a mask instead of a value.
type WriteError struct {
	Resource string
	Fields   []string
	Masked   bool // the values are placeholders or masks: what the caller was shown, sent back
}

func (e *WriteError) Error() string {
	why := "the role may not write them for this purpose"
	if e.Masked {
		why = "a placeholder or mask is not a value: leave the field out to keep what is stored"
	}
	return fmt.Sprintf("storage: write %s: %s: %s", e.Resource, strings.Join(e.Fields, ", "), why)
}

// Is makes errors.Is(err, ErrNotPermitted) true for every WriteError.
func (e *WriteError) Is(target error) bool { return target == ErrNotPermitted }

// A RevealError says what Reveal could not open; everything else is open. Row
// IDs are opaque and safe to log.
type RevealError struct {
	Denied      []string            // IDs of rows that the policy denies; they stay sealed
	Unavailable map[string][]string // row ID to the names of fields that did not open
	Shredded    []string            // IDs of rows whose patient's keys were destroyed; their fields are in Unavailable too
	Decision    string              // ID of the access decision
}

// Is makes errors.Is(err, crypto.ErrShredded) true where a row's keys were destroyed.
func (e *RevealError) Is(target error) bool {
	return target == crypto.ErrShredded && len(e.Shredded) > 0
}

func (e *RevealError) Error() string {
	n := 0
	for _, f := range e.Unavailable {
		n += len(f)
	}
	return fmt.Sprintf("storage: reveal: %d rows denied, %d fields unavailable (decision %s)", len(e.Denied), n, e.Decision)
}
