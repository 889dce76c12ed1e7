// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A Reading is what of the trail somebody wants to read, and what for.
type Reading struct {
	Citation string        // the provision that it serves, such as "164.528"; it is recorded with the reading
	Action   access.Action // of "audit"; empty means [access.Read]
	Tenant   string        // whose trail; empty means the reader's tenant
	Patient  string        // record ID of whom it is about; empty means the tenant as a whole
}

// resource is the type of what is read, for the authorizer and in events.
const resource = "audit"

// Open authorises a reading, records it as an [audit.Reported] event, and only
// then opens the trail. The authorizer is asked for the action on "audit" of
// that one patient, or of the tenant as a whole. A principal of kind patient
// reads what is about its own ID only, and a proxy what is about whom it acts
// for (OnBehalf), whatever the policy says. A refusal is recorded.
//
// An error wraps [access.ErrDenied], [access.ErrNoPrincipal],
// [audit.ErrUnavailable], [ErrNotMerged], or that of a source.
func (r *Reporter) Open(ctx context.Context, q Reading) (*Trail, error) {
	if q.Patient != "" {
		if err := access.CheckID(q.Patient); err != nil {
			return nil, fmt.Errorf("the patient's record ID %w", err)
		}
	}
	s, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	q.Action, q.Tenant = cmp.Or(q.Action, access.Read), cmp.Or(q.Tenant, s.Principal().Tenant)
	t := &Trail{r: r, reading: q, reader: s.Principal()}
	if t.decision, err = r.authorise(ctx, &t.reader, &q); err != nil {
		return nil, err
	}
	if q.Patient == "" {
		err = t.Name(ctx)
	} else if err = t.Name(ctx, q.Patient); err == nil {
		err = t.follow(ctx)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// authorise returns the ID of the decision that allows the reading.
func (r *Reporter) authorise(ctx context.Context, p *access.Principal, q *Reading) (string, error) {
	res := access.Resource{Type: resource, ID: q.Patient, Patient: q.Patient, Tenant: q.Tenant}
	d, err := r.cfg.Access.Check(ctx, access.Request{Action: q.Action, Resources: []access.Resource{res}})
	code := access.DenyInvalid
	if err == nil && len(d.Verdicts) == 1 {
		code = d.Verdicts[0].Code
	}
	if err == nil && d.AllowAll(1) {
		if ownOnly(p, q.Patient) {
			return d.ID, nil
		}
		code = access.DenySubject
	}
	ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: q.Action, Decision: d.ID,
		Objects: []audit.Object{{Type: resource, Tenant: q.Tenant, Record: q.Patient, Patient: q.Patient}}}
	if code.Known() {
		ev.Code = code
	}
	_, rerr := r.cfg.Audit.Record(ctx, ev)
	return "", errors.Join(&access.DeniedError{Action: q.Action, Resource: resource, Code: code, Decision: d.ID}, err, rerr)
}

// ownOnly holds patients to their own record and proxies to that of whom they
// act for, whatever the policy says: a rule that lets the role "patient" read
// "audit" must not open everybody's.
func ownOnly(p *access.Principal, patient string) bool {
	switch p.Kind {
	case access.Patient:
		return patient != "" && patient == p.ID
	case access.Proxy:
		return patient != "" && patient == p.OnBehalf
	}
	return true
}

// Name records, as [audit.Reported], that the reading is about these patients:
// a report of a whole tenant calls it before it shows whom it found.
func (t *Trail) Name(ctx context.Context, patients ...string) error {
	ev := audit.Event{Type: audit.Reported, Outcome: audit.Success, Action: access.Read, Citation: t.reading.Citation, Count: len(patients)}
	for _, p := range slices.Compact(slices.Sorted(slices.Values(patients))) {
		ev.Objects = append(ev.Objects, audit.Object{Type: resource, Tenant: t.reading.Tenant, Record: p, Patient: p})
	}
	if len(patients) == 0 {
		ev.Objects = []audit.Object{{Type: resource, Tenant: t.reading.Tenant}}
	}
	return t.Record(ctx, ev)
}

// Record records an event under the decision that opened the trail.
func (t *Trail) Record(ctx context.Context, ev audit.Event) error {
	ev.Decision = t.decision
	_, err := t.r.cfg.Audit.Record(ctx, ev)
	return err
}
