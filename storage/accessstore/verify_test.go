// SPDX-License-Identifier: Apache-2.0

package accessstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
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

// A verified is a database whose tables are held against its trail.
type verified struct {
	*testing.T
	forger
	raw        *gorm.DB // past storage
	store      *accessstore.Store
	relations  *relation.Relations
	directives *directive.Directives
	desk       *grant.Desk
	now        time.Time
	want       map[accessstore.Finding]bool // so far
}

func newVerified(t *testing.T, d gorm.Dialector, trail audit.Trail) *verified {
	t.Helper()
	v := &verified{T: t, raw: plain(t, d), now: time.Now(), want: map[accessstore.Finding]bool{}}
	v.DB = storagetest.Open(t, d, func(cfg *storage.Config) {
		if trail != nil {
			cfg.Audit = trail
		} else {
			trail = cfg.Audit
		}
	})
	v.store = migrated(t, v.DB.DB)
	var err error
	if v.relations, err = relation.New(relation.Config{Store: v.store.Relations(), Access: rbac.Starter(), Audit: trail}); err != nil {
		t.Fatal(err)
	}
	if v.directives, err = directive.New(directive.Config{Store: v.store.Directives(), Access: rbac.Starter(), Audit: trail}); err != nil {
		t.Fatal(err)
	}
	if v.desk, err = grantDesk(v.store.Grants(), trail, time.Now); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *verified) must(err error) {
	v.Helper()
	if err != nil {
		v.Fatal(err)
	}
}

func (v *verified) registrar(tenant string) context.Context {
	return accesstest.AsIn(v.T, v.Context(), tenant, "registrar", access.PatientAdmin)
}

func (v *verified) officer() context.Context {
	return accesstest.AsIn(v.T, v.Context(), grantTenant, "privacy-officer", access.Operations)
}

func (v *verified) as(id string, roles ...string) context.Context {
	return access.With(v.Context(), grantPerson(id, v.now, roles...), access.Operations)
}

func (v *verified) related(tenant, patient string) string {
	v.Helper()
	n, err := v.relations.Add(v.registrar(tenant), relation.Relation{Patient: patient, Principal: "u-1", Kind: relation.CareTeam})
	v.must(err)
	return n.ID
}

func (v *verified) restricted(patient string) string {
	v.Helper()
	n, err := v.directives.Record(v.officer(), directive.Directive{Kind: directive.Restriction, Basis: directive.Agreed, Patient: patient, Roles: []string{"nurse", "billing"}})
	v.must(err)
	return n.ID
}

func (v *verified) broken(nurse string) string {
	v.Helper()
	g, err := v.desk.BreakGlass(v.as(nurse, "nurse"), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "")
	v.must(err)
	return g.ID
}

// keep reads rows as they are, and put makes them all that is there of the ID.
func (v *verified) keep(table, column, id string) (rows []map[string]any) {
	v.Helper()
	v.must(v.raw.Table(table).Where(column+" = ?", id).Find(&rows).Error)
	if len(rows) == 0 {
		v.Fatalf("%s has no %s", table, id)
	}
	return rows
}

func (v *verified) put(table, column, id string, rows []map[string]any) {
	v.Helper()
	v.must(v.raw.Exec("DELETE FROM "+table+" WHERE "+column+" = ?", id).Error)
	for _, row := range rows {
		v.must(v.raw.Table(table).Create(maps.Clone(row)).Error)
	}
}

func (v *verified) verify(tenant string, others ...audit.History) *accessstore.Verification {
	v.Helper()
	ctx, end := access.Job(v.Context(), access.Principal{ID: "checker", Tenant: tenant, Kind: access.Service, Roles: []string{"maintenance"}}, access.SystemAdmin)
	defer end()
	got, err := v.store.Verify(ctx, others...)
	v.must(err)
	return got
}

// finds adds to what Verify must find from now on, and to nothing else.
func (v *verified) finds(what string, more ...accessstore.Finding) {
	v.Helper()
	for _, f := range more {
		v.want[f] = true
	}
	var got []accessstore.Finding
	for _, tenant := range []string{grantTenant, "t-2"} {
		got = append(got, v.verify(tenant).Findings...)
	}
	for _, f := range got {
		if !v.want[f] {
			v.Errorf("%s: found %+v", what, f)
		}
	}
	for f := range v.want {
		if !slices.Contains(got, f) {
			v.Errorf("%s: not found: %+v", what, f)
			delete(v.want, f)
		}
	}
}

func TestVerifyNamesWhatSQLDid(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		v := newVerified(t, open(t), nil)
		found := func(kind, table, id string) accessstore.Finding {
			return accessstore.Finding{Kind: kind, Table: table, Tenant: grantTenant, ID: id}
		}
		v.related("t-2", "p-9")
		v.related(grantTenant, "p-9")
		v.restricted("p-9")
		v.broken("u-90")
		v.finds("before")

		// Deleted.
		id := v.restricted("p-1")
		v.do(t, "DELETE FROM phi_directives WHERE id = ?", id)
		v.finds("a restriction is deleted", found(accessstore.RowDeleted, "phi_directives", id))
		id = v.related(grantTenant, "p-1")
		v.do(t, "DELETE FROM phi_relations WHERE id = ?", id)
		v.finds("a relation is deleted", found(accessstore.RowDeleted, "phi_relations", id))
		id = v.broken("u-1")
		v.do(t, "DELETE FROM phi_grants WHERE id = ?", id)
		v.finds("a broken glass is deleted", found(accessstore.RowDeleted, "phi_grants", id))
		id = v.broken("u-2")
		v.do(t, "DELETE FROM phi_grant_steps WHERE grant_id = ?", id)
		v.finds("who broke the glass is deleted", found(accessstore.RowDeleted, "phi_grant_steps", id))
		id = v.restricted("p-2")
		v.do(t, "DELETE FROM phi_directive_terms WHERE directive = ? AND value = 'nurse'", id)
		v.finds("a restriction's role is deleted", found(accessstore.RowDeleted, "phi_directive_terms", id))
		id = v.restricted("p-3")
		v.do(t, "UPDATE phi_directive_terms SET value = 'janitor' WHERE directive = ? AND value = 'nurse'", id)
		v.finds("a restriction's role is another", found(accessstore.RowDeleted, "phi_directive_terms", id), found(accessstore.RowForged, "phi_directive_terms", id))

		// Put back as it was.
		id = v.related(grantTenant, "p-4")
		was := v.keep("phi_relations", "id", id)
		v.must(v.relations.End(v.registrar(grantTenant), id, time.Time{}))
		v.put("phi_relations", "id", id, was)
		v.finds("an ended relation goes on", found(accessstore.RowRestored, "phi_relations", id))
		n, err := v.directives.Record(v.officer(), directive.Directive{Kind: directive.Consent, Patient: "p-5", Purposes: []access.Purpose{access.Marketing}})
		v.must(err)
		was = v.keep("phi_directives", "id", n.ID)
		v.must(v.directives.End(v.officer(), n.ID, directive.Revoked))
		v.put("phi_directives", "id", n.ID, was)
		v.finds("a revoked consent is back", found(accessstore.RowRestored, "phi_directives", n.ID))
		id = v.broken("u-3")
		was, steps := v.keep("phi_grants", "id", id), v.keep("phi_grant_steps", "grant_id", id)
		_, err = v.desk.Revoke(v.as("u-3", "nurse"), id)
		v.must(err)
		v.put("phi_grants", "id", id, was)
		v.finds("a revoked grant is in force", found(accessstore.RowRestored, "phi_grants", id))
		v.put("phi_grant_steps", "grant_id", id, steps)
		v.finds("and its end is gone", found(accessstore.RowDeleted, "phi_grant_steps", id))
		id = v.broken("u-4")
		_, err = v.desk.Revoke(v.as("u-4", "nurse"), id)
		v.must(err)
		was = v.keep("phi_grants", "id", id)
		_, err = v.desk.Review(v.as("u-officer", "officer"), id, audit.ReasonViolation)
		v.must(err)
		v.put("phi_grants", "id", id, was)
		v.finds("a finding is gone", found(accessstore.RowRestored, "phi_grants", id))

		g, err := v.desk.Request(v.as("u-8", "front-desk"), grant.Request{Role: "records-clerk", Reason: audit.ReasonCovering})
		v.must(err)
		was = v.keep("phi_grants", "id", g.ID)
		_, err = v.desk.Approve(v.as("u-officer", "officer"), g.ID)
		v.must(err)
		v.put("phi_grants", "id", g.ID, was)
		v.finds("an approved request waits again", found(accessstore.RowRestored, "phi_grants", g.ID))
		_, err = v.desk.Approve(v.as("u-officer-2", "officer"), g.ID)
		v.must(err)
		v.finds("and is approved anew", found(accessstore.RowRestored, "phi_grants", g.ID))

		// Not written by the store.
		id = v.related(grantTenant, "p-6")
		was = v.keep("phi_relations", "id", id)
		was[0]["id"] = "r-copied"
		v.must(v.raw.Table("phi_relations").Create(was[0]).Error)
		v.finds("a copy under another ID", found(accessstore.RowForged, "phi_relations", "r-copied"))
		mine, other := v.related(grantTenant, "p-7"), v.related("t-2", "p-7")
		v.do(t, "UPDATE phi_relations SET tenant = 't-x' WHERE id = ?", mine)
		v.do(t, "UPDATE phi_relations SET tenant = ? WHERE id = ?", grantTenant, other)
		v.do(t, "UPDATE phi_relations SET tenant = 't-2' WHERE id = ?", mine)
		v.finds("two rows have changed tenants", found(accessstore.RowDeleted, "phi_relations", mine), found(accessstore.RowForged, "phi_relations", other),
			accessstore.Finding{Kind: accessstore.RowDeleted, Table: "phi_relations", Tenant: "t-2", ID: other},
			accessstore.Finding{Kind: accessstore.RowForged, Table: "phi_relations", Tenant: "t-2", ID: mine})
		id = v.broken("u-5")
		v.do(t, "UPDATE phi_grants SET patient = 'p-8' WHERE id = ?", id)
		v.finds("another patient's grant", found(accessstore.RowForged, "phi_grants", id))
		id = v.broken("u-6")
		v.do(t, "UPDATE phi_grant_steps SET reason = 'disaster' WHERE grant_id = ?", id)
		v.finds("another reason", found(accessstore.RowForged, "phi_grant_steps", id), found(accessstore.RowDeleted, "phi_grant_steps", id))

		// Written, and kept from the trail.
		v.Trail.Fail(errors.New("down"))
		id = ""
		if g, err := v.desk.BreakGlass(v.as("u-7", "nurse"), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, ""); err == nil {
			t.Error("the glass was broken without a trail")
		} else {
			id = g.ID
		}
		v.Trail.Fail(nil)
		v.do(t, "UPDATE phi_grant_steps SET owed = 0 WHERE grant_id = ?", id)
		v.finds("a step that nobody records", found(accessstore.RowUnrecorded, "phi_grants", id))
		id = v.broken("u-10")
		v.Trail.Fail(errors.New("down"))
		if _, err := v.desk.Revoke(v.as("u-10", "nurse"), id); err == nil {
			t.Error("a grant was ended without a trail")
		}
		v.Trail.Fail(nil)
		v.finds("a step that is about to be recorded")
		v.do(t, "UPDATE phi_grant_steps SET owed = 9000000000000000000 WHERE grant_id = ? AND owed <> 0", id)
		v.finds("a step that is to be recorded in 2255", found(accessstore.RowUnrecorded, "phi_grant_steps", id))
		earlier, err := grantDesk(v.store.Grants(), v.Trail, func() time.Time { return v.now.Add(-2 * time.Hour) })
		v.must(err)
		id = v.broken("u-11")
		v.Trail.Fail(errors.New("down"))
		if _, err := earlier.Revoke(v.as("u-11", "nurse"), id); err == nil {
			t.Error("a grant was ended without a trail")
		}
		v.Trail.Fail(nil)
		v.do(t, "UPDATE phi_grant_steps SET owed = ? WHERE grant_id = ? AND owed <> 0", time.Now().UnixNano(), id)
		v.finds("a step that waits for two hours, and says that it waits since now", found(accessstore.RowUnrecorded, "phi_grant_steps", id))
		// A step that is recorded once the grant is over.
		g, err = v.desk.Request(v.as("u-12", "front-desk"), grant.Request{Role: "records-clerk", Reason: audit.ReasonCovering})
		v.must(err)
		v.Trail.Fail(errors.New("down"))
		if _, err := v.desk.Approve(v.as("u-officer", "officer"), g.ID); err == nil {
			t.Error("a grant was approved without a trail")
		}
		_, _ = v.desk.Revoke(v.as("u-12", "front-desk"), g.ID)
		v.Trail.Fail(nil)
		_, err = v.desk.Revoke(v.as("u-12", "front-desk"), g.ID)
		v.must(err)
		v.finds("an approval that was recorded after the end")
		// A transaction that was undone, and its row put there all the same.
		var undone string
		undo := errors.New("undo")
		err = v.DB.WithContext(v.registrar(grantTenant)).Transaction(func(tx *gorm.DB) error {
			n, err := v.relations.Add(storage.InTx(v.registrar(grantTenant), tx), relation.Relation{Patient: "p-8", Principal: "u-1", Kind: relation.CareTeam})
			v.must(err)
			undone = n.ID
			v.must(tx.Table("phi_relations").Where("id = ?", undone).Find(&was).Error)
			return undo
		})
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
		v.must(v.raw.Table("phi_relations").Create(was[len(was)-1]).Error)
		v.finds("a row of what was undone", found(accessstore.RowUnrecorded, "phi_relations", undone))

		// A change that was undone, in the place of another that was made.
		id = v.related(grantTenant, "p-10")
		ctx := v.registrar(grantTenant)
		was = nil
		if err = v.DB.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			v.must(v.relations.End(storage.InTx(ctx, tx), id, v.now.Add(24*time.Hour)))
			v.must(tx.Table("phi_relations").Where("id = ?", id).Find(&was).Error)
			return undo
		}); !errors.Is(err, undo) {
			t.Fatal(err)
		}
		v.must(v.relations.Void(ctx, id))
		v.put("phi_relations", "id", id, was)
		v.finds("a change of what was undone", found(accessstore.RowUnrecorded, "phi_relations", id))

		checked := 0
		for _, ev := range v.Trail.Events() {
			if ev.Type == audit.Checked && ev.Outcome == audit.Failure && ev.Count > 0 && len(ev.Objects) > 0 {
				checked++
			}
		}
		if checked == 0 {
			t.Error("what was found is not on record")
		}
	})
}

// TestVerifyIsForWhoMaintains: it is refused to others, and where the trail cannot
// be read.
func TestVerifyIsForWhoMaintains(t *testing.T) {
	t.Parallel()
	v := newVerified(t, openSQLite(t), nil)
	for name, ctx := range map[string]context.Context{"nobody": t.Context(), "an officer": v.officer(), "a registrar": v.registrar(grantTenant)} {
		if _, err := v.store.Verify(ctx); err == nil {
			t.Errorf("%s verifies", name)
		}
	}
	job, end := access.Job(t.Context(), access.Principal{ID: "checker", Tenant: grantTenant, Kind: access.Service, Roles: []string{"maintenance"}}, access.SystemAdmin)
	defer end()
	if _, err := v.store.Verify(job, nil); err == nil {
		t.Error("against no trail")
	}
	v.Trail.Fail(errors.New("down"))
	if _, err := v.store.Verify(job); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("what cannot be recorded: %v", err)
	}
}

// TestVerifyFindsNothingInWhatWasWritten: after many changes, some of them undone,
// nothing is found; a row that another process has changed is known from its
// journal only; and one that is deleted is named by the journal's pseudonym.
func TestVerifyFindsNothingInWhatWasWritten(t *testing.T) {
	t.Parallel()
	changes := 200
	if os.Getenv("PART164_TEST_LONG") != "" {
		changes = 1000
	}
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		var journals [2]*audit.Journal
		for i := range journals {
			var err error
			journals[i], err = audit.Open(filepath.Join(audittest.Dir(t), "journal"), audit.Config{Development: true, Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = journals[i].Close() })
		}
		journal, d := journals[0], open(t)
		v := newVerified(t, d, journal)
		rnd := rand.New(rand.NewPCG(164, 5))
		var rel, dir, gr []string
		undo := errors.New("undo")
		pick := func(ids []string) string { return ids[rnd.IntN(len(ids))] }
		for i := range changes {
			var err error
			switch n := rnd.IntN(10); {
			case n < 2 || len(rel)*len(dir)*len(gr) == 0:
				rel, dir = append(rel, v.related(grantTenant, fmt.Sprint("p-", i))), append(dir, v.restricted(fmt.Sprint("p-", i)))
				gr = append(gr, v.broken(fmt.Sprint("u-", i)))
			case n < 4:
				err = v.relations.End(v.registrar(grantTenant), pick(rel), time.Time{})
			case n < 5:
				err = v.relations.Void(v.registrar(grantTenant), pick(rel))
			case n < 6:
				err = v.directives.End(v.officer(), pick(dir), directive.Revoked)
			case n < 7:
				err = v.directives.Void(v.officer(), pick(dir))
			case n < 8:
				_, err = v.desk.Revoke(v.as("u-officer", "officer"), pick(gr))
			case n < 9:
				if _, err = v.desk.Review(v.as("u-officer", "officer"), pick(gr), audit.ReasonExplained); errors.Is(err, grant.ErrState) {
					err = nil
				}
			default:
				ctx := v.registrar(grantTenant)
				if err = v.DB.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
					if err := v.relations.End(storage.InTx(ctx, tx), pick(rel), time.Time{}); err != nil {
						return err
					}
					return undo
				}); errors.Is(err, undo) {
					err = nil
				}
			}
			v.must(err)
		}
		got := v.verify(grantTenant)
		if !got.OK() || got.Rows != int64(len(rel)+len(dir)+len(gr)) || got.Changes < int64(changes) {
			t.Errorf("Verify = %+v", got)
		}
		second, err := v.DB.Reopen(d, func(cfg *storage.Config) { cfg.Audit = journals[1] })
		v.must(err)
		t.Cleanup(func() { _ = storage.Close(second) })
		store := accessstore.New(second)
		v.must(store.Relations().Change(v.registrar(grantTenant), grantTenant, rel[0], func(r *relation.Relation) error { r.Void = true; return nil },
			func(r relation.Relation) audit.Event { return change(audit.RelationChanged, grantTenant, r.ID) }))
		v.must(storage.Settle(t.Context(), second))
		if got = v.verify(grantTenant); len(got.Findings) != 1 || got.Findings[0].Kind != accessstore.RowUnrecorded || got.Findings[0].ID != rel[0] {
			t.Errorf("without the other's journal: %+v", got)
		}
		if got = v.verify(grantTenant, journals[1]); !got.OK() || got.Trails != 2 {
			t.Errorf("with it: %+v", got)
		}
		v.do(t, "DELETE FROM phi_directives WHERE id = ?", dir[0])
		if got = v.verify(grantTenant, journals[1]); len(got.Findings) != 1 || got.Findings[0].ID != journal.Pseudonym(grantTenant, dir[0]) || got.Findings[0].ID == dir[0] {
			t.Errorf("Verify = %+v", got)
		}
	})
}

// TestVerifyAfterAPurge: what the trail has lost to its time of retention is no
// finding, and what it has kept is one.
func TestVerifyAfterAPurge(t *testing.T) {
	t.Parallel()
	const kept = 7 * 366 * 24 * time.Hour
	var ago atomic.Int64
	ago.Store(int64(kept))
	journal, err := audit.Open(filepath.Join(audittest.Dir(t), "journal"), audit.Config{
		Development: true, SegmentSize: 256 << 10, Timeout: time.Minute, Now: func() time.Time { return time.Now().Add(-time.Duration(ago.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = journal.Close() })
	v := newVerified(t, openSQLite(t), journal)
	old, ended, revoked := v.related(grantTenant, "p-1"), v.related(grantTenant, "p-2"), v.restricted("p-1")
	wasEnded, wasRevoked := v.keep("phi_relations", "id", ended), v.keep("phi_directives", "id", revoked)
	v.must(v.relations.End(v.registrar(grantTenant), ended, time.Time{}))
	v.must(v.directives.End(v.officer(), revoked, directive.Revoked))
	v.broken("u-1")
	v.must(storage.Settle(t.Context(), v.DB.DB))
	many := make([]audit.Object, 1000)
	for i := range many {
		id := fmt.Sprint("r-", i)
		many[i] = audit.Object{Type: "patient", Record: id, Patient: id}
	}
	officer := access.With(t.Context(), access.Principal{ID: "u-officer", Tenant: grantTenant, Kind: access.Human}, access.Compliance)
	for range 4 { // several segments
		_, err := journal.Record(officer, audit.Event{Type: audit.Searched, Outcome: audit.Success, Objects: many})
		v.must(err)
	}
	ago.Store(0)
	later := v.related(grantTenant, "p-3")
	if r, err := journal.Purge(officer, audit.Purge{ClockChecked: true}); err != nil || r.Segments == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	v.finds("after the purge")
	v.do(t, "DELETE FROM phi_relations WHERE id IN (?, ?)", old, later)
	v.put("phi_relations", "id", ended, wasEnded)
	v.put("phi_directives", "id", revoked, wasRevoked)
	got := map[string]int{}
	for _, f := range v.verify(grantTenant).Findings {
		got[f.Kind+" "+f.Table]++
	}
	t.Logf("found after the purge: %v", got)
	if got[accessstore.RowDeleted+" phi_relations"] != 2 || got[accessstore.RowRestored+" phi_relations"] != 1 || got[accessstore.RowRestored+" phi_directives"] != 1 || len(got) != 3 {
		t.Errorf("found after the purge: %v", got)
	}
}
