// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Config configures [New]. Sources, Audit and Access are required.
type Config struct {
	Sources []Source          // every writer's trail; an event that two of them hold counts once
	Audit   audit.Recorder    // where each reading is recorded: the application's journal
	Access  access.Authorizer // asked to read "audit": see [Reporter.Access] and the others

	// Name returns what a principal is called in a report; nil, or an empty
	// answer, shows the ID.
	Name func(ctx context.Context, p access.Principal) string

	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Reporter makes reports. It is safe for concurrent use.
type Reporter struct{ cfg Config }

// New returns a Reporter, or says which field of cfg is bad.
func New(cfg Config) (*Reporter, error) {
	switch {
	case len(cfg.Sources) == 0:
		return nil, errors.New("report: Config.Sources is empty: give the journal")
	case cfg.Audit == nil:
		return nil, errors.New("report: Config.Audit is nil: give the journal, which records each reading")
	case cfg.Access == nil:
		return nil, errors.New("report: Config.Access is nil: give the application's authorizer")
	}
	for i, s := range cfg.Sources {
		if s == nil {
			return nil, fmt.Errorf("report: Config.Sources[%d] is nil", i)
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Reporter{cfg}, nil
}

// resource is the type of what a report reads, for the authorizer.
const resource = "audit"

// authorise asks whether the scope of ctx may act on the trail about patient,
// or, where that is empty, on the tenant's as a whole. It returns the scope's
// principal and the decision's ID. A refusal is recorded.
func (r *Reporter) authorise(ctx context.Context, action access.Action, patient string) (access.Principal, string, error) {
	s, err := access.From(ctx)
	if err != nil {
		return access.Principal{}, "", err
	}
	return r.authoriseIn(ctx, s.Principal(), s.Principal().Tenant, action, patient)
}

// authoriseIn is authorise for the trail of a tenant.
func (r *Reporter) authoriseIn(ctx context.Context, p access.Principal, tenant string, action access.Action, patient string) (access.Principal, string, error) {
	res := access.Resource{Type: resource, ID: patient, Patient: patient, Tenant: tenant}
	d, err := r.cfg.Access.Check(ctx, access.Request{Action: action, Resources: []access.Resource{res}})
	code := access.DenyInvalid
	if err == nil && len(d.Verdicts) == 1 {
		code = d.Verdicts[0].Code
	}
	if err == nil && d.AllowAll(1) {
		if ownOnly(&p, patient) {
			return p, d.ID, nil
		}
		code = access.DenySubject
	}
	ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: action, Decision: d.ID, Code: known(code),
		Objects: []audit.Object{{Type: resource, Tenant: tenant, Record: patient, Patient: patient}}}
	_, rerr := r.cfg.Audit.Record(ctx, ev)
	denied := &access.DeniedError{Action: action, Resource: resource, Code: code, Decision: d.ID}
	return p, "", errors.Join(denied, err, rerr)
}

// known returns what an event takes of an authorizer's code.
func known(c access.Code) access.Code {
	if !c.Known() {
		return ""
	}
	return c
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

// record records that the trail was read, and why the reader may.
func (r *Reporter) record(ctx context.Context, decision, citation string, count int, patients ...string) error {
	ev := audit.Event{Type: audit.Reported, Outcome: audit.Success, Action: access.Read, Decision: decision, Citation: citation, Count: count}
	for _, p := range patients {
		ev.Objects = append(ev.Objects, audit.Object{Type: resource, Record: p, Patient: p})
	}
	_, err := r.cfg.Audit.Record(ctx, ev)
	return err
}

// A Period is the time that a report is about: from Since, up to and without
// Until. A zero Since means from the beginning, a zero Until means now.
type Period struct {
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

func (p Period) check() error {
	if !p.Until.IsZero() && !p.Since.Before(p.Until) {
		return errors.New("Period.Until is not after Period.Since")
	}
	return nil
}

// A Who is a principal as a report names it.
type Who struct {
	ID    string      `json:"id"`
	Kind  access.Kind `json:"kind,omitempty"`
	Name  string      `json:"name"` // what Config.Name says, or the ID
	Roles []string    `json:"roles,omitempty"`
}

// whoIs names a principal; self are the pseudonyms of the report's patient.
func (r *Reporter) whoIs(ctx context.Context, p access.Principal, self []string) Who {
	w := Who{ID: p.ID, Kind: p.Kind, Roles: p.Roles}
	switch {
	case p.ID == "":
		w.Name = "nobody signed in"
	case p.Kind == access.Patient || p.Kind == access.Proxy: // the ID is a pseudonym
		w.Name = "another " + string(p.Kind)
		for _, own := range self {
			if p.ID == own {
				w.Name = "the patient"
			}
		}
	default:
		if r.cfg.Name != nil {
			w.Name = r.cfg.Name(ctx, p)
		}
		if w.Name == "" {
			w.Name = p.ID
		}
	}
	return w
}
