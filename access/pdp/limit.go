// SPDX-License-Identifier: Apache-2.0

package pdp

import (
	"github.com/part164/part164/access"
)

// limit narrows a branch to what its grant is for.
func (g Grant) limit(b *branch) {
	if g.Patient != "" {
		b.related = access.Filter{Tenant: b.who.Tenant, Subjects: []string{g.Patient}}
	}
	if g.Record != "" {
		if g.Patient == "" {
			b.related = access.Filter{Tenant: b.who.Tenant, AllSubjects: true}
		}
		b.others = access.AllBut{g.Record}
	}
	b.use = g.Use
}

// spend counts a use of the branch's grant, if uses are counted, and reports
// whether there was one.
func (a *asker) spend(b branch) bool { return b.use == nil || b.use(a.ctx) == nil }
