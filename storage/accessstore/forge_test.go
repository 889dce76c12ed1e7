// SPDX-License-Identifier: Apache-2.0

package accessstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/storagetest"
)

// A forger writes to the tables past the store, as somebody with a password of
// the database, or an injected statement, would.
type forger struct {
	*storagetest.DB
}

func (f forger) do(t *testing.T, sql string, args ...any) {
	t.Helper()
	done := f.Exec(sql, args...)
	if done.Error != nil || done.RowsAffected == 0 {
		t.Fatalf("%s: %d rows, %v", sql, done.RowsAffected, done.Error)
	}
}

// wantForged: a row of the type was found, and is on record once.
func (f forger) wantForged(t *testing.T, what, typ, id string) {
	t.Helper()
	n := 0
	for _, ev := range f.Trail.Events() {
		if ev.Type == audit.PolicyRefused && ev.Reason == audit.ReasonForged && ev.Objects[0].Type == typ && (ev.Objects[0].Record == id || ev.Grant == id) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%s: it is on record %d times", what, n)
	}
}

func TestForgedRelationsAllowNothing(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		f := forger{guarded(t, open(t))}
		store := migrated(t, f.DB.DB).Relations()
		relations, err := relation.New(relation.Config{Store: store, Access: rbac.Starter(), Audit: f.Trail})
		if err != nil {
			t.Fatal(err)
		}
		registrar := accesstest.AsIn(t, t.Context(), "t-1", "registrar", access.PatientAdmin)
		who := access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}}
		reaches := func(patient string) bool {
			t.Helper()
			in, err := relations.Related(who, access.Treatment, time.Now()).Has(t.Context(), "t-1", []string{patient})
			if err != nil {
				t.Fatal(err)
			}
			return in[0]
		}
		until := time.Now().Add(-100 * 24 * time.Hour)
		for i, c := range []struct{ what, sql string }{
			{"another's patient", "UPDATE phi_relations SET patient = 'p-mine' WHERE id = ?"},
			{"another end", "UPDATE phi_relations SET ended = 9223372036854775807 WHERE id = ?"},
			{"not void any more", "UPDATE phi_relations SET void = (1 = 0) WHERE id = ?"},
			{"another kind", "UPDATE phi_relations SET kind = 'PCP', ended = 9223372036854775807 WHERE id = ?"},
			{"another version", "UPDATE phi_relations SET version = version + 1, ended = 9223372036854775807 WHERE id = ?"},
			{"another beginning", "UPDATE phi_relations SET begun = begun - 1, ended = 9223372036854775807 WHERE id = ?"},
			{"another person's", "UPDATE phi_relations SET principal = 'u-1' WHERE id = ?"},
			{"without a MAC", "UPDATE phi_relations SET patient = 'p-mine', mac = '' WHERE id = ?"},
			{"the MAC of another", "UPDATE phi_relations SET patient = 'p-mine', mac = (SELECT m FROM (SELECT mac AS m FROM phi_relations WHERE id = 'r-copy') AS x) WHERE id = ?"},
		} {
			n := relation.Relation{ID: fmt.Sprint("r-", i), Tenant: "t-1", Patient: fmt.Sprint("p-", i), Principal: "u-1", Kind: relation.CareTeam, From: until.Add(-time.Hour), Until: until}
			if strings.Contains(c.sql, "p-mine") {
				n.Until = time.Time{} // a live one, of whom the forger wants
			}
			switch c.what {
			case "not void any more":
				n.Until, n.Void = time.Time{}, true
			case "another person's":
				n.Until, n.Principal = time.Time{}, "u-2"
			}
			if i == 0 {
				other := n
				other.ID, other.Patient = "r-copy", "p-copy"
				if err := store.Add(registrar, other, change(audit.RelationChanged, "t-1", other.ID)); err != nil {
					t.Fatal(err)
				}
			}
			if err := store.Add(registrar, n, change(audit.RelationChanged, "t-1", n.ID)); err != nil {
				t.Fatal(err)
			}
			f.do(t, c.sql, n.ID)
			for range 2 {
				for _, p := range []string{n.Patient, "p-mine"} {
					if reaches(p) {
						t.Errorf("%s: it reaches %s", c.what, p)
					}
				}
			}
			if got, err := store.List(t.Context(), "t-1", relation.Query{ID: n.ID}); err != nil || len(got) != 0 {
				t.Errorf("%s: List = %v, %v", c.what, got, err)
			}
			if err := relations.End(registrar, n.ID, time.Time{}); !errors.Is(err, accessstore.ErrForged) {
				t.Errorf("%s: End = %v, want ErrForged: it would make a MAC for it", c.what, err)
			}
			f.wantForged(t, c.what, relation.Resource, n.ID)
		}
		f.do(t, "INSERT INTO phi_relations (tenant, id, patient, principal, kind, begun, ended, void, version, mac) VALUES ('t-1', 'r-new', 'p-mine', 'u-1', 'CRTM', 0, 9223372036854775807, (1 = 0), 1, 'x')")
		if reaches("p-mine") {
			t.Error("a row that somebody put there reaches its patient")
		}
		f.wantForged(t, "a new row", relation.Resource, "r-new")
	})
}

func TestForgedDirectivesDeny(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		f := forger{guarded(t, open(t))}
		store := migrated(t, f.DB.DB).Directives()
		directives, err := directive.New(directive.Config{Store: store, Access: rbac.Starter(), Audit: f.Trail})
		if err != nil {
			t.Fatal(err)
		}
		officer := accesstest.AsIn(t, t.Context(), "t-1", "privacy-officer", access.Operations)
		who := access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}}
		is := func(set access.Set, id string) bool {
			t.Helper()
			in, err := set.Has(t.Context(), "t-1", []string{id})
			if err != nil {
				t.Fatal(err)
			}
			return in[0]
		}
		for i, sql := range []string{
			"UPDATE phi_directives SET void = (1 = 1) WHERE id = ?",
			"UPDATE phi_directives SET ended = begun WHERE id = ?",
			"UPDATE phi_directives SET begun = begun + 1000000000000 WHERE id = ?",
			"UPDATE phi_directives SET kind = 'hold' WHERE id = ?",
			"UPDATE phi_directives SET roles = 'janitor' WHERE id = ?",
			"UPDATE phi_directives SET recipient = 'plan-1' WHERE id = ?",
			"UPDATE phi_directives SET purposes = 'HMARKT', any_purpose = (1 = 0) WHERE id = ?",
			"UPDATE phi_directives SET types = 'claim', any_type = (1 = 0) WHERE id = ?",
			"UPDATE phi_directives SET record = 'r-9' WHERE id = ?",
			"UPDATE phi_directives SET mac = '' WHERE id = ?",
		} {
			kept, err := directives.Record(officer, directive.Directive{Kind: directive.Restriction, Basis: directive.Agreed, Patient: fmt.Sprint("p-", i), Roles: []string{"nurse"}})
			if err != nil {
				t.Fatal(err)
			}
			f.do(t, sql, kept.ID)
			for range 2 {
				if patients, _ := directives.Restricted(who, access.Treatment, "chart", time.Now()); !is(patients, kept.Patient) {
					t.Errorf("%s: the patient's restriction is gone", sql)
				}
			}
			if err := directives.Void(officer, kept.ID); !errors.Is(err, accessstore.ErrForged) {
				t.Errorf("%s: Void = %v, want ErrForged", sql, err)
			}
			f.wantForged(t, sql, directive.Resource, kept.ID)
		}
		paper := directive.Directive{Kind: directive.Authorization, Patient: "p-paper", Types: []string{"chart"}, Purposes: []access.Purpose{access.Marketing}, Document: "doc-1", Until: time.Now().Add(time.Hour)}
		kept, err := directives.Record(officer, paper)
		if err != nil {
			t.Fatal(err)
		}
		gave := func(patient string) bool {
			needed, of, _ := directives.Authorized(who, access.Marketing, "chart", time.Now())
			return !needed || is(of[0], patient)
		}
		if !gave("p-paper") {
			t.Error("a paper that was recorded does not count")
		}
		if err := directives.End(officer, kept.ID, directive.Revoked); err != nil {
			t.Fatal(err)
		}
		f.do(t, "UPDATE phi_directives SET ended = 9223372036854775807, ending = '', version = 1 WHERE id = ?", kept.ID)
		if gave("p-paper") {
			t.Error("a paper that was revoked, and edited, counts")
		}
		f.do(t, "UPDATE phi_directives SET patient = 'p-other' WHERE id = ?", kept.ID)
		if gave("p-other") {
			t.Error("the paper of one patient counts for another")
		}
		if held, err := directives.Held(t.Context(), "t-1", "p-other"); err != nil || !held {
			t.Errorf("Held = %v, %v: what an edited row was nobody knows, so that nothing is destroyed", held, err)
		}
	})
}

func TestForgedGrantsAllowNothing(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		f := forger{guarded(t, open(t))}
		store := migrated(t, f.DB.DB)
		now := time.Now()
		desk, err := grantDesk(store.Grants(), f.Trail, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		as := func(id string, roles ...string) context.Context {
			return access.With(t.Context(), grantPerson(id, now, roles...), access.Operations)
		}
		live := func(user string) int {
			t.Helper()
			got, err := desk.Live(t.Context(), grantPerson(user, now), now)
			if err != nil {
				t.Fatal(err)
			}
			return len(got)
		}
		for i, sql := range []string{
			"UPDATE phi_grants SET state = 'active' WHERE id = ?",
			"UPDATE phi_grants SET state = 'active', version = version - 1 WHERE id = ?",
			"UPDATE phi_grants SET state = 'active', until_at = until_at + 3600000000000 WHERE id = ?",
			"UPDATE phi_grants SET state = 'active', patient = 'p-9' WHERE id = ?",
			"UPDATE phi_grants SET state = 'active', role = 'admin' WHERE id = ?",
			"UPDATE phi_grants SET state = 'active', purposes = 'TREAT' WHERE id = ?",
			"UPDATE phi_grants SET state = 'active', max_uses = 0, uses = 0 WHERE id = ?",
			"UPDATE phi_grants SET state = 'active', mac = '' WHERE id = ?",
		} {
			user := fmt.Sprint("u-", i)
			g, err := desk.BreakGlass(as(user, "nurse"), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "")
			if err != nil {
				t.Fatal(err)
			}
			if live(user) != 1 {
				t.Fatal("it is not in force")
			}
			if _, err := desk.Revoke(as(user, "nurse"), g.ID); err != nil {
				t.Fatal(err)
			}
			f.do(t, sql, g.ID)
			for range 2 {
				if live(user) != 0 {
					t.Errorf("%s: it is in force again", sql)
				}
			}
			if _, err := desk.Revoke(as(user, "nurse"), g.ID); !errors.Is(err, grant.ErrNotFound) {
				t.Errorf("%s: Revoke = %v", sql, err)
			}
			f.wantForged(t, sql, "grant", g.ID)
			again, err := desk.BreakGlass(as(user, "nurse"), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "")
			if err != nil || again.ID == g.ID {
				t.Errorf("%s: a forged grant keeps somebody from a true one: %v", sql, err)
			}
		}

		// Moved to somebody else.
		g, err := desk.BreakGlass(as("u-20", "nurse"), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "")
		if err != nil {
			t.Fatal(err)
		}
		f.do(t, "UPDATE phi_grants SET holder = 'u-21' WHERE id = ?", g.ID)
		if live("u-21") != 0 || live("u-20") != 0 {
			t.Error("a grant that was moved is in force")
		}
		if n, err := store.Terminate(as("u-officer", "officer"), f.DB.DB, grantTenant, "u-21", now); n != 1 || err != nil {
			t.Errorf("Terminate of who has a forged grant = %d, %v", n, err)
		}

		// An approval that nobody gave.
		r, err := desk.Request(as("u-30", "front-desk"), grant.Request{Role: "records-clerk", Reason: audit.ReasonIndividual})
		if err != nil {
			t.Fatal(err)
		}
		f.do(t, "INSERT INTO phi_grant_steps (tenant, grant_id, n, act, by_id, by_kind, by_roles, by_session, assurance, auth_time, addr, done_at, reason, approvals, owed, mac) SELECT tenant, grant_id, 1, 'approve', 'u-officer', by_kind, by_roles, by_session, assurance, auth_time, addr, done_at, reason, 1, 0, mac FROM phi_grant_steps WHERE grant_id = ?", r.ID)
		got, err := store.Grants().Grant(t.Context(), grantTenant, r.ID)
		if err != nil || len(got.Steps) != 1 {
			t.Errorf("the steps of a request: %v, %v", got.Steps, err)
		}
		f.wantForged(t, "a step", "grant", r.ID)
		f.do(t, "UPDATE phi_grants SET state = 'active', from_at = created WHERE id = ?", r.ID)
		if roles, err := desk.Elevated(t.Context(), grantTenant, "u-30"); err != nil || len(roles) != 0 || live("u-30") != 0 {
			t.Errorf("a request that was edited to be in force gives %v, %v", roles, err)
		}
	})
}

// TestWithoutAKeyNothingIsAllowed: a store in a database that storage does not
// guard has no key for its MACs.
func TestWithoutAKeyNothingIsAllowed(t *testing.T) {
	t.Parallel()
	db := plain(t, openSQLite(t))
	s := migrated(t, db)
	registrar := accesstest.AsIn(t, t.Context(), "t-1", "registrar", access.PatientAdmin)
	r := relation.Relation{ID: "r-1", Tenant: "t-1", Patient: "p-1", Principal: "u-1", Kind: relation.CareTeam, From: time.Now()}
	if err := s.Relations().Add(registrar, r, change(audit.RelationChanged, "t-1", "r-1")); err == nil {
		t.Error("a relation is kept without a MAC")
	}
	if err := db.Exec("INSERT INTO phi_relations (tenant, id, patient, principal, kind, begun, ended, void, version, mac) VALUES ('t-1', 'r-1', 'p-1', 'u-1', 'CRTM', 0, 9223372036854775807, 0, 1, '')").Error; err != nil {
		t.Fatal(err)
	}
	set := s.Relations().Set(relation.Reach{Tenant: "t-1", Principal: "u-1", At: time.Now(), Kinds: map[relation.Kind]relation.Window{relation.CareTeam: {}}})
	if in, err := set.Has(t.Context(), "t-1", []string{"p-1"}); err == nil {
		t.Errorf("Has = %v", in)
	}
}

// TestAChangeIsThereWithItsRecord: a relation and its event are one transaction.
// What the app rolls back is not there, and the trail says so.
func TestAChangeIsThereWithItsRecord(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		db := guarded(t, open(t))
		store := migrated(t, db.DB).Relations()
		relations, err := relation.New(relation.Config{Store: store, Access: rbac.Starter(), Audit: db.Trail})
		if err != nil {
			t.Fatal(err)
		}
		registrar := accesstest.AsIn(t, t.Context(), "t-1", "registrar", access.PatientAdmin)
		n := relation.Relation{Patient: "p-1", Principal: "u-1", Kind: relation.CareTeam}
		kept, err := relations.Add(registrar, n)
		if err != nil {
			t.Fatal(err)
		}
		if err := storage.Settle(t.Context(), db.DB); err != nil {
			t.Fatal(err)
		}
		audittest.Want(t, db.Trail, audit.Event{Type: audit.RelationChanged, Action: access.Create, Objects: []audit.Object{{Type: relation.Resource, Record: kept.ID, Patient: "p-1", Version: 1}}},
			audit.Event{Type: audit.Committed})
		undo := errors.New("undo")
		err = db.WithContext(registrar).Transaction(func(tx *gorm.DB) error {
			if _, err := relations.Add(storage.InTx(registrar, tx), n); err != nil {
				return err
			}
			return errors.Join(undo, relations.End(storage.InTx(registrar, tx), kept.ID, time.Time{}))
		})
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
		if got, err := store.List(t.Context(), "t-1", relation.Query{}); err != nil || len(got) != 1 || !got[0].Until.IsZero() || got[0].Version != 1 {
			t.Errorf("List = %+v, %v", got, err)
		}
		undone := 0
		for _, ev := range db.Trail.Events() {
			if ev.Type == audit.RolledBack {
				undone++
			}
		}
		if undone != 2 {
			t.Errorf("%d of the two are on record as rolled back", undone)
		}
	})
}
