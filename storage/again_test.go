// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// redo does f again where the database asks for that, as an app would.
func redo(f func() error) error {
	for {
		if err := f(); !storage.InTheWay(err) {
			return err
		}
	}
}

// A shred that the database rolls back in favour of another transaction is done
// again, and destroys the keys once.
func TestShredAfterADeadlock(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		waits := map[string]string{
			"postgres": "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid' AND pid IN (SELECT pid FROM pg_locks WHERE relation = 'phi_tenant_keys'::regclass)",
			"mysql":    "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID() AND info LIKE '%phi_meta%FOR UPDATE%'",
		}[d.Name()]
		if waits == "" {
			t.Skip("SQLite has one writer at a time, so that no two wait for each other")
		}
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &Encounter{})
		p := newPatient(t, db.DB, "Roe")
		c, err := db.DB.DB()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		other, err := c.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = other.Close() }()
		run := func(query string) {
			t.Helper()
			if _, err := other.ExecContext(ctx, query); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		run("CREATE TABLE ballast (n integer)") // of two that wait, MariaDB rolls back who has written less
		if d.Name() == "postgres" {
			run("SET deadlock_timeout = '1min'") // and PostgreSQL who looks first
		}
		tx, err := other.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		lock := func(query string) {
			t.Helper()
			rows, err := tx.QueryContext(ctx, query)
			if err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			for rows.Next() { // until all are locked
			}
			if err := rows.Err(); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		for range 100 {
			if _, err := tx.ExecContext(ctx, "INSERT INTO ballast VALUES (1), (2), (3), (4), (5), (6), (7), (8)"); err != nil {
				t.Fatal(err)
			}
		}
		lock("SELECT * FROM phi_meta FOR UPDATE")
		done := make(chan error, 1)
		go func() {
			_, err := storage.Shred(officer(t), db.DB, p.ID, order)
			done <- err
		}()
		for n := 0; n == 0; { // the shred holds the tenant's keys, and waits for phi_meta
			select {
			case err := <-done:
				t.Fatalf("Shred = %v, before the other let go", err)
			default:
			}
			if err := tx.QueryRowContext(ctx, waits).Scan(&n); err != nil {
				t.Fatal(err)
			}
		}
		lock("SELECT * FROM phi_tenant_keys FOR UPDATE")
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatalf("Shred = %v", err)
		}
		if n := count(t, db.DB, "SELECT count(*) FROM phi_subject_keys WHERE subject_id = ? AND NOT shredded", p.ID); n != 0 {
			t.Errorf("%d keys are left", n)
		}
		if n := count(t, db.DB, "SELECT count(*) FROM phi_outbox WHERE 1 = ?", 1); n > 1 {
			t.Errorf("%d attempts are open in the database, want at most that which went through", n)
		}
	})
}
