// SPDX-License-Identifier: Apache-2.0

package pdp

import (
	"context"

	"github.com/part164/part164/access"
)

// allBut is the set of all records but one: what a grant for one record does not
// reach.
type allBut string

var _ access.Set = allBut("")

// Has implements [access.Set].
func (but allBut) Has(_ context.Context, _ string, ids []string) ([]bool, error) {
	out := make([]bool, len(ids))
	for i, id := range ids {
		out[i] = id != string(but)
	}
	return out, nil
}

// limit narrows a branch to what its grant is for.
func (g Grant) limit(b *branch) {
	if g.Patient != "" {
		b.related = access.Filter{Tenant: b.who.Tenant, Subjects: []string{g.Patient}}
	}
	if g.Record != "" {
		if g.Patient == "" {
			b.related = access.Filter{Tenant: b.who.Tenant, AllSubjects: true}
		}
		b.others = allBut(g.Record)
	}
	b.use = g.Use
}

// spend counts a use of the branch's grant, if uses are counted, and reports
// whether there was one.
func (a *asker) spend(b branch) bool { return b.use == nil || b.use(a.ctx) == nil }
