// SPDX-License-Identifier: Apache-2.0

package disclosures

import (
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
)

// suspended reports whether the right to hear of a disclosure is suspended now:
// by one of the statements, and not one that was lifted since. What lifts it is
// an [audit.Suspended] with ReasonRevoked, about the event of the statement.
func suspended(statements []report.Event, ev *report.Event, now time.Time) bool {
	lifted := map[string]bool{}
	for i := range statements {
		if statements[i].Reason == audit.ReasonRevoked {
			lifted[statements[i].About] = true
		}
	}
	for i := range statements {
		if s := &statements[i]; !lifted[s.ID] && suspends(s, ev, now) {
			return true
		}
	}
	return false
}

// suspends reports whether a statement of a health oversight agency or law
// enforcement official suspends the right to hear of a disclosure to them: (a)(2).
// Only for the time that a written statement names; of an oral one for 30 days.
func suspends(s, ev *report.Event, now time.Time) bool {
	b := s.Disclosure.Basis
	if s.Reason == audit.ReasonRevoked || b != audit.ByOversight && b != audit.ByLawEnforcement || b != ev.Disclosure.Basis || s.Disclosure.Recipient != ev.Disclosure.Recipient {
		return false
	}
	from, until := s.Since, s.Until
	if from.IsZero() {
		from = s.Time
	}
	if limit := from.AddDate(0, 0, oralDays); s.Reason != audit.ReasonWritten && (until.IsZero() || until.After(limit)) {
		until = limit
	}
	return !now.Before(from) && now.Before(until)
}
