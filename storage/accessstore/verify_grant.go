// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"slices"
	"time"

	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/internal/table"
)

const (
	grantTable = "phi_grants"
	stepTable  = "phi_grant_steps"
)

// objectOf is what the rows of each table are called in the trail.
var objectOf = map[string]string{relationTable: relation.Resource, directiveTable: directive.Resource, termTable: directive.Resource, grantTable: grantObject, stepTable: grantObject}

// grantTypes are the events of the steps of grants.
func grantTypes() []audit.Type {
	return []audit.Type{audit.GrantRequested, audit.GrantApproved, audit.GrantRefused, audit.GlassBroken, audit.GrantEnded, audit.GrantReviewed}
}

// A told is what the trails say of one grant: the steps that they have, approvals
// and reviews by whom, and when it came into force.
type told struct {
	acts  map[audit.Type]map[string]bool // by actor
	began map[int64]bool                 // in microseconds, as a journal keeps times: one, unless the grant was put back and approved anew
	done  bool                           // somebody has reviewed it for good
	seen  bool
}

// A step that waits to be recorded for owedFor is not on record, whatever its row
// says: a desk that runs records it within minutes. Clocks are not apart by more
// than skew.
const (
	owedFor = time.Hour
	skew    = time.Minute
)

// tell takes a step from a trail. One can be there twice.
func (r *round) tell(ev *audit.Stored) {
	if ev.Outcome != audit.Success || ev.Grant == "" || ev.Actor.Tenant != r.tenant {
		return
	}
	if at := table.Nanos(ev.Time); r.since == 0 || at < r.since {
		r.since = at
	}
	g := r.grants[ev.Grant]
	if g == nil {
		g = &told{acts: map[audit.Type]map[string]bool{}, began: map[int64]bool{}}
		r.grants[ev.Grant] = g
	}
	if g.acts[ev.Type] == nil {
		g.acts[ev.Type] = map[string]bool{}
	}
	g.acts[ev.Type][ev.Actor.ID] = true
	if !ev.Since.IsZero() {
		g.began[ev.Since.UnixMicro()] = true
	}
	g.done = g.done || ev.Type == audit.GrantReviewed && ev.Reason != audit.ReasonEscalated
	r.changes++
}

// eachGrant looks at the grants and their steps.
func (r *round) eachGrant() error {
	err := eachRow(r, grantTable, func(rows []grantRow) error {
		var ids []key
		for i := range rows {
			ids = append(ids, rows[i].ID)
		}
		var all []stepRow
		if len(ids) > 0 {
			if err := table.Quiet(r.s.db).WithContext(r.ctx).Where("tenant = ? AND grant_id IN ?", key(r.tenant), ids).Order("grant_id, n").Find(&all).Error; err != nil {
				return err
			}
		}
		of := map[key][]stepRow{}
		for i := range all {
			ok, err := r.s.sign.genuine(r.ctx, &all[i])
			if err != nil {
				return err
			}
			if !ok {
				r.find(RowForged, stepTable, string(all[i].GrantID))
				continue
			}
			of[all[i].GrantID] = append(of[all[i].GrantID], all[i])
		}
		for i := range rows {
			ok, err := r.s.sign.genuine(r.ctx, &rows[i])
			if err != nil {
				return err
			}
			t := r.grants[string(rows[i].ID)]
			if t != nil {
				t.seen = true
			}
			switch {
			case !ok:
				r.find(RowForged, grantTable, string(rows[i].ID))
			case t != nil:
				r.grant(&rows[i], of[rows[i].ID], t)
			case r.since != 0 && rows[i].Created >= r.since && !slices.ContainsFunc(of[rows[i].ID], r.waits):
				r.find(RowUnrecorded, grantTable, string(rows[i].ID))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, t := range r.grants {
		if !t.seen {
			r.find(RowDeleted, grantTable, id)
		}
	}
	return nil
}

// grant holds a grant against what the trails say of it.
func (r *round) grant(row *grantRow, steps []stepRow, t *told) {
	id := string(row.ID)
	switch grant.State(row.State) {
	case grant.Requested, grant.Approved, grant.Active:
		if len(t.acts[audit.GrantEnded])+len(t.acts[audit.GrantRefused]) > 0 {
			r.find(RowRestored, grantTable, id)
		}
	}
	if t.done && row.Reviewed == 0 {
		r.find(RowRestored, grantTable, id)
	}
	for began := range t.began {
		if began != table.Time(row.From).UnixMicro() { // from then on a grant is in force, and comes into force once
			r.find(RowRestored, grantTable, id)
		}
	}
	there := map[audit.Type]map[string]bool{}
	for i := range steps {
		s := &steps[i]
		typ := grant.Act(s.Act).Event()
		if there[typ] == nil {
			there[typ] = map[string]bool{}
		}
		there[typ][string(s.ByID)] = true
		if !r.waits(*s) && !t.acts[typ][string(s.ByID)] && row.Created >= r.since {
			r.find(RowUnrecorded, stepTable, id)
		}
	}
	for typ, by := range t.acts {
		for who := range by {
			if !there[typ][who] {
				r.find(RowDeleted, stepTable, id)
			}
		}
	}
}

// waits reports whether a step is about to be recorded.
func (r *round) waits(s stepRow) bool {
	return s.Owed != 0 && s.Owed <= table.Nanos(r.now.Add(skew)) && s.At >= table.Nanos(r.now.Add(-owedFor))
}
