// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"time"

	"github.com/part164/part164/access"
)

// An Alert is what a rule found.
type Alert struct {
	Rule      Rule
	Event     string    // ID of the event that raised it; empty for silence
	Time      time.Time // of that event
	Tenant    string
	Actor     access.Principal // as it stands in the trail
	Patients  []string         // pseudonyms; of the rules about patients
	Count     int              // patients, records, tries or days, as the rule has it
	Explained Explanation      // not Unexplained: it was not raised and is not recorded
	ID        string           // event ID of the [audit.Alerted]; empty where there is none
}

// An Explanation is a reason why an access was in order. The set is closed.
type Explanation string

// The explanations.
const (
	Unexplained Explanation = ""
	Appointment Explanation = "appointment" // the patient had one with the actor's unit
	Order       Explanation = "order"       // the actor placed or worked on an order
	Message     Explanation = "message"     // the patient, or their clinician, wrote to the actor
	SameUnit    Explanation = "same_unit"   // the patient was in the actor's unit
)

// An Explainer looks for a reason before an alert is raised. It is safe for
// concurrent use.
type Explainer interface {
	// Explain returns why the access was in order, or Unexplained. It is not
	// asked about honey records, the trail and the clock.
	Explain(ctx context.Context, a Alert) (Explanation, error)
}
