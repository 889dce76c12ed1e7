// SPDX-License-Identifier: Apache-2.0

package disclosures

import (
	"github.com/part164/part164/audit"
)

// group lists the disclosures to one recipient for a single purpose together,
// (b)(3): the first in full, their number, and the date of the last. The
// provision covers 164.502(a)(2)(ii) and 164.512; a disclosure that nothing permitted stands by
// itself, and so does one whose purpose the trail does not hold.
func group(entries []Entry) []Entry {
	type key struct {
		recipient string
		basis     audit.Basis
		statement string
	}
	first := map[key]int{}
	var out []Entry
	for _, e := range entries {
		k := key{e.ref, e.Basis, e.Statement}
		at, ok := first[k]
		if !ok || e.Basis == audit.Unpermitted || e.Statement == "" {
			if !ok {
				first[k] = len(out)
			}
			out = append(out, e)
			continue
		}
		g := &out[at]
		g.Events = append(g.Events, e.Events...)
		g.Number += e.Number
		g.Last = later(g.Last, later(e.Date, e.Last))
		if g.Frequency != e.Frequency {
			g.Frequency = audit.Once
		}
	}
	return out
}
