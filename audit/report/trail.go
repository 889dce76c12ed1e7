// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A Trail is what [Reporter.Open] opened: the events of one tenant, for one
// reader. It is safe for concurrent use.
type Trail struct {
	r        *Reporter
	reading  Reading
	reader   access.Principal
	decision string
	selves   selves
}

// Reader is who reads.
func (t *Trail) Reader() access.Principal { return t.reader }

// Tenant is whose trail it is.
func (t *Trail) Tenant() string { return t.reading.Tenant }

// About yields the events that q selects and that are about the reading's
// patient, with that patient's objects only, newest first, each once. It is
// empty where the reading is about no patient.
func (t *Trail) About(ctx context.Context, q audit.Query) iter.Seq2[Event, error] {
	q.Patient, q.Pseudonyms = "", t.selves.names
	if len(q.Pseudonyms) == 0 { // which would select everybody's
		return func(func(Event, error) bool) {}
	}
	return t.Events(ctx, q)
}

// Events yields the events of the tenant that q selects, newest first by
// (time, writer, sequence), each once: two sources may hold the same journal.
// It concerns other patients too, also where the reading is about one: count
// with it, and show [Trail.About]. It ends after the first error.
func (t *Trail) Events(ctx context.Context, q audit.Query) iter.Seq2[Event, error] {
	q.Tenant = t.reading.Tenant
	return t.r.events(ctx, q)
}

// Pseudonyms returns what stands in the sources for a patient's record ID, of
// those that can tell.
func (t *Trail) Pseudonyms(id string) []string {
	var out []string
	for _, s := range t.r.cfg.Sources {
		if p := s.Pseudonym(t.reading.Tenant, id); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// Detail opens the sealed detail of an event, which the source records by
// itself. It is empty where there is none, or none any more. The error wraps
// [ErrSealed] where it is there, and the source that was read does not open it.
func (t *Trail) Detail(ctx context.Context, ev *Event) (audit.Detail, error) {
	if ev.Detail == "" {
		return audit.Detail{}, nil
	}
	s, ok := t.r.cfg.Sources[ev.source].(audit.Details)
	if !ok {
		return audit.Detail{}, ErrSealed
	}
	d, err := s.Detail(ctx, ev.ID)
	if errors.Is(err, audit.ErrNoDetail) || errors.Is(err, audit.ErrErased) {
		return audit.Detail{}, nil
	}
	return d, err
}

// ErrSealed means that an event has sealed detail and the source that was read
// opens none, as an [audit.Reader] does not: read the journal itself.
var ErrSealed = errors.New("report: the source opens no sealed detail: read the journal itself, where it is open for writing")

// Notes say what the trail cannot know of the merges of the reading's patient.
func (t *Trail) Notes() []string { return t.selves.notes() }

// A Who is a principal as a report names it.
type Who struct {
	ID    string      `json:"id"`
	Kind  access.Kind `json:"kind,omitempty"`
	Name  string      `json:"name"` // what Config.Name says, or the ID
	Roles []string    `json:"roles,omitempty"`
}

// Text is the name, with the roles behind it.
func (w Who) Text() string {
	if len(w.Roles) == 0 {
		return w.Name
	}
	return w.Name + " (" + strings.Join(w.Roles, ", ") + ")"
}

// Who names a principal of the trail.
func (t *Trail) Who(ctx context.Context, p access.Principal) Who {
	w := Who{ID: p.ID, Kind: p.Kind, Roles: p.Roles}
	switch {
	case p.ID == "":
		w.Name = "nobody signed in"
	case p.Kind == access.Patient || p.Kind == access.Proxy: // the IDs are pseudonyms
		w.Name = t.patientOrProxy(&p)
	default:
		if t.r.cfg.Name != nil {
			w.Name = t.r.cfg.Name(ctx, p)
		}
		if w.Name == "" {
			w.Name = p.ID
		}
	}
	return w
}

// patientOrProxy says which, with regard to the reading's patient if there is
// one.
func (t *Trail) patientOrProxy(p *access.Principal) string {
	about := t.reading.Patient != ""
	switch self := slices.Contains(t.selves.names, p.ID); {
	case p.Kind == access.Patient && self:
		return "the patient"
	case p.Kind == access.Patient && about:
		return "another patient"
	case p.Kind == access.Patient:
		return "a patient"
	case about && slices.Contains(t.selves.names, p.OnBehalf):
		return "the patient's proxy"
	}
	return "a proxy"
}
