// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/duty"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/sqlite"
)

// stores are where a clinic keeps what decisions rest on.
type stores struct {
	relations  relation.Store
	directives directive.Store
	grants     grant.Store
	acts       duty.Acts
	trail      audit.Recorder
}

// inForce is the policy of a world as access/rbac has it, with the roles of its
// users.
func (w *world) inForce() (*rbac.Engine, error) {
	cfg := rbac.Config{Assigned: true}
	for _, r := range w.rules {
		cfg.Rules = append(cfg.Rules, rbac.Rule{Role: roleID(r[0]), Tenant: r[1], Resources: []string{r[2]}, Actions: []access.Action{access.Action(r[3])}, Purposes: []access.Purpose{access.Treatment}})
	}
	for _, l := range w.links {
		cfg.Links = append(cfg.Links, rbac.Link{Role: roleID(l[0]), Inherits: roleID(l[1])})
	}
	for _, u := range w.users {
		cfg.Assignments = append(cfg.Assignments, rbac.Assignment{User: userID(u[0]), Role: roleID(u[1]), Tenant: u[2]})
	}
	return rbac.New(cfg)
}

// open returns the clinic over stores.
func (w *world) open(s stores) (*clinic, error) {
	engine, err := w.inForce()
	if err != nil {
		return nil, err
	}
	relations, err := relation.New(relation.Config{Store: s.relations, Access: engine, Audit: s.trail})
	if err != nil {
		return nil, err
	}
	directives, err := directive.New(directive.Config{Store: s.directives, Access: engine, Audit: s.trail})
	if err != nil {
		return nil, err
	}
	duties, err := duty.New(duty.Config{
		Sessions: []duty.Exclusion{{Name: "hats", Roles: []string{"role-author", "role-signer"}}},
		Records:  []duty.Sequence{{Action: access.Update, After: []access.Action{access.Create}}}, Acts: s.acts,
	})
	if err != nil {
		return nil, err
	}
	desk, err := grant.New(grant.Config{Store: s.grants, Audit: s.trail, Roles: engine.Roles, Elevations: []grant.Elevation{{
		Role: roleID("r:0"), Requesters: []string{roleID("r:1")}, Approvers: []string{roleID("r:2")}, MaxTTL: time.Hour, Purposes: []access.Purpose{access.Treatment},
	}}})
	if err != nil {
		return nil, err
	}
	point, err := pdp.New(pdp.Config{Policy: engine, Relations: relations, Directives: directives, Duties: duties, Grants: desk})
	if err != nil {
		return nil, err
	}
	return &clinic{world: w, point: point, notes: make(map[string]string), lent: make(map[string][]string), close: func() error { return nil }}, nil
}

// furnish gives each of the users their patients and a note that they wrote. Of one
// user in twenty a patient restricts everything, of another a single note, and of
// one in ten what others may see. One user in ten has a live grant of another role
// of their tenant.
func (c *clinic) furnish(ctx context.Context, s stores, users [][]string, wrote func(tenant, user, note string) error) error {
	now := time.Now().UTC().Truncate(time.Microsecond).Add(-time.Hour)
	tenants, roles := max(2, len(c.world.rules)/100), len(c.world.rules)/10
	for _, u := range users {
		user, tenant := userID(u[0]), u[2]
		if c.notes[user] != "" {
			continue // a second role
		}
		var n, held int
		if _, err := fmt.Sscanf(u[0]+" "+u[1], "u:%d r:%d", &n, &held); err != nil {
			return err
		}
		c.notes[user] = "n-" + user
		ctx := access.With(ctx, access.Principal{ID: "bench", Tenant: tenant, Kind: access.Service}, access.SystemAdmin)
		for i := range patients {
			r := relation.Relation{ID: fmt.Sprintf("r-%s-%d", user, i), Tenant: tenant, Patient: patientID(user, i), Principal: user, Kind: relation.CareTeam, From: now}
			ev := audit.Event{Type: audit.RelationChanged, Outcome: audit.Success, Action: access.Create, Objects: []audit.Object{{Type: relation.Resource, Tenant: tenant, Record: r.ID, Patient: r.Patient, Version: 1}}}
			if err := s.relations.Add(ctx, r, ev); err != nil {
				return err
			}
		}
		d := directive.Directive{ID: "d-" + user, Tenant: tenant, Patient: patientID(user, n%patients), Kind: directive.Restriction, Basis: directive.Agreed, From: now}
		switch {
		case n%20 == 7:
		case n%20 == 8:
			d.Types, d.Record = []string{c.world.rules[0][2]}, c.notes[user]
		case n%10 == 3:
			d.Roles = []string{"role-billing"}
		default:
			d.ID = ""
		}
		if d.ID != "" {
			ev := audit.Event{Type: audit.DirectiveChanged, Outcome: audit.Success, Action: access.Create, Objects: []audit.Object{{Type: directive.Resource, Tenant: tenant, Record: d.ID, Patient: d.Patient, Version: 1}}}
			if err := s.directives.Add(ctx, d, ev); err != nil {
				return err
			}
		}
		if n%10 == 5 {
			lent := (held + tenants) % roles
			c.lent[user] = c.world.rules[10*lent]
			g := grant.Grant{ID: "g-" + user, Tenant: tenant, State: grant.Active, Created: now, From: now, Until: now.Add(24 * time.Hour), Reason: grant.JIT.Reasons()[0], TTL: 24 * time.Hour,
				Scope: grant.Scope{Kind: grant.JIT, Holder: user, Role: fmt.Sprintf("role-%d", lent), Purposes: []access.Purpose{access.Treatment}}}
			if _, _, err := s.grants.Create(ctx, g, func(grant.Grant) bool { return false }); err != nil {
				return err
			}
		}
		if err := wrote(tenant, user, c.notes[user]); err != nil {
			return err
		}
	}
	return nil
}

// inMemory keeps it in the implementations of each package itself.
func inMemory(ctx context.Context, w *world, _ string) (*clinic, error) {
	var acts duty.Memory
	s := stores{relation.NewMemory(silence{}), directive.NewMemory(silence{}), grant.NewMemory(), &acts, silence{}}
	c, err := w.open(s)
	if err != nil {
		return nil, err
	}
	types := w.types()
	return c, c.furnish(ctx, s, w.users, func(tenant, user, note string) error {
		for _, t := range types {
			acts.Did(tenant, user, access.Create, t, note)
		}
		return nil
	})
}

// types are those that the rules name.
func (w *world) types() (out []string) {
	for _, r := range w.rules {
		if !slices.Contains(out, r[2]) {
			out = append(out, r[2])
		}
	}
	return out
}

// silence is a trail that records nothing: what is compared is the decision.
type silence struct{}

func (silence) Record(context.Context, audit.Event) (audit.Receipt, error) {
	return audit.Receipt{}, nil
}
func (silence) Attempt(context.Context, audit.Event) (audit.Ticket, error) {
	return audit.Ticket{}, nil
}
func (silence) Commit(context.Context, []audit.Ticket) ([]audit.Ticket, error) { return nil, nil }
func (silence) Rollback(context.Context, []audit.Ticket) error                 { return nil }
func (silence) Writer() string                                                 { return "silence" }

// A Note is a record whose author must not change it.
type Note struct {
	storage.Record
	Author string `gorm:"size:64;index" phi:"-"`
}

// inSQLite keeps it in a file of SQLite. Those who are asked about have rows that
// were written as an app writes them; the others' are copies of these, of other
// users and patients, so that the tables are as long as there are users.
func inSQLite(ctx context.Context, w *world, dir string) (_ *clinic, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	journal, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{KEK: cryptotest.NewKEK()})
	if err != nil {
		return nil, err
	}
	db, err := gorm.Open(sqlite.Open(filepath.Join(dir, "app.db")), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, errors.Join(err, journal.Close())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, storage.Close(db), journal.Close())
		}
	}()
	store := accessstore.New(db)
	var columns []accessstore.Column
	for _, t := range w.types() {
		columns = append(columns, accessstore.Column{Type: t, Action: access.Create, Model: &Note{}, Name: "author"})
	}
	s := stores{store.Relations(), store.Directives(), store.Grants(), store.Acts(columns...), journal}
	c, err := w.open(s)
	if err != nil {
		return nil, err
	}
	plugin, err := storage.New(storage.Config{KEK: cryptotest.NewKEK(), Audit: journal, Access: c.point, Minimize: minimize.Starter()})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(db.Use(plugin), storage.Migrate(ctx, db, &Note{}), accessstore.Migrate(ctx, db)); err != nil {
		return nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	asked := make(map[string]bool)
	for _, r := range w.requests[:tableRequests] {
		asked[r[0]] = true
	}
	var users [][]string
	for _, u := range w.users {
		if asked[u[0]] {
			users = append(users, u)
		}
	}
	if err := c.furnish(ctx, s, users, func(tenant, user, note string) error {
		_, err := pool.ExecContext(ctx, "INSERT INTO notes (id, tenant_id, version, author) VALUES (?, ?, 1, ?)", note, tenant, user)
		return err
	}); err != nil {
		return nil, err
	}
	for _, t := range []struct {
		table   string
		columns []string
	}{
		{"phi_relations", []string{"id", "patient", "principal"}},
		{"phi_directives", []string{"id", "patient", "record"}},
		{"phi_directive_terms", []string{"directive"}},
		{"phi_grants", []string{"id", "holder", "open_key"}},
		{"notes", []string{"id", "author"}},
	} {
		if err := multiply(ctx, pool, t.table, len(w.users)/len(users)-1, t.columns...); err != nil {
			return nil, err
		}
	}
	c.close = func() error { return errors.Join(storage.Close(db), journal.Close()) }
	return c, nil
}

// multiply adds to each row of a table so many copies, with other values in some
// of its columns.
func multiply(ctx context.Context, pool *sql.DB, table string, times int, columns ...string) error {
	rows, err := pool.QueryContext(ctx, "SELECT name FROM pragma_table_info(?)", table)
	if err != nil {
		return err
	}
	defer rows.Close()
	var names, values []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		names = append(names, `"`+name+`"`)
		v := `t."` + name + `"`
		if slices.Contains(columns, name) {
			v = fmt.Sprintf("CASE WHEN %[1]s = '' THEN '' ELSE %[1]s || '.' || n.i END", v)
		}
		values = append(values, v)
	}
	if err := rows.Close(); err != nil {
		return err
	}
	_, err = pool.ExecContext(ctx, fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 WHERE 1 <= %[4]d UNION ALL SELECT i + 1 FROM n WHERE i < %[4]d) INSERT INTO %[1]s (%[2]s) SELECT %[3]s FROM %[1]s t, n",
		table, strings.Join(names, ", "), strings.Join(values, ", "), times))
	return errors.Join(err, rows.Err())
}
