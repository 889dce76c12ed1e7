// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	glebarez "github.com/glebarez/sqlite"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/policystore"
	"github.com/part164/part164/storage/storagetest"
)

const (
	tenant = "t-1"
	other  = "t-2"
)

// A world is a store on a database of the test's own.
type world struct {
	*policystore.Store
	db    *storagetest.DB
	clock *clock
}

// A clock can be set forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// onEach runs f on each database that is there.
func onEach(t *testing.T, f func(t *testing.T, d gorm.Dialector)) {
	for _, db := range []struct {
		name string
		open func(t *testing.T) gorm.Dialector
	}{
		{"SQLite", sqliteFile},
		{"PostgreSQL", postgresSchema},
		{"MariaDB", mariaDatabase},
	} {
		t.Run(db.name, func(t *testing.T) {
			t.Parallel()
			f(t, db.open(t))
		})
	}
}

func sqliteFile(t *testing.T) gorm.Dialector {
	return glebarez.Open("file:" + filepath.Join(t.TempDir(), "app.db") +
		"?_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=foreign_keys(1)&_txlock=immediate")
}

func service(t *testing.T, env, name string) string {
	t.Helper()
	dsn := os.Getenv(env)
	if dsn == "" {
		t.Skipf("needs %s: set %s", name, env)
	}
	return dsn
}

func postgresSchema(t *testing.T) gorm.Dialector {
	dsn := service(t, "PART164_TEST_POSTGRES", "PostgreSQL")
	schema := randomName()
	admin(t, postgres.Open(dsn), "CREATE SCHEMA "+schema, "DROP SCHEMA "+schema+" CASCADE")
	if strings.Contains(dsn, "://") {
		sep := "?"
		if strings.Contains(dsn, "?") {
			sep = "&"
		}
		return postgres.Open(dsn + sep + "search_path=" + schema)
	}
	return postgres.Open(dsn + " search_path=" + schema)
}

var databaseName = regexp.MustCompile(`/[^/?]*(\?|$)`)

func mariaDatabase(t *testing.T) gorm.Dialector {
	dsn := service(t, "PART164_TEST_MARIADB", "MariaDB")
	name := randomName()
	admin(t, mysql.Open(dsn), "CREATE DATABASE "+name, "DROP DATABASE "+name)
	at := databaseName.FindAllStringIndex(dsn, -1)
	cut := at[len(at)-1]
	return mysql.Open(dsn[:cut[0]] + databaseName.ReplaceAllString(dsn[cut[0]:], "/"+name+"$1"))
}

func admin(t *testing.T, d gorm.Dialector, begin, end string) {
	t.Helper()
	run := func(sql string) {
		db, err := gorm.Open(d, &gorm.Config{Logger: logger.Discard})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Exec(sql).Error; err != nil {
			t.Errorf("%s: %v", sql, err)
		}
		if c, err := db.DB(); err == nil {
			c.Close()
		}
	}
	run(begin)
	t.Cleanup(func() { run(end) })
}

func randomName() string {
	b := make([]byte, 6)
	rand.Read(b)
	return "policy_" + hex.EncodeToString(b)
}

// newWorld opens a store on d, without a policy.
func newWorld(t *testing.T, d gorm.Dialector, change func(*policystore.Config)) *world {
	t.Helper()
	w := &world{clock: &clock{}}
	w.db = storagetest.Open(t, d, nil)
	if err := policystore.Migrate(t.Context(), w.db.DB); err != nil {
		t.Fatal(err)
	}
	w.Store = w.join(t, change)
	return w
}

// join opens one more store on the same database, as another process would.
func (w *world) join(t *testing.T, change func(*policystore.Config)) *policystore.Store {
	t.Helper()
	s, err := policystore.New(w.config(change))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context(), w.db.DB); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (w *world) config(change func(*policystore.Config)) policystore.Config {
	cfg := policystore.Config{Audit: w.db.Trail, Operator: tenant, Poll: 20 * time.Millisecond, MaxStale: time.Minute, Wait: time.Minute, Now: w.clock.Now}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// first is the first policy of these tests: alice writes policies, bob and
// carol approve them, nora is a nurse.
func first() policystore.Rows {
	all := []access.Purpose{access.SystemAdmin}
	return policystore.Rows{
		Rules: []rbac.Rule{
			{Role: "security", Resources: []string{"policy"}, Actions: []access.Action{access.Read, access.Update}, Purposes: all},
			{Role: "approver", Resources: []string{"policy"}, Actions: []access.Action{access.Read, policystore.Approve}, Purposes: all},
			{Role: "nurse", Resources: []string{"patient"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment, access.BreakGlass, access.EmergencyTreatment}},
		},
		Links: []rbac.Link{{Role: "charge-nurse", Inherits: "nurse"}},
		Assignments: []rbac.Assignment{
			{Tenant: tenant, User: "u-alice", Role: "security"}, {Tenant: tenant, User: "u-bob", Role: "approver"},
			{Tenant: tenant, User: "u-carol", Role: "approver"}, {Tenant: tenant, User: "u-carol", Role: "security"},
			{Tenant: tenant, User: "u-nora", Role: "nurse"}, {Tenant: other, User: "u-olga", Role: "security"},
			{Tenant: other, User: "u-oscar", Role: "approver"},
		},
	}
}

// as is a context of a user without roles of its own.
func as(t *testing.T, user string, purpose access.Purpose) context.Context {
	in := tenant
	if strings.HasPrefix(user, "u-o") {
		in = other
	}
	return access.With(t.Context(), access.Principal{ID: user, Tenant: in, Kind: access.Human}, purpose)
}

func job(t *testing.T) context.Context {
	ctx, end := access.Job(t.Context(), access.Principal{ID: "deploy", Tenant: tenant, Kind: access.Service}, access.SystemAdmin)
	t.Cleanup(end)
	return ctx
}

// initiated is newWorld with the first policy.
func initiated(t *testing.T, d gorm.Dialector, change func(*policystore.Config)) *world {
	t.Helper()
	w := newWorld(t, d, change)
	if n, err := w.Init(job(t), first(), "deploy-1"); err != nil || n != 1 {
		t.Fatalf("Init = %d, %v", n, err)
	}
	return w
}

// code is what s answers: nora reads a patient, by default.
func code(t *testing.T, s access.Authorizer, ctx context.Context, action access.Action, resource string) access.Code {
	t.Helper()
	p, _ := access.PrincipalFrom(ctx)
	d, err := s.Check(ctx, access.Request{Action: action, Resources: []access.Resource{{Type: resource, Tenant: p.Tenant}}})
	if err != nil {
		return access.Code(err.Error())
	}
	f, ferr := s.Filter(ctx, action, resource)
	if d.AllowAll(1) != (ferr == nil && f.AllSubjects) {
		t.Errorf("Check says %v, Filter %v, %v", d.Verdicts, f, ferr)
	}
	return d.Verdicts[0].Code
}

func (w *world) nora(t *testing.T) access.Code {
	t.Helper()
	return code(t, w.Store, as(t, "u-nora", access.Treatment), access.Read, "patient")
}

// eventually waits for a condition, generously.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never came: " + what)
		}
	}
}

func give(user, role string) policystore.Change {
	return policystore.Change{Add: policystore.Rows{Assignments: []rbac.Assignment{{Tenant: tenant, User: user, Role: role}}}, Reason: audit.ReasonJoined, Reference: "ticket-1"}
}

func take(user, role string) policystore.Change {
	return policystore.Change{Remove: policystore.Rows{Assignments: []rbac.Assignment{{Tenant: tenant, User: user, Role: role}}}, Reason: audit.ReasonMoved, Reference: "ticket-2"}
}

func propose(t *testing.T, s *policystore.Store, user string, c policystore.Change) string {
	t.Helper()
	id, err := s.Propose(as(t, user, access.SystemAdmin), c)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestMigrationsRunTwice(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := newWorld(t, d, nil)
		if err := policystore.Migrate(t.Context(), w.db.DB); err != nil {
			t.Error(err)
		}
	})
}

// TestAChangeOfAnotherProcessComesIntoForce: given by one store, seen by
// another; taken away, seen again. Both kinds of load.
func TestAChangeOfAnotherProcessComesIntoForce(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := initiated(t, d, nil)
		second := w.join(t, nil)
		if got := w.nora(t); got != access.AllowRule {
			t.Fatalf("nora reads: %s", got)
		}
		fay := func(s access.Authorizer) access.Code {
			return code(t, s, as(t, "u-fay", access.Treatment), access.Read, "patient")
		}
		if got := fay(second); got != access.DenyNoRule {
			t.Fatalf("fay, who has no role: %s", got)
		}
		id := propose(t, w.Store, "u-alice", give("u-fay", "charge-nurse"))
		if got := fay(w); got != access.DenyNoRule {
			t.Errorf("a proposal is in force: %s", got)
		}
		n, err := second.Approve(as(t, "u-bob", access.SystemAdmin), id)
		if err != nil || n != 2 {
			t.Fatalf("Approve = %d, %v", n, err)
		}
		if got := fay(second); got != access.AllowRule {
			t.Errorf("where it was approved: %s", got)
		}
		eventually(t, "the role in the other process", func() bool { return fay(w) == access.AllowRule })
		if n, err = w.Apply(as(t, "u-alice", access.SystemAdmin), take("u-fay", "charge-nurse")); err != nil || n != 3 {
			t.Fatalf("Apply = %d, %v", n, err)
		}
		if got := fay(w); got != access.DenyNoRule {
			t.Errorf("where it was taken away: %s", got)
		}
		eventually(t, "the revocation in the other process", func() bool { return fay(second) == access.DenyNoRule })
		third := w.join(t, nil)
		if got := fay(third); third.Current() != 3 || got != access.DenyNoRule {
			t.Errorf("a process that starts: revision %d, %s", third.Current(), got)
		}
		if err := storage.Settle(t.Context(), w.db.DB); err != nil {
			t.Fatal(err)
		}
		v, err := w.Verify(as(t, "u-alice", access.SystemAdmin), w.db.Trail)
		if err != nil || !v.OK() || v.Revision != 3 {
			t.Errorf("Verify = %+v, %v", v, err)
		}
	})
}

// TestEveryChangeIsRecorded: an attempt before, its end after, and nothing in
// between is left open.
func TestEveryChangeIsRecorded(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	id := propose(t, w.Store, "u-alice", give("u-fay", "nurse"))
	if _, err := w.Approve(as(t, "u-bob", access.SystemAdmin), id); err != nil {
		t.Fatal(err)
	}
	if err := storage.Settle(t.Context(), w.db.DB); err != nil {
		t.Fatal(err)
	}
	var types, committed []string
	for _, ev := range w.db.Trail.Events() {
		switch ev.Type {
		case audit.PolicyChanged:
			types = append(types, string(ev.Action)+" "+string(ev.Reason)+" by "+ev.Actor.ID)
			for _, o := range ev.Objects {
				types = append(types, o.Type+" "+o.Record)
			}
		case audit.Committed:
			committed = append(committed, ev.Attempt)
		}
	}
	text := strings.Join(types, "\n")
	for _, want := range []string{
		"create migration by deploy", "update pending by u-alice", "update joined by u-bob", "policy " + id, "author u-alice", "approver u-bob", "user u-fay",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if len(committed) != 3 {
		t.Errorf("%d changes committed, want 3", len(committed))
	}
	audittest.Want(t, w.db.Trail, audit.Event{Type: audit.PolicyChanged, Outcome: audit.Success, Reason: audit.ReasonJoined})
}
