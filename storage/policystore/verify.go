// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/internal/again"
)

// The kinds of findings.
const (
	RowUnexplained  = "row.unexplained"  // a row that no change added
	RowMissing      = "row.missing"      // a row that a change added, and none took away
	RowEdited       = "row.edited"       // a row that says another revision than the change that added it
	ChangeMissing   = "change.missing"   // there is no change of this revision
	ChangeEdited    = "change.edited"    // a change is not what it was when it was made
	RevisionForged  = "revision.forged"  // the revision row is not what the last change made of it
	TrailMissing    = "trail.missing"    // none of the trails has the change: it was not recorded, or by a process whose trail was not given
	TrailDiffers    = "trail.differs"    // a trail has another change of this revision
	DatabaseSetBack = "database.setback" // a trail has a later change than the database
)

// A Finding is one thing that is not as it should be. It holds no PHI.
type Finding struct {
	Kind     string `json:"kind"`
	Revision uint64 `json:"revision,omitempty"`
	Row      string `json:"row,omitempty"`
}

func (f Finding) String() string {
	out := f.Kind
	if f.Revision > 0 {
		out += fmt.Sprintf(" revision %d", f.Revision)
	}
	if f.Row != "" {
		out += ": " + f.Row
	}
	return out
}

// A Verification is what [Store.Verify] found.
type Verification struct {
	Revision uint64    `json:"revision"`
	Changes  int       `json:"changes"`
	Rows     int       `json:"rows"`
	Trails   int       `json:"trails"` // given; without one nothing says that the history itself is whole
	Findings []Finding `json:"findings,omitempty"`
}

// OK reports whether nothing was found.
func (v *Verification) OK() bool { return len(v.Findings) == 0 }

// Verify replays the history to the present rows and names what no change
// explains, and holds it against the trails of the processes that made the
// changes: give the journals of all of them.
//
// The principal of ctx needs the right to access.Read on [Resource].
func (s *Store) Verify(ctx context.Context, trails ...audit.History) (*Verification, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.may(ctx, scope, access.Read, nil); err != nil {
		return nil, err
	}
	db, err := s.database()
	if err != nil {
		return nil, err
	}
	var v *verifying
	err = again.Do(ctx, func() error {
		v = &verifying{store: s, Verification: Verification{Trails: len(trails)}, digests: make(map[uint64]string)}
		return db.WithContext(ctx).Transaction(v.tables, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	})
	if err != nil {
		return nil, err
	}
	if err := v.trails(ctx, trails); err != nil {
		return nil, err
	}
	slices.SortFunc(v.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Row, b.Row))
	})
	return &v.Verification, nil
}

type verifying struct {
	Verification
	store   *Store
	digests map[uint64]string // of each change, as an event has it
}

func (v *verifying) find(kind string, revision uint64, row string) {
	v.Findings = append(v.Findings, Finding{kind, revision, row})
}

// tables holds the tables against each other.
func (v *verifying) tables(tx *gorm.DB) error {
	var rows []revisionTable
	if err := tx.Where("id = 1").Find(&rows).Error; err != nil {
		return fmt.Errorf("policystore: read policy_revision: %w", err)
	}
	var r revisionTable
	if len(rows) == 1 {
		r = rows[0]
	} else {
		v.find(RevisionForged, 0, "")
	}
	v.Revision = r.Revision
	changes, err := appliedChanges(tx, 0, 1<<62, 0)
	if err != nil {
		return err
	}
	v.Changes = len(changes)
	replayed := make(map[row]uint64)
	var head [32]byte
	next := uint64(1)
	for i := range changes {
		c := &changes[i]
		for ; next < *c.Revision; next++ {
			v.find(ChangeMissing, next, "")
		}
		sum := c.sum()
		if string(sum[:]) != string(c.Digest) || *c.Revision > 1 && string(c.Previous) != string(head[:]) || c.Edits != len(c.edits) {
			v.find(ChangeEdited, *c.Revision, "")
		}
		head = sum
		v.digests[*c.Revision] = hex.EncodeToString(sum[:8])
		for _, e := range c.edits {
			if e.remove {
				delete(replayed, e.row)
			} else {
				replayed[e.row] = *c.Revision
			}
		}
		next = *c.Revision + 1
	}
	for ; next <= r.Revision; next++ {
		v.find(ChangeMissing, next, "")
	}
	there, err := scan(tx)
	if err != nil {
		return err
	}
	sum := there.sum()
	if r.Revision > 0 && (string(r.Head) != string(head[:]) || string(r.State) != string(sum[:]) || !v.store.mac.Valid(revisionField, r.statement(), r.MAC)) {
		v.find(RevisionForged, r.Revision, "")
	}
	v.Rows = len(there.rows)
	since, err := addedIn(tx)
	if err != nil {
		return err
	}
	for _, row := range there.rows {
		switch added, ok := replayed[row]; {
		case !ok:
			v.find(RowUnexplained, since[row], row.String())
		case added != since[row]:
			v.find(RowEdited, since[row], row.String())
		}
		delete(replayed, row)
	}
	for row, added := range replayed {
		v.find(RowMissing, added, row.String())
	}
	return nil
}

// addedIn reads the revision in which each row was added.
func addedIn(tx *gorm.DB) (map[row]uint64, error) {
	var rules []ruleTable
	var links []linkTable
	if err := tx.Find(&rules).Error; err != nil {
		return nil, fmt.Errorf("policystore: read policy_rules: %w", err)
	}
	if err := tx.Find(&links).Error; err != nil {
		return nil, fmt.Errorf("policystore: read policy_links: %w", err)
	}
	out := make(map[row]uint64, len(rules)+len(links))
	for i := range rules {
		t := &rules[i]
		out[row{ruleRow, [6]string{t.Role, t.Tenant, t.Resource, t.Action, t.Purpose, t.Effect}}] = t.Revision
	}
	for i := range links {
		t := &links[i]
		out[row{kind(t.Kind), [6]string{t.Tenant, t.Member, t.Role}}] = t.Revision
	}
	return out, nil
}

// trails holds the history against the audit trails.
func (v *verifying) trails(ctx context.Context, trails []audit.History) error {
	if len(trails) == 0 {
		return nil
	}
	found := make(map[uint64]bool)
	for _, h := range trails {
		committed, rolledBack := make(map[string]bool), make(map[string]bool)
		for ev, err := range h.Replay(ctx, "", audit.PolicyChanged, audit.Committed, audit.RolledBack) {
			if err != nil {
				return fmt.Errorf("policystore: verify: read the trail: %w", err)
			}
			id := ev.ID
			if ev.Batch != "" {
				id = ev.Batch
			}
			switch ev.Type {
			case audit.Committed:
				committed[ev.Attempt] = true
			case audit.RolledBack:
				rolledBack[ev.Attempt] = true
			case audit.PolicyChanged:
				for _, o := range ev.Objects {
					if o.Type != Resource || o.Version == 0 || len(o.Digests) != 1 || rolledBack[id] {
						continue
					}
					revision := uint64(o.Version)
					switch digest, ok := v.digests[revision]; {
					case ok && digest == o.Digests[0]:
						found[revision] = true
					case !committed[id]: // how it ended is not known: perhaps it lost to another
					case !ok && revision > v.Revision:
						v.find(DatabaseSetBack, revision, "")
					default:
						v.find(TrailDiffers, revision, "")
					}
				}
			}
		}
	}
	for revision := range v.digests {
		if !found[revision] {
			v.find(TrailMissing, revision, "")
		}
	}
	return nil
}
