// SPDX-License-Identifier: Apache-2.0

package relation

import (
	"errors"
	"fmt"
	"time"

	"github.com/part164/part164/access"
)

// A Relation says that a principal has to do with a patient, from a moment to
// another.
type Relation struct {
	ID        string // made by [Relations.Add]
	Tenant    string // of both; Add takes the caller's where it is empty
	Patient   string // the patient's record ID
	Principal string // the principal's ID
	Kind      Kind

	From  time.Time // zero: Add sets it to now
	Until time.Time // zero: until it is ended; From or later

	Void bool // it was a mistake: it never counts

	Version int64 // set by the store: 1, and one more with each change
}

// Live reports whether the relation counts at a moment, with a window of its
// kind: from From less Before to Until and After, without the end.
func (r Relation) Live(at time.Time, w Window) bool {
	at = moment(at)
	return !r.Void && !at.Add(w.Before).Before(moment(r.From)) && (r.Until.IsZero() || at.Add(-w.After).Before(moment(r.Until)))
}

// Validate says which field is bad, and never its value.
func (r Relation) Validate() error {
	for _, f := range []struct{ name, value string }{{"ID", r.ID}, {"Tenant", r.Tenant}, {"Patient", r.Patient}, {"Principal", r.Principal}} {
		if err := access.CheckID(f.value); err != nil {
			return fmt.Errorf("relation: Relation.%s %w", f.name, err)
		}
	}
	switch {
	case !r.Kind.known():
		return errors.New("relation: Relation.Kind is none of relation.Kinds(), such as relation.Attending")
	case !inRange(r.From):
		return errors.New("relation: Relation.From is not between the years 1 and 9999")
	case !r.Until.IsZero() && (!inRange(r.Until) || r.Until.Before(r.From)):
		return errors.New("relation: Relation.Until is before From, or after the year 9999")
	}
	return nil
}

func inRange(t time.Time) bool { y := t.UTC().Year(); return y >= 1 && y <= 9999 }

// moment is a time as every store keeps it: in microseconds, in UTC.
func moment(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}
