// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/part164/part164/audit"
)

// Attempt makes ev durable in the audit trail of tx's database, as an attempt
// that the end of tx settles: its ticket goes into the outbox of tx. It is for
// tables that are no models of this package and whose changes are recorded all
// the same, such as those of storage/policystore. Call it before the statements
// that it announces.
//
// tx is an open transaction of a database of [Open]. ev has a type that
// audit.Trail's Attempt takes. An error means that nothing was recorded: roll
// back.
func Attempt(ctx context.Context, tx *gorm.DB, ev audit.Event) error {
	p, err := pluginOf(tx)
	if err != nil {
		return err
	}
	conn, ok := unwrap(tx.Statement.ConnPool).(*txConn)
	if !ok {
		return errors.New("storage: attempt: there is no transaction: call it in db.Transaction")
	}
	return p.propose(ctx, conn, string(ev.Type), ev)
}

// Trail returns the audit trail of a database of [Open], for what such tables
// are found to hold.
func Trail(db *gorm.DB) (audit.Recorder, error) {
	p, err := pluginOf(db)
	if err != nil {
		return nil, err
	}
	return p.cfg.Audit, nil
}

// MayMaintain says why the principal of ctx may not run a job over all records of
// its tenant in a database of [Open], and records that: what [Check] asks, for
// what checks such tables.
func MayMaintain(ctx context.Context, db *gorm.DB) error {
	p, err := pluginOf(db)
	if err != nil {
		return err
	}
	return p.mayMaintain(ctx)
}

// A MAC makes and checks MACs of statements about a database: HMAC-SHA256 under
// a key of the database's own, which is wrapped by Config.KEK. Who can write to
// the database and has not the KEK cannot make one. The zero MAC checks nothing
// and makes none.
type MAC struct{ of metaMAC }

// StatementMAC returns the MAC of a database whose tables [Migrate] made.
func StatementMAC(ctx context.Context, db *gorm.DB) (MAC, error) {
	p, err := pluginOf(db)
	if err != nil {
		return MAC{}, err
	}
	mac, err := p.metaMAC(ctx)
	if err != nil {
		return MAC{}, fmt.Errorf("%w: call storage.Migrate first", err)
	}
	return MAC{mac}, nil
}

// Sum returns the MAC of a statement in a field, which keeps the statements of
// one kind from passing for those of another. It is nil for the zero MAC.
func (m MAC) Sum(field, statement string) []byte {
	if len(m.of.keys) == 0 {
		return nil
	}
	return m.of.sum(statementPrefix+field, statement)
}

// Valid reports whether mac is what Sum returned, under this key or one that it
// replaced.
func (m MAC) Valid(field, statement string, mac []byte) bool {
	return m.of.valid(statementPrefix+field, statement, mac)
}

// statementPrefix keeps the fields of others from being those of this package.
const statementPrefix = "statement/"
