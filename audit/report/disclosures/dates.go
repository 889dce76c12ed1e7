// SPDX-License-Identifier: Apache-2.0

package disclosures

import (
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
)

// dates returns when a disclosure was made: the first and the last of a series.
func dates(ev *report.Event) (from, to time.Time) {
	from, to = ev.Since, ev.Until
	if from.IsZero() {
		from = ev.Time
		if !to.IsZero() {
			from = earlier(from, to)
		}
	}
	if to.IsZero() {
		to = from
		if ev.Disclosure.Frequency != audit.Once { // a series that goes on when it is recorded
			to = later(from, ev.Time)
		}
	}
	return from, to
}
