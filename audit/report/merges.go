// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report/document"
)

// ErrNotMerged means that a record which is said to be a duplicate of the
// patient's is none by the trail: its events are another person's.
var ErrNotMerged = errors.New("report: no merge in the trail says that these are records of one patient")

// selves are the names of one patient in the trails: of the record, and of the
// duplicates that are merged into it now.
type selves struct {
	names    []string // pseudonyms, of all sources
	unknown  int      // duplicates whose ID is not known, by which the other journals could be searched
	upwards  bool     // the record is itself merged into another one
	unmerged bool     // a merge into it was undone: what happened in between stands under it
}

// follow finds the duplicates of the reading's patient. One trail names them
// all. Of several, each has other pseudonyms, so that Config.Merged must say
// the IDs, and the trails must confirm them.
func (t *Trail) follow(ctx context.Context) error {
	ids := []string{t.reading.Patient}
	if t.r.cfg.Merged != nil {
		merged, err := t.r.cfg.Merged(ctx, t.reading.Tenant, t.reading.Patient)
		if err != nil {
			return fmt.Errorf("Config.Merged: %w", err)
		}
		ids = append(ids, merged...)
	}
	known := map[string]string{} // pseudonym to ID
	for _, id := range ids {
		if err := access.CheckID(id); err != nil {
			return fmt.Errorf("Config.Merged: a record ID %w", err)
		}
		for _, p := range t.Pseudonyms(id) {
			known[p] = id
		}
	}
	into, err := t.Merges(ctx, known)
	if err != nil {
		return err
	}
	t.selves.upwards = into[t.reading.Patient] != ""
	group := map[string]bool{t.reading.Patient: true} // IDs, and pseudonyms of unknown ones
	for grown := true; grown; {
		grown = false
		for from, to := range into {
			if group[to] && !group[from] {
				group[from], grown = true, true
			}
		}
	}
	for _, id := range ids {
		if !group[id] {
			return ErrNotMerged
		}
	}
	for p, id := range known {
		if group[id] {
			t.selves.names = append(t.selves.names, p)
		}
	}
	for name := range group {
		if slices.Contains(ids, name) {
			continue
		}
		t.selves.names = append(t.selves.names, name)
		if len(t.r.cfg.Sources) > 1 {
			t.selves.unknown++
		}
	}
	slices.Sort(t.selves.names)
	return nil
}

// Merges returns what each duplicate of the tenant is merged into now. Names are
// record IDs where known has one for the pseudonym, and pseudonyms where not; ""
// means that the merge was undone. What a duplicate is merged into may itself be
// one.
func (t *Trail) Merges(ctx context.Context, known map[string]string) (map[string]string, error) {
	node := func(pseudonym string) string {
		if id, ok := known[pseudonym]; ok {
			return id
		}
		return pseudonym
	}
	into := map[string]string{}
	for ev, err := range t.Events(ctx, audit.Query{Types: []audit.Type{audit.Merged}}) {
		if err != nil {
			return nil, err
		}
		if len(ev.Objects) != 2 || ev.Outcome != audit.Success {
			continue
		}
		from, to := node(ev.Objects[0].Patient), node(ev.Objects[1].Patient)
		switch ev.Reason {
		case audit.ReasonMerge:
		case audit.ReasonUnmerge:
			t.selves.unmerged = t.selves.unmerged || to == t.reading.Patient
			to = ""
		default:
			continue
		}
		if _, newer := into[from]; !newer {
			into[from] = to
		}
	}
	return into, nil
}

// notes say what a report cannot know of the merges.
func (s *selves) notes() []string {
	var out []string
	if s.unknown > 0 {
		out = append(out, document.Count(s.unknown, "duplicate was", "duplicates were")+" merged into this record, and the record ID is not known here: what was done to them before is listed as far as it stands in the journal of the merge.")
	}
	if s.upwards {
		out = append(out, "This record was merged into another one. What was done since stands in the report of that record.")
	}
	if s.unmerged {
		out = append(out, "A merge into this record was undone. What was done while it lasted is listed here, also where it concerned the other record.")
	}
	return out
}
