// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/part164/part164/access"
)

// Errors of [Journal.Purge] and [Journal.Erase].
var (
	// ErrHeld means that a legal hold forbids it.
	ErrHeld = errors.New("audit: a legal hold forbids it")

	// ErrRetention means that the retention period is not over.
	ErrRetention = errors.New("audit: the retention period is not over")
)

// A Hold keeps events from being purged and their details from being erased,
// for as long as it is not released: those that match everything that it says.
// At least one of Patient, Actor, Since and Until is set.
type Hold struct {
	Patient   string      // events about this patient, by record ID, and about records merged with it
	Actor     string      // events by this principal, by ID
	ActorKind access.Kind // of Actor, and required with it
	Since     time.Time   // events not before; zero means from the first
	Until     time.Time   // events before; zero means that those to come are held too

	Reason   Reason // ReasonLitigation, ReasonIncident, ReasonCourt or ReasonRegulator; required
	Citation string // of the authority; empty where there is none
}

// Hold records a legal hold on events by or about the tenant of the principal
// of ctx, who is required, and returns the ID to release it by.
//
// It is of this journal alone: where several writers keep one each, every one
// of them is held by itself, and what another has merged is not known to it. It
// keeps no record of the application from being shredded: package storage has
// holds of its own.
func (j *Journal) Hold(ctx context.Context, h Hold) (Receipt, error) {
	id, err := j.hold(ctx, h)
	if err != nil {
		return Receipt{}, fmt.Errorf("audit: hold: %w", err)
	}
	return Receipt{ID: id}, nil
}

func (j *Journal) hold(ctx context.Context, h Hold) (string, error) {
	switch h.Reason {
	case ReasonLitigation, ReasonIncident, ReasonCourt, ReasonRegulator:
	default:
		return "", fmt.Errorf("%w: Hold.Reason is not litigation, incident, court or regulator", ErrEvent)
	}
	if h.Patient == "" && h.Actor == "" && h.Since.IsZero() && h.Until.IsZero() {
		return "", fmt.Errorf("%w: Hold names no patient, actor or time", ErrEvent)
	}
	ev := Event{Type: Held, Outcome: Success, Reason: h.Reason, Citation: h.Citation, User: h.Actor, UserKind: h.ActorKind, Since: h.Since, Until: h.Until}
	if h.Patient != "" {
		ev.Objects = []Object{{Type: "patient", Record: h.Patient, Patient: h.Patient}}
	}
	s, err := Stamp(ctx, ev)
	if err != nil {
		return "", err
	}
	if s.Actor.ID == "" {
		return "", access.ErrNoPrincipal
	}
	j.retaining.Lock()
	defer j.retaining.Unlock()
	if err := j.endPurge(); err != nil { // what is about to go cannot be held
		return "", err
	}
	seq, _, err := j.record(&s, nil)
	return eventID(j.keys.writer, seq), err
}

// ErrNoHold means that there is no such hold in force in the caller's tenant.
var ErrNoHold = errors.New("audit: there is no such hold")

// Release ends the hold with the given ID, of the tenant of the principal of
// ctx, who is required.
func (j *Journal) Release(ctx context.Context, hold string) error {
	if err := j.releaseHold(ctx, hold); err != nil {
		return fmt.Errorf("audit: release hold: %w", err)
	}
	return nil
}

func (j *Journal) releaseHold(ctx context.Context, hold string) error {
	s, err := Stamp(ctx, Event{Type: Released, Outcome: Success, About: hold})
	if err != nil {
		return err
	}
	if s.Actor.ID == "" {
		return access.ErrNoPrincipal
	}
	j.retaining.Lock()
	defer j.retaining.Unlock()
	hs, err := j.holds(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(hs.held, func(h Stored) bool { return h.ID == hold && h.Actor.Tenant == s.Actor.Tenant }) {
		return ErrNoHold
	}
	_, _, err = j.record(&s, nil)
	return err
}

// Holds returns the holds that are in force of the tenant of the principal of
// ctx, who is required, newest first. As with Events, the caller records that
// the trail was read.
func (j *Journal) Holds(ctx context.Context) ([]Stored, error) {
	p, _, ok := access.Who(ctx)
	if !ok {
		return nil, fmt.Errorf("audit: read holds: %w", access.ErrNoPrincipal)
	}
	hs, err := j.holds(ctx)
	if err != nil {
		return nil, fmt.Errorf("audit: read holds: %w", err)
	}
	return slices.DeleteFunc(hs.held, func(h Stored) bool { return h.Actor.Tenant != p.Tenant }), nil
}

// holds is what is held, by whom and how, and which records are one patient's.
type holds struct {
	held   []Stored
	merged []Stored
}

// holds reads the holds that are in force.
func (j *Journal) holds(ctx context.Context) (*holds, error) {
	hs := new(holds)
	released := make(map[string]bool)
	for s, err := range j.Replay(ctx, "", Held, Released, Merged) { // newest first
		switch {
		case err != nil:
			return nil, err
		case s.Type == Released:
			released[s.About] = true
		case s.Type == Merged:
			hs.merged = append(hs.merged, s)
		case !released[s.ID]:
			hs.held = append(hs.held, s)
		}
	}
	return hs, nil
}

// of returns the ID of a hold that holds s, and every line of the hold itself;
// empty where there is none.
func (hs *holds) of(s *Stored) string {
	for i := range hs.held {
		if h := &hs.held[i]; h.ID == s.ID || hs.matches(h, s) {
			return h.ID
		}
	}
	return ""
}

func (hs *holds) matches(h, s *Stored) bool {
	tenant := h.Actor.Tenant
	switch {
	case !h.Since.IsZero() && s.Time.Before(h.Since), !h.Until.IsZero() && !s.Time.Before(h.Until):
		return false
	case h.User != "" && (s.Actor.ID != h.User || s.Actor.Tenant != tenant):
		return false
	}
	if len(h.Objects) > 0 {
		patients := hs.records(tenant, h.Objects[0].Patient)
		return slices.ContainsFunc(s.Objects, func(o Object) bool { return o.Tenant == tenant && slices.Contains(patients, o.Patient) })
	}
	return s.Actor.Tenant == tenant || slices.ContainsFunc(s.Objects, func(o Object) bool { return o.Tenant == tenant })
}

// records returns the patient's pseudonym and those of all records that were
// ever merged with it: what was one patient's for a time is held.
func (hs *holds) records(tenant, patient string) []string {
	all := []string{patient}
	for i := 0; i < len(all); i++ {
		for _, m := range hs.merged {
			is := func(o Object) bool { return o.Tenant == tenant && o.Patient == all[i] }
			if !slices.ContainsFunc(m.Objects, is) {
				continue
			}
			for _, o := range m.Objects {
				if o.Tenant == tenant && o.Patient != "" && !slices.Contains(all, o.Patient) {
					all = append(all, o.Patient)
				}
			}
		}
	}
	return all
}
