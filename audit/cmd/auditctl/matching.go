// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
)

// matching counts the events that q selects, but reports and holds, such as
// those of auditctl's own runs, which name whatever they were given. With a limit it stops there.
func matching(ctx context.Context, q audit.Query, limit int, of ...report.Source) (n int, err error) {
	for _, s := range of {
		for ev, err := range s.Events(ctx, q) {
			if err != nil {
				return n, err
			}
			if ev.Type == audit.Reported || ev.Type == audit.Held {
				continue
			}
			if n++; n == limit {
				return n, nil
			}
		}
	}
	return n, nil
}

// knows refuses a tenant of which there is nothing: it was mistyped, and
// whatever were said of it would be taken for the truth about another.
func (k *keyed) knows(ctx context.Context, of ...report.Source) error {
	n, err := matching(ctx, audit.Query{Tenant: k.tenant}, 1, of...)
	if err == nil && n == 0 {
		return usagef("--tenant: the journal has no event of this tenant")
	}
	return err
}
