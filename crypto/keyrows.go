// SPDX-License-Identifier: Apache-2.0

package crypto

import "context"

// A KeyRow is one row of the table of subject keys. Subject "" is the tenant's
// own data key, for rows that are about no one person.
type KeyRow struct {
	Tenant   string
	Subject  string
	Version  uint32 // from 1
	Wrapped  []byte // under the tenant's key; empty in a tombstone
	Shredded bool   // a tombstone: no key of the subject opens any more
	Closed   bool   // it opens, and nothing new is sealed for the subject
}

// KeyRows is the key tables, on one connection: the statement's own. Inside a
// transaction it sees what that transaction wrote. storage implements it over
// GORM, cryptotest in memory; the conformance suite is cryptotest.TestKeyRows.
type KeyRows interface {
	// TenantKeyset returns the tenant's wrapped keyset, nil where it has none.
	// use is "wrap" or "index". With lock it reads the newest committed row and
	// holds, until the transaction ends, a lock that conflicts with replacing
	// it, so that whoever adds an index key and then waits for that lock has
	// seen the last row whose tokens lack it.
	TenantKeyset(ctx context.Context, tenant, use string, lock bool) ([]byte, error)

	// InsertTenantKeyset stores the tenant's wrapped keyset. Where there is one
	// already it does nothing.
	InsertTenantKeyset(ctx context.Context, tenant, use string, wrapped []byte) error

	// SubjectKeys returns every version and tombstone of the subjects, in any
	// order; subjects without a row are left out. There may be more subjects
	// than one statement has room for. With lock it reads the newest
	// committed rows and holds, until the transaction ends, a lock that
	// conflicts with shredding and retiring keys of the subjects, those without
	// a row included. (A shared lock on the tenant's "wrap" row does, where
	// shredding takes it exclusively; a lock on the subjects' own rows does
	// not hold off the shredding of one whose first key is being made.)
	SubjectKeys(ctx context.Context, tenant string, subjects []string, lock bool) ([]KeyRow, error)

	// InsertSubjectKey stores row. Where the subject has that version or a
	// tombstone already it does nothing (INSERT ... ON CONFLICT DO NOTHING).
	InsertSubjectKey(ctx context.Context, row KeyRow) error

	// LockKeys takes, until the transaction ends, the lock on the tenant's
	// keyset that conflicts with a locked TenantKeyset and, for "wrap", with a
	// locked SubjectKeys: nobody else is then between reading a key to seal
	// with and committing.
	LockKeys(ctx context.Context, tenant, use string) error

	// ReplaceTenantKeyset stores wrapped in place of old. The error wraps
	// [ErrKeyLost] where the table holds something else than old.
	ReplaceTenantKeyset(ctx context.Context, tenant, use string, old, wrapped []byte) error

	// ReplaceSubjectKey stores row.Wrapped in place of old. The error wraps
	// [ErrKeyLost] where the table holds something else than old.
	ReplaceSubjectKey(ctx context.Context, row KeyRow, old []byte) error

	// DeleteSubjectKey deletes one version of a subject's key.
	DeleteSubjectKey(ctx context.Context, tenant, subject string, version uint32) error

	// CountOthers counts the subject keys of the tenant, tombstones left out,
	// whose wrapped bytes do not begin with prefix.
	CountOthers(ctx context.Context, tenant string, prefix []byte) (int64, error)

	// BumpGeneration changes what Generation returns, once the transaction
	// commits.
	BumpGeneration(ctx context.Context) error

	// Generation returns a number that changes when the transaction commits in
	// which any key, of any tenant, is shredded or retired.
	Generation(ctx context.Context) (uint64, error)
}
