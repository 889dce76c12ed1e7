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

// knows refuses a tenant of which there is nothing but that auditctl was run for
// it: it was mistyped, and whatever were said of it would be taken for the truth
// about another. A report counts: a journal of report --record holds nothing else.
func (k *keyed) knows(ctx context.Context, of ...report.Source) error {
	for _, s := range of {
		for ev, err := range s.Events(ctx, audit.Query{Tenant: k.tenant}) {
			if err != nil {
				return err
			}
			if ev.Type != audit.Reported || ev.Action != openJournal {
				return nil
			}
		}
	}
	return usagef("--tenant: the journal has no event of this tenant")
}
