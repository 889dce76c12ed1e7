// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"errors"
	"slices"

	"github.com/part164/part164/audit"
)

// ErrNotMerged means that a record which is said to be a duplicate of the
// patient's is none by the trail: its events are another person's.
var ErrNotMerged = errors.New("report: no merge in the trail says that these are records of one patient")

// selves are the names of one patient in the trails: the record, and the
// duplicates that are merged into it now.
type selves struct {
	names    [][]string // of each source, its pseudonyms
	unknown  int        // duplicates whose ID was not given, which other journals cannot be searched for
	upwards  bool       // the record is itself merged into another one
	unmerged bool       // a merge into it was undone: what happened in between stands under it
}

// selves finds the duplicates of patient. One trail names them all. Of several,
// each has other pseudonyms, so that duplicates must be named by ID; and the
// trails must say that they are some.
func (r *Reporter) selves(ctx context.Context, tenant, patient string, merged []string) (selves, error) {
	known := make([]map[string]string, len(r.cfg.Sources)) // pseudonym to ID
	for i, s := range r.cfg.Sources {
		known[i] = map[string]string{}
		for _, id := range append([]string{patient}, merged...) {
			if p := s.Pseudonym(tenant, id); p != "" {
				known[i][p] = id
			}
		}
	}
	node := func(source int, pseudonym string) string {
		if id, ok := known[source][pseudonym]; ok {
			return id
		}
		return pseudonym
	}
	var out selves
	into := map[string]string{} // newest merge of each duplicate; "" where it was undone
	source := map[string]int{}  // where it was recorded
	for ev, err := range r.events(ctx, func(int) audit.Query {
		return audit.Query{Tenant: tenant, Types: []audit.Type{audit.Merged}}
	}) {
		if err != nil {
			return out, err
		}
		if len(ev.Objects) != 2 {
			continue
		}
		from, to := node(ev.source, ev.Objects[0].Patient), node(ev.source, ev.Objects[1].Patient)
		switch ev.Reason {
		case audit.ReasonMerge:
		case audit.ReasonUnmerge:
			out.unmerged = out.unmerged || to == patient
			to = ""
		default:
			continue
		}
		if _, newer := into[from]; !newer && ev.Outcome == audit.Success {
			into[from], source[from] = to, ev.source
		}
	}
	out.upwards = into[patient] != ""

	group := map[string]bool{patient: true}
	for grown := true; grown; {
		grown = false
		for from, to := range into {
			if group[to] && !group[from] {
				group[from], grown = true, true
			}
		}
	}
	for _, id := range merged {
		if !group[id] {
			return out, ErrNotMerged
		}
	}
	out.names = make([][]string, len(r.cfg.Sources))
	for i := range r.cfg.Sources {
		for p, id := range known[i] {
			if group[id] {
				out.names[i] = append(out.names[i], p)
			}
		}
	}
	ids := append([]string{patient}, merged...)
	for name := range group {
		if slices.Contains(ids, name) {
			continue
		}
		if len(r.cfg.Sources) > 1 {
			out.unknown++
			continue
		}
		out.names[source[name]] = append(out.names[source[name]], name)
	}
	for i := range out.names {
		slices.Sort(out.names[i])
	}
	return out, nil
}

// notes say what the report cannot know of the merges.
func (s *selves) notes() []string {
	var out []string
	if s.unknown > 0 {
		out = append(out, count(s.unknown, "duplicate was", "duplicates were")+" merged into this record, and the record ID is not known here: what was done to them before is not listed.")
	}
	if s.upwards {
		out = append(out, "This record was merged into another one. What was done since stands in the report of that record.")
	}
	if s.unmerged {
		out = append(out, "A merge into this record was undone. What was done while it lasted is listed here, also where it concerned the other record.")
	}
	return out
}
