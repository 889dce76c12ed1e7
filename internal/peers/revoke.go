// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/policystore"
	"github.com/part164/part164/storage/sqlite"
)

// revokeFigures say how long after a revocation is committed on one node another
// one denies first, in units of policystore.Config.Poll. The clock alone takes
// half of one at the median and one at the most; the rest is reading the change
// and putting it in force.
func revokeFigures() []figure {
	const name = "revocation to the first denial on another node, in polls, "
	policy := " (10k rules, 100k users)"
	return []figure{
		{name + "SQLite" + policy, goal{most: 1}, revocation(inFile)},
		{name + "PostgreSQL" + policy, goal{most: 1}, revocation(inPostgres)},
	}
}

const (
	revokePoll   = time.Second // the default
	revokeRounds = 15
)

func inFile(_ context.Context, dir string) (func() gorm.Dialector, func() error, error) {
	return func() gorm.Dialector { return sqlite.Open(filepath.Join(dir, "app.db")) }, func() error { return nil }, nil
}

// inPostgres makes a schema in the database that the tests use.
func inPostgres(ctx context.Context, _ string) (func() gorm.Dialector, func() error, error) {
	dsn := os.Getenv("PART164_TEST_POSTGRES")
	if dsn == "" {
		return nil, nil, absent("PART164_TEST_POSTGRES names no database, such as host=127.0.0.1 user=postgres")
	}
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, nil, err
	}
	schema := "bench_" + strings.ToLower(rand.Text()[:12])
	if err := db.WithContext(ctx).Exec("CREATE SCHEMA " + schema).Error; err != nil {
		return nil, nil, errors.Join(err, pool.Close())
	}
	drop := func() error {
		return errors.Join(db.Exec("DROP SCHEMA "+schema+" CASCADE").Error, pool.Close())
	}
	return func() gorm.Dialector { return postgres.Open(dsn + " search_path=" + schema) }, drop, nil
}

// A node is a process of an app, as far as the policy goes.
type node struct {
	store   *policystore.Store
	db      *gorm.DB
	journal *audit.Journal
}

func newNode(ctx context.Context, kek crypto.KEK, dialector gorm.Dialector, dir string) (_ *node, err error) {
	n := &node{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.journal, err = audit.Open(dir, audit.Config{KEK: kek}); err != nil {
		return n, err
	}
	if n.store, err = policystore.New(policystore.Config{Audit: n.journal, Poll: revokePoll}); err != nil {
		return n, err
	}
	// Development is for the connection, which does not leave this machine.
	n.db, err = storage.Open(dialector, storage.Config{Development: true, KEK: kek, Audit: n.journal, Access: n.store, Minimize: minimize.Starter()})
	if err != nil {
		return n, err
	}
	return n, errors.Join(storage.Migrate(ctx, n.db), policystore.Migrate(ctx, n.db), n.store.Open(ctx, n.db))
}

func (n *node) close() (err error) {
	if n.store != nil {
		err = n.store.Close()
	}
	if n.db != nil {
		err = errors.Join(err, storage.Close(n.db))
	}
	if n.journal != nil {
		err = errors.Join(err, n.journal.Close())
	}
	return err
}

// revocation takes a role from one user after the other on one node, each at a
// moment of the poll by chance, and asks another node until that denies.
func revocation(open func(context.Context, string) (func() gorm.Dialector, func() error, error)) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (_ value, err error) {
		dialector, drop, err := open(ctx, dir)
		if err != nil {
			return value{}, err
		}
		defer func() { err = errors.Join(err, drop()) }()
		kek := cryptotest.NewKEK()
		var nodes []*node
		for i := range 2 {
			n, err := newNode(ctx, kek, dialector(), filepath.Join(dir, fmt.Sprintf("node-%d", i)))
			if err != nil {
				return value{}, err
			}
			defer func() { err = errors.Join(err, n.close()) }()
			nodes = append(nodes, n)
		}
		const tenant = "clinic-1"
		rows := policyRows(10_000, 100_000)
		rows.Rules = append(rows.Rules,
			rbac.Rule{Role: "officer", Resources: []string{policystore.Resource}, Actions: []access.Action{access.Update}, Purposes: []access.Purpose{access.SystemAdmin}},
			rbac.Rule{Role: "leaver", Resources: []string{"chart"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}})
		rows.Assignments = append(rows.Assignments, rbac.Assignment{Tenant: tenant, User: "u-officer", Role: "officer"})
		leaver := func(i int) rbac.Assignment {
			return rbac.Assignment{Tenant: tenant, User: fmt.Sprintf("u-leaver-%d", i), Role: "leaver"}
		}
		for i := range revokeRounds {
			rows.Assignments = append(rows.Assignments, leaver(i))
		}
		job, end := access.Job(ctx, access.Principal{ID: "bench", Tenant: tenant, Kind: access.Service}, access.SystemAdmin)
		defer end()
		if _, err := nodes[0].store.Init(job, rows, "bench-1"); err != nil {
			return value{}, err
		}
		allowed := func(user string) (bool, error) {
			as := access.With(ctx, access.Principal{ID: user, Tenant: tenant, Kind: access.Human}, access.Treatment)
			d, err := nodes[1].store.Check(as, access.Request{Action: access.Read, Resources: []access.Resource{{Type: "chart", Tenant: tenant}}})
			return d.AllowAll(1), err
		}
		until := func(user string, want bool) error {
			for begin := time.Now(); ; time.Sleep(time.Millisecond) {
				if got, err := allowed(user); err != nil || got == want {
					return err
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if time.Since(begin) > time.Minute {
					return fmt.Errorf("the other node does not answer %v within a minute", want)
				}
			}
		}
		officer := access.With(ctx, access.Principal{ID: "u-officer", Tenant: tenant, Kind: access.Human}, access.SystemAdmin)
		var took []float64
		for i := range revokeRounds {
			a := leaver(i)
			if err := until(a.User, true); err != nil {
				return value{}, err
			}
			time.Sleep(mathrand.N(revokePoll))
			_, err := nodes[0].store.Apply(officer, policystore.Change{Remove: policystore.Rows{Assignments: []rbac.Assignment{a}}, Reason: audit.ReasonLeft, Reference: "bench-2"})
			if err != nil {
				return value{}, err
			}
			committed := time.Now()
			if err := until(a.User, false); err != nil {
				return value{}, err
			}
			took = append(took, float64(time.Since(committed))/float64(revokePoll))
		}
		return value{median: median(took), best: slices.Min(took), worst: slices.Max(took)}, nil
	}
}
