// SPDX-License-Identifier: Apache-2.0

package report

import (
	"errors"
	"time"

	"github.com/part164/part164/audit/report/document"
)

// A Period is the time that a report is about: from Since, up to and without
// Until. A zero Since means from the beginning, a zero Until means now.
type Period struct {
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// Validate says what is wrong with the period.
func (p Period) Validate() error {
	if !p.Until.IsZero() && !p.Since.Before(p.Until) {
		return errors.New("Period.Until is not after Period.Since")
	}
	return nil
}

// Text says the period in a report that was made at that time.
func (p Period) Text(made time.Time) string {
	from, to := "the beginning of the trail", document.Stamp(made)
	if !p.Since.IsZero() {
		from = document.Stamp(p.Since)
	}
	if !p.Until.IsZero() {
		to = document.Stamp(p.Until)
	}
	return from + " to " + to + " (UTC)"
}
