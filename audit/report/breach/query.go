// SPDX-License-Identifier: Apache-2.0

package breach

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
)

// A Query asks whose PHI an incident has reached. Exactly one of Actor,
// Session and Loss says what the incident is.
type Query struct {
	Tenants []string // the covered entities concerned; required, and the reader must be allowed each

	Actor   string // what this principal did, by ID
	Session string // what was done in this sign-in
	Loss    Loss   // what was stored, and somebody has a copy of
	Patient string // the patient whose key is lost; required for LostPatientKey, and for no other

	// Period is when the principal acted. Of a Loss only Until counts: what was
	// stored by then.
	report.Period

	// Form says how a field is stored. Nil, and FormUnknown, count as clear.
	// Only a Loss asks: what a person was shown was not sealed to them.
	Form func(resource, field string) Form

	// Patients yields the record IDs of a tenant's patients, so that the
	// report can name them, look up their State, and count one who stands in
	// two writers' journals once. Nil leaves pseudonyms.
	Patients func(ctx context.Context, tenant string) iter.Seq2[string, error]

	// State returns the State or jurisdiction in which a patient resides; an
	// empty answer means unknown. Nil asks nobody. It is asked for patients
	// that Patients yields.
	State func(ctx context.Context, tenant, patient string) (string, error)
}

// A Loss is what somebody has who should not. The zero Loss is none: the
// incident is what a person did.
type Loss string

// The losses. Whoever has a key is taken to have the stored data, too.
const (
	LostCopy       Loss = "copy"        // the stored data, without a key: a stolen disk or backup
	LostKEK        Loss = "kek"         // and the key that wraps all others
	LostTenantKey  Loss = "tenant.key"  // and the tenants' keys
	LostPatientKey Loss = "patient.key" // and the key of one patient
)

// A Form is how a field is stored.
type Form int

// The forms.
const (
	FormUnknown    Form = iota // counted as clear
	FormClear                  // in clear, to sort by
	FormSearchable             // sealed, with search tokens beside it: they tell equal values from others
	FormSealed                 // sealed, and nothing beside it
)

func (q *Query) validate() error {
	named := 0
	for _, set := range []bool{q.Actor != "", q.Session != "", q.Loss != ""} {
		if set {
			named++
		}
	}
	switch {
	case len(q.Tenants) == 0:
		return errors.New("Query.Tenants is empty")
	case named != 1:
		return errors.New("Query: exactly one of Actor, Session and Loss says what the incident is")
	case !slices.Contains([]Loss{"", LostCopy, LostKEK, LostTenantKey, LostPatientKey}, q.Loss):
		return errors.New("Query.Loss is not one of the constants of package breach")
	case (q.Loss == LostPatientKey) != (q.Patient != ""):
		return errors.New("Query.Patient is required for the loss of a patient's key, and for no other")
	case q.State != nil && q.Patients == nil:
		return errors.New("Query.State needs Patients: a trail names patients by pseudonyms")
	}
	for i, t := range q.Tenants {
		if err := access.CheckID(t); err != nil {
			return fmt.Errorf("Query.Tenants[%d] %w", i, err)
		}
	}
	if err := q.Period.Validate(); err != nil {
		return fmt.Errorf("Query.%w", err)
	}
	return nil
}

// events selects what the incident may be seen in.
func (q *Query) events() audit.Query {
	out := audit.Query{Actor: q.Actor, Since: q.Since, Until: q.Until, Types: []audit.Type{
		audit.Revealed, audit.RevealFailed, audit.Fetched, audit.Searched, audit.Denied, audit.WriteAttempt, audit.Disclosed, audit.Outside}}
	if q.Loss != "" {
		out.Since = time.Time{}
		out.Types = []audit.Type{audit.Revealed, audit.Fetched, audit.Searched, audit.WriteAttempt, audit.Sealed, audit.Disclosed}
	}
	return out
}

// how says how an event reached PHI; not counted where it did not.
func (q *Query) how(ev *audit.Stored) (how How, counted bool) {
	if ev.Outcome == audit.Failure {
		return "", false
	}
	if q.Loss != "" {
		return HowStored, true
	}
	switch ev.Type {
	case audit.Revealed:
		return HowRevealed, true
	case audit.Fetched:
		return HowFetched, true
	case audit.Searched:
		return HowSearched, true
	case audit.WriteAttempt:
		return HowWritten, true
	case audit.Disclosed:
		return HowDisclosed, true
	}
	return "", false
}

// secured reports whether the field is unreadable to whoever has what was
// lost: sealed, with nothing beside it, and its key was not.
func (q *Query) secured(resource, field string) bool {
	return q.Loss == LostCopy && q.Form != nil && q.Form(resource, field) == FormSealed
}

func (q *Query) incident() string {
	switch {
	case q.Actor != "":
		return "what " + q.Actor + " did"
	case q.Session != "":
		return "what was done in the sign-in " + q.Session
	}
	switch q.Loss {
	case LostCopy:
		return "a copy of the stored data, without its keys"
	case LostKEK:
		return "the stored data and the key that wraps all others"
	case LostTenantKey:
		return "the stored data and the tenant's key"
	}
	return "the stored data and the key of patient " + q.Patient
}
