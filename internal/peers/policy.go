// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/policystore"
	"github.com/part164/part164/storage/sqlite"
)

// policyFigures compare loading a policy from the database with reading its rows
// into strings and doing nothing with them.
func policyFigures() []figure {
	return []figure{
		{"load of a policy of 100,000 rules / scanning the rows", goal{most: 2}, loadPolicy(100_000, 0)},
		{"load of a policy of 10,000 rules and 100,000 users / scanning the rows", goal{most: 2}, loadPolicy(10_000, 100_000)},
	}
}

// policyRows are rules of as many roles as make ten rules each, in ten tenants,
// and users who have one of the roles.
func policyRows(rules, users int) policystore.Rows {
	var out policystore.Rows
	actions := []access.Action{access.Read, access.Search, access.Create, access.Update, access.Delete}
	for i := range rules / 10 {
		out.Rules = append(out.Rules, rbac.Rule{
			Role: fmt.Sprintf("role-%d", i), Tenant: fmt.Sprintf("clinic-%d", i%10), Resources: []string{fmt.Sprintf("type_%d", i%50)},
			Actions: actions, Purposes: []access.Purpose{access.Treatment, access.Payment},
		})
	}
	for i := range users {
		out.Assignments = append(out.Assignments, rbac.Assignment{Tenant: fmt.Sprintf("clinic-%d", i%10), User: fmt.Sprintf("u-%d", i), Role: fmt.Sprintf("role-%d", i%(rules/10))})
	}
	return out
}

func loadPolicy(rules, users int) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (_ value, err error) {
		journal, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{KEK: cryptotest.NewKEK()})
		if err != nil {
			return value{}, err
		}
		defer func() { err = errors.Join(err, journal.Close()) }()
		newStore := func() (*policystore.Store, error) { return policystore.New(policystore.Config{Audit: journal}) }
		first, err := newStore()
		if err != nil {
			return value{}, err
		}
		db, err := storage.Open(sqlite.Open(filepath.Join(dir, "app.db")), storage.Config{
			KEK: cryptotest.NewKEK(), Audit: journal, Access: first, Minimize: minimize.Starter(),
		})
		if err != nil {
			return value{}, err
		}
		defer func() { err = errors.Join(err, storage.Close(db)) }()
		if err := errors.Join(storage.Migrate(ctx, db), policystore.Migrate(ctx, db), first.Open(ctx, db)); err != nil {
			return value{}, err
		}
		job, end := access.Job(ctx, access.Principal{ID: "bench", Tenant: "clinic-1", Kind: access.Service}, access.SystemAdmin)
		defer end()
		if _, err := first.Init(job, policyRows(rules, users), "bench-1"); err != nil {
			return value{}, err
		}
		if err := first.Close(); err != nil {
			return value{}, err
		}
		ours := func(ctx context.Context) error {
			s, err := newStore()
			if err != nil {
				return err
			}
			if err := s.Open(ctx, db); err != nil {
				return err
			}
			if s.Current() != 1 {
				return fmt.Errorf("revision %d", s.Current())
			}
			return s.Close()
		}
		base := func(ctx context.Context) error { return scanPolicy(ctx, db, rules+users) }
		return ratio(ctx, 11, timed(1, ours), timed(1, base))
	}
}

// scanPolicy reads all rows into strings, as a program would that keeps them.
func scanPolicy(ctx context.Context, db *gorm.DB, want int) error {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	var kept [][6]string
	for _, q := range []struct {
		text    string
		columns int
	}{
		{"SELECT role, tenant, resource, action, purpose, effect FROM policy_rules", 6},
		{"SELECT tenant, member, role FROM policy_links", 3},
	} {
		if kept, err = scanRows(ctx, pool, q.text, q.columns, kept); err != nil {
			return err
		}
	}
	if len(kept) != want {
		return fmt.Errorf("%d rows", len(kept))
	}
	return nil
}

func scanRows(ctx context.Context, pool *sql.DB, query string, columns int, kept [][6]string) ([][6]string, error) {
	rows, err := pool.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r [6]string
		into := []any{&r[0], &r[1], &r[2], &r[3], &r[4], &r[5]}
		if err := rows.Scan(into[:columns]...); err != nil {
			return nil, err
		}
		kept = append(kept, r)
	}
	return kept, rows.Err()
}
