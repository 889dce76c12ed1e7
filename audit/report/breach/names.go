// SPDX-License-Identifier: Apache-2.0

package breach

import (
	"context"
	"fmt"

	"github.com/part164/part164/audit/report"
)

// names tell who is who in a tenant: one who stands in two journals, or had two
// records that are merged now, is one individual.
type names struct {
	known map[string]string // pseudonym to record ID
	ids   map[string]bool
	into  map[string]string // see report.Trail.Merges
}

func (q *Query) names(ctx context.Context, trail *report.Trail) (*names, error) {
	n := &names{known: map[string]string{}, ids: map[string]bool{}}
	add := func(id string) {
		n.ids[id] = true
		for _, p := range trail.Pseudonyms(id) {
			n.known[p] = id
		}
	}
	if q.Patient != "" {
		add(q.Patient)
	}
	if q.Patients != nil {
		for id, err := range q.Patients(ctx, trail.Tenant()) {
			if err != nil {
				return nil, fmt.Errorf("Query.Patients: %w", err)
			}
			add(id)
		}
	}
	var err error
	n.into, err = trail.Merges(ctx, n.known)
	return n, err
}

// of returns the record that stands for a pseudonym now, and whether that is a
// record ID.
func (n *names) of(pseudonym string) (name string, named bool) {
	name = pseudonym
	if id, ok := n.known[pseudonym]; ok {
		name = id
	}
	for range n.into { // no longer than all merges, whatever they say
		to := n.into[name]
		if to == "" {
			break
		}
		name = to
	}
	return name, n.ids[name]
}

// all returns every pseudonym of a patient and of what is merged into the
// record: it is sealed under that patient's key.
func (n *names) all(trail *report.Trail, patient string) []string {
	out := trail.Pseudonyms(patient)
	for from := range n.into {
		if n.ids[from] {
			for _, p := range trail.Pseudonyms(from) {
				if name, _ := n.of(p); name == patient && from != patient {
					out = append(out, p)
				}
			}
		} else if name, _ := n.of(from); name == patient {
			out = append(out, from)
		}
	}
	return out
}
