// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/internal/table"
)

// The kinds of a [Finding]. The set is closed.
const (
	RowDeleted    = "row.deleted"    // the trail knows it, and it is gone: this package deletes none
	RowRestored   = "row.restored"   // an older one of the same ID, put back
	RowForged     = "row.forged"     // this package did not write it
	RowUnrecorded = "row.unrecorded" // this package wrote it, and no trail knows of that
)

// A Finding is one row that is not as the trail says. It holds no PHI.
type Finding struct {
	Kind   string `json:"kind"`
	Table  string `json:"table"`
	Tenant string `json:"tenant"`
	ID     string `json:"id"` // of the relation, directive or grant; of a deleted relation or directive the trail's pseudonym of it
}

// A Verification is what [Store.Verify] found.
type Verification struct {
	Tenant   string    `json:"tenant"`
	Rows     int64     `json:"rows"`    // relations, directives and grants that were looked at
	Changes  int64     `json:"changes"` // of them that the trails know
	Trails   int       `json:"trails"`  // that it was held against
	Findings []Finding `json:"findings,omitempty"`
}

// OK reports whether nothing was found.
func (v *Verification) OK() bool { return len(v.Findings) == 0 }

// verifyRounds bounds how often everything is looked at, and verifyPage is how
// many rows are read at once.
const (
	verifyRounds = 8
	verifyPage   = 500
)

// Verify holds the relations, directives and grants of one tenant, that of ctx's
// principal, against the trail, and names each row that was deleted, put back as
// it was before, written by somebody else, or is not on record. The error is
// about Verify itself: without one, a Verification without findings says that the
// tables hold what was last written through this package.
//
// The trail is that of the database, which must be an [audit.History], and those of
// the other nodes: what one that is left out has written is reported as not on
// record. Rows may be changed meanwhile: what does not fit is looked at again
// before it is reported.
//
// ctx comes from [access.Job], with the right to access.Maintain. That it was run,
// and what it found, is recorded (audit.Checked). It reads tables page by page,
// and keeps in memory what the trail knows: about 300 bytes a change.
//
// Verify does not see
//   - that a change was undone of which the trail does not say how it ended: where
//     its row in the outbox was removed in the moment between commit and relay,
//     audit.Verify counts it as open;
//   - a step of a grant that the trail has not got, for the hour in which a desk
//     that runs records it;
//   - that uses of a grant were given back: each use is on record as what was done
//     by it, and the count is not;
//   - grants from before the oldest step of one that the trail still has.
func (s *Store) Verify(ctx context.Context, others ...audit.History) (*Verification, error) {
	v, err := s.verify(ctx, others)
	return v, failed("verify", err)
}

func (s *Store) verify(ctx context.Context, others []audit.History) (*Verification, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	if err := storage.MayMaintain(ctx, s.db); err != nil {
		return nil, err
	}
	trail, err := storage.Trail(s.db)
	if err != nil {
		return nil, err
	}
	own, ok := trail.(audit.History)
	if !ok || slices.Contains(others, nil) {
		return nil, errors.New("a trail cannot be read back, or is nil: give journals of audit.Open")
	}
	histories := append([]audit.History{own}, others...)
	tenant := scope.Principal().Tenant
	if _, err := trail.Record(ctx, audit.Event{Type: audit.Checked, Outcome: audit.Success, Reason: audit.ReasonPending, Action: access.Maintain}); err != nil {
		return nil, err
	}
	var r *round
	var found []Finding
	for n := range verifyRounds {
		r = &round{s: s, ctx: ctx, tenant: tenant, now: time.Now(), histories: histories}
		if err := r.run(); err != nil {
			return nil, err
		}
		was := len(r.found)
		if n > 0 { // what a change between trail and table made look wrong is right now
			r.found = slices.DeleteFunc(r.found, func(f Finding) bool { return !slices.Contains(found, f) })
		}
		found = r.found
		if len(found) == 0 || n > 0 && len(found) == was {
			break
		}
	}
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Table, b.Table), strings.Compare(a.ID, b.ID), strings.Compare(a.Kind, b.Kind))
	})
	out := &Verification{Tenant: tenant, Rows: r.rows, Changes: r.changes, Trails: len(histories), Findings: slices.Compact(found)}
	ev := audit.Event{Type: audit.Checked, Outcome: audit.Success, Action: access.Maintain, Count: len(out.Findings)}
	for _, f := range out.Findings {
		ev.Outcome = audit.Failure
		if o := (audit.Object{Type: objectOf[f.Table], Tenant: tenant}); access.CheckID(f.ID) == nil && f.Kind != RowDeleted {
			o.Record = f.ID
			ev.Objects = append(ev.Objects, o)
		}
	}
	if _, err := trail.Record(ctx, ev); err != nil {
		return out, err
	}
	return out, nil
}

// A round looks at everything once.
type round struct {
	s         *Store
	ctx       context.Context
	tenant    string
	now       time.Time
	histories []audit.History
	known     []map[string]*known // what each history knows, by table and pseudonym
	grants    map[string]*told    // what they say of grants, by ID
	since     int64               // of the oldest step that they have; 0 where they have none

	rows, changes int64
	found         []Finding
}

// A known is what one history says of a row.
type known struct {
	version int64 // of the newest change that was committed; 0 where none was
	last    []change
	seen    bool
}

// A change is one that made a row what it is, unless it turns out to have been
// undone.
type change struct {
	version int64
	digest  string // empty of one that was recorded before there were digests
}

func (r *round) run() error {
	if err := storage.Settle(r.ctx, r.s.db); err != nil {
		return err
	}
	r.grants = map[string]*told{}
	for _, h := range r.histories {
		k, err := r.read(h)
		if err != nil {
			return err
		}
		r.known = append(r.known, k)
	}
	if err := eachRow(r, relationTable, func(rows []relationRow) error { return judge(r, relationTable, rows) }); err != nil {
		return err
	}
	if err := eachRow(r, directiveTable, func(rows []directiveRow) error {
		if err := judge(r, directiveTable, rows); err != nil {
			return err
		}
		return r.terms(rows)
	}); err != nil {
		return err
	}
	for _, of := range r.known {
		for name, k := range of {
			if table, id, _ := strings.Cut(name, " "); !k.seen && k.version > 0 {
				r.find(RowDeleted, table, id)
			}
		}
	}
	return r.eachGrant()
}

func (r *round) find(kind, table, id string) {
	r.found = append(r.found, Finding{kind, table, r.tenant, id})
}

// read replays one history: the changes, and then how they ended.
func (r *round) read(h audit.History) (map[string]*known, error) {
	type pending struct {
		of *known
		change
	}
	out := map[string]*known{}
	open := map[string]pending{} // by attempt
	tables := map[string]string{relation.Resource: relationTable, directive.Resource: directiveTable}
	for ev, err := range h.Replay(r.ctx, r.tenant, append(grantTypes(), audit.RelationChanged, audit.DirectiveChanged)...) {
		if err != nil {
			return nil, fmt.Errorf("read the trail: %w", err)
		}
		if ev.Type != audit.RelationChanged && ev.Type != audit.DirectiveChanged {
			r.tell(&ev)
			continue
		}
		if len(ev.Objects) == 0 || ev.Outcome != audit.Success {
			continue
		}
		o := &ev.Objects[0]
		if tables[o.Type] == "" || o.Tenant != r.tenant || o.Record == "" || o.Version == 0 {
			continue
		}
		name := tables[o.Type] + " " + o.Record
		if out[name] == nil {
			out[name] = &known{}
		}
		p := pending{out[name], change{version: o.Version}}
		if len(o.Digests) == 1 {
			p.digest = o.Digests[0]
		}
		open[ev.ID] = p
		r.changes++
	}
	for ev, err := range h.Replay(r.ctx, r.tenant, audit.Committed, audit.RolledBack) {
		if err != nil {
			return nil, fmt.Errorf("read the trail: %w", err)
		}
		p, ok := open[ev.Attempt]
		if !ok {
			continue
		}
		delete(open, ev.Attempt)
		if ev.Type == audit.Committed {
			p.of.version = max(p.of.version, p.version)
			p.of.last = append(p.of.last, p.change)
		}
	}
	for _, p := range open { // it may have been committed: the row tells
		p.of.last = append(p.of.last, p.change)
	}
	for _, k := range out {
		k.last = slices.DeleteFunc(k.last, func(c change) bool { return c.version < k.version })
	}
	return out, nil
}

// kind says what is wrong with a row that this package wrote; empty where
// nothing is.
func (r *round) kind(table, id string, version int64, digest string) (kind string) {
	newest, fits := int64(0), false
	for i, h := range r.histories {
		k := r.known[i][table+" "+h.Pseudonym(r.tenant, id)]
		if k == nil {
			continue
		}
		k.seen, newest = true, max(newest, k.version)
		fits = fits || slices.ContainsFunc(k.last, func(c change) bool { return c.version == version && (c.digest == "" || c.digest == digest) })
	}
	switch {
	case version < newest:
		return RowRestored
	case !fits:
		return RowUnrecorded
	}
	return ""
}

// judge looks at a page of relations or directives.
func judge[T any, P interface {
	*T
	row
}](r *round, table string, rows []T) error {
	for i := range rows {
		row := P(&rows[i])
		o := row.object()
		ok, err := r.s.sign.genuine(r.ctx, row)
		if err != nil {
			return err
		}
		_, _, mac := row.signed()
		kind := r.kind(table, o.Record, o.Version, digest(mac))
		if !ok {
			kind = RowForged
		}
		if kind != "" {
			r.find(kind, table, o.Record)
		}
	}
	return nil
}

// eachRow reads a tenant's rows of a table, page by page.
func eachRow[T any, P interface {
	*T
	row
}](r *round, name string, f func([]T) error) error {
	for after := ""; ; {
		var rows []T
		err := table.Quiet(r.s.db).WithContext(r.ctx).Table(name).Where("tenant = ? AND id > ?", key(r.tenant), key(after)).Order("id").Limit(verifyPage).Find(&rows).Error
		if err != nil {
			return err
		}
		r.rows += int64(len(rows))
		if err := f(rows); err != nil || len(rows) < verifyPage {
			return err
		}
		after = P(&rows[len(rows)-1]).object().Record
	}
}

// terms looks whether the terms of directives, which lists go by, are what the
// directives say.
func (r *round) terms(rows []directiveRow) error {
	if len(rows) == 0 {
		return nil
	}
	var ids []key
	for i := range rows {
		ids = append(ids, rows[i].ID)
	}
	var all []termRow
	err := table.Quiet(r.s.db).WithContext(r.ctx).Where("tenant = ? AND directive IN ?", key(r.tenant), ids).Find(&all).Error
	if err != nil {
		return err
	}
	of := map[key]map[[2]string]bool{}
	for _, t := range all {
		if of[t.Directive] == nil {
			of[t.Directive] = map[[2]string]bool{}
		}
		of[t.Directive][[2]string{t.Dim, string(t.Value)}] = true
	}
	for i := range rows {
		there := of[rows[i].ID]
		for _, want := range terms(rows[i].directive()) {
			if at := [2]string{want.Dim, string(want.Value)}; there[at] {
				delete(there, at)
			} else {
				r.find(RowDeleted, termTable, string(rows[i].ID))
			}
		}
		if len(there) > 0 {
			r.find(RowForged, termTable, string(rows[i].ID))
		}
	}
	return nil
}
