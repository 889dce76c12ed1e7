// SPDX-License-Identifier: Apache-2.0

package directive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Config configures [New]. Store, Access and Audit are required.
type Config struct {
	Store Store

	// Access says who may access.Create, access.Update and access.Read
	// directives, which are [Resource]: the policy, an rbac.Engine or a
	// policystore.Store. The decision point that asks these directives comes
	// after them.
	Access access.Authorizer

	Audit audit.Recorder // of refusals, and of who saw which: the store records changes

	// Needs is what may be used with the patient's paper only. A use that
	// several ask for needs what each of them asks for. Nil asks for nothing
	// but an authorization of marketing; a list that is not nil says all of it.
	Needs []Need

	// Unbound are purposes that no restriction binds, and those below them: what
	// the law requires or permits in spite of one (45 CFR 164.522(a)(1)(v)), such
	// as access.PublicHealth where that is reports under 164.512(b).
	// access.BreakGlass and access.EmergencyTreatment never are bound
	// (164.522(a)(1)(iii)): the caller needs a grant for the patient. Nor is what
	// patients themselves ask for (access.PatientRequest).
	Unbound []access.Purpose

	// Others returns the records of a type that somebody else than who wrote,
	// or that nobody knows who did, such as storage.Members over the notes with
	// "author_id <> ?". Nil means that nobody is known to have written anything.
	Others func(who access.Principal, resourceType string) access.Set

	Now func() time.Time // the clock; nil means time.Now
}

// Directives says what patients said, and changes it. Make it with [New]; it
// is safe for concurrent use.
type Directives struct{ cfg Config }

// New returns Directives, or an error naming the first bad field of cfg.
func New(cfg Config) (*Directives, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("directive: Config.Store is nil: take storage/accessstore, or directive.NewMemory in tests")
	case cfg.Access == nil:
		return nil, errors.New("directive: Config.Access is nil: give the policy, an rbac.Engine or a policystore.Store")
	case cfg.Audit == nil:
		return nil, errors.New("directive: Config.Audit is nil: audit.Open")
	}
	if cfg.Needs == nil {
		cfg.Needs = []Need{Marketing()}
	}
	needs := make([]Need, len(cfg.Needs))
	for i, n := range cfg.Needs {
		if err := n.validate(); err != nil {
			return nil, fmt.Errorf("directive: Config.Needs[%d] %w", i, err)
		}
		needs[i] = n.clone()
	}
	cfg.Needs = needs
	if slices.ContainsFunc(cfg.Unbound, func(p access.Purpose) bool { return !p.Valid() }) {
		return nil, errors.New("directive: Config.Unbound has an unknown purpose: take the constants of package access")
	}
	cfg.Unbound = slices.Clone(cfg.Unbound)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Directives{cfg}, nil
}

// bound reports whether a restriction binds somebody for a purpose. It never
// binds the patients' own access (45 CFR 164.502(a)(1)(i), 164.524).
func (d *Directives) bound(who access.Kind, p access.Purpose) bool {
	own := who == access.Patient && p.IsA(access.PatientRequest)
	return !own && !p.Emergency() && !slices.ContainsFunc(d.cfg.Unbound, p.IsA)
}

// ask is the question about a use inside.
func (d *Directives) ask(who access.Principal, resourceType string, now time.Time) Ask {
	return Ask{Tenant: who.Tenant, Principal: who.ID, Roles: slices.Clone(who.Roles), Type: resourceType, At: moment(now)}
}

// Restricted returns the patients who restrict, at now, what who may use of
// resourceType for purpose, and the single records that they restrict (45 CFR
// 164.522(a)). Each may be nil, for none. A restriction of a disclosure is not
// among them: [Directives.RestrictedTo] has those.
func (d *Directives) Restricted(who access.Principal, purpose access.Purpose, resourceType string, now time.Time) (patients, records access.Set) {
	return d.restricted(d.ask(who, resourceType, now), who.Kind, purpose)
}

// RestrictedTo is Restricted of a disclosure to a recipient of access/egress.
// What restricts the use inside restricts the disclosure too.
func (d *Directives) RestrictedTo(recipient string, who access.Principal, purpose access.Purpose, resourceType string, now time.Time) (patients, records access.Set) {
	inside := d.ask(who, resourceType, now)
	patients, records = d.restricted(inside, who.Kind, purpose)
	if patients == nil || recipient == "" {
		return patients, records
	}
	outside := inside
	outside.Recipient = recipient
	more, moreRecords := d.restricted(outside, who.Kind, purpose)
	return access.Union{patients, more}, access.Union{records, moreRecords}
}

func (d *Directives) restricted(q Ask, who access.Kind, purpose access.Purpose) (patients, records access.Set) {
	if !d.bound(who, purpose) {
		return nil, nil
	}
	q.Kinds, q.Purposes = []Kind{Restriction}, up(purpose)
	return d.cfg.Store.Patients(q), d.cfg.Store.Records(q)
}

// Authorized reports whether who needs the patient's paper to use resourceType
// for purpose (45 CFR 164.506(b), 164.508). Then of is the patients who gave it,
// and others the records that who may not use without it: nil means none may be
// used. So what is in reach is of the patients of of, or about none of others.
func (d *Directives) Authorized(who access.Principal, purpose access.Purpose, resourceType string, now time.Time) (needed bool, of []access.Set, others access.Set) {
	return d.authorized(d.ask(who, resourceType, now), who, purpose, resourceType)
}

// AuthorizedTo is Authorized of a disclosure to a recipient of access/egress:
// the paper names the recipient. Whoever wrote a record needs it too.
func (d *Directives) AuthorizedTo(recipient string, who access.Principal, purpose access.Purpose, resourceType string, now time.Time) (needed bool, of []access.Set) {
	q := d.ask(who, resourceType, now)
	q.Recipient = recipient
	needed, of, _ = d.authorized(q, access.Principal{}, purpose, resourceType)
	return needed, of
}

func (d *Directives) authorized(q Ask, writer access.Principal, purpose access.Purpose, resourceType string) (needed bool, of []access.Set, others access.Set) {
	q.Purposes = meant(purpose)
	own := d.cfg.Others != nil && writer.ID != ""
	for _, n := range d.cfg.Needs {
		if !n.asks(purpose, resourceType) {
			continue
		}
		q := q
		q.Kinds = n.Kinds
		of = append(of, d.cfg.Store.Patients(q))
		own = own && slices.ContainsFunc(n.Originator, purpose.IsA)
	}
	if len(of) > 0 && own {
		others = d.cfg.Others(writer, resourceType)
	}
	return len(of) > 0, of, others
}

// Held reports whether a hold keeps the patient's data from being destroyed. It
// is a storage.Hold.
func (d *Directives) Held(ctx context.Context, tenant, subject string) (bool, error) {
	if subject == "" {
		return false, nil
	}
	in, err := d.cfg.Store.Patients(Ask{Tenant: tenant, Kinds: []Kind{Hold}, At: moment(d.cfg.Now())}).Has(ctx, tenant, []string{subject})
	if err != nil {
		return true, fmt.Errorf("directive: held: %w", err)
	}
	return len(in) != 1 || in[0], nil
}

// Record keeps a new directive of the caller's tenant, and returns it with its
// ID. ID is made here; an empty Tenant is the caller's, and a zero From is now.
func (d *Directives) Record(ctx context.Context, n Directive) (Directive, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return Directive{}, fmt.Errorf("directive: record: %w", err)
	}
	who := scope.Principal()
	n = n.clone()
	if n.Tenant == "" {
		n.Tenant = who.Tenant
	}
	if n.From.IsZero() {
		n.From = d.cfg.Now()
	}
	n.ID, n.From, n.Until, n.Ended, n.Void = rand.Text(), moment(n.From), moment(n.Until), "", false
	if err := n.Validate(); err != nil {
		return Directive{}, err
	}
	if n.Tenant != who.Tenant {
		return Directive{}, d.refuse(ctx, Directive{}, &access.DeniedError{Action: access.Create, Resource: Resource, Code: access.DenyTenant})
	}
	if err := d.may(ctx, access.Create, n); err != nil {
		return Directive{}, err
	}
	if err := d.apart(n); err != nil {
		return Directive{}, err
	}
	n.Version = 1
	if err := d.cfg.Store.Add(ctx, n, event(n, access.Create, audit.ReasonCreated)); err != nil {
		return Directive{}, fmt.Errorf("directive: record: %w", err)
	}
	return n, nil
}

// apart refuses an authorization of what must stand alone together with more.
func (d *Directives) apart(n Directive) error {
	if n.Kind != Authorization {
		return nil
	}
	for _, need := range d.cfg.Needs {
		in := func(t string) bool { return slices.Contains(need.Types, t) }
		if need.Apart && slices.ContainsFunc(n.Types, in) && slices.ContainsFunc(n.Types, func(t string) bool { return !in(t) }) {
			return errors.New("directive: Directive.Types names psychotherapy notes and others: such an authorization stands alone (45 CFR 164.508(b)(3)(ii)): record two")
		}
	}
	return nil
}

// End ends a directive of the caller's tenant now. How says why, and must fit
// its kind: an authorization, a consent and a restriction are revoked in writing,
// a restriction also orally, an authorization ends with its event, and a hold is
// lifted. That a covered entity ends a restriction by itself is refused: it would
// bind what is there already (45 CFR 164.522(a)(2)(iii)), and a required one
// always. What has ended stays so.
func (d *Directives) End(ctx context.Context, id string, how Ending) error {
	now := moment(d.cfg.Now())
	reason := audit.ReasonRevoked
	if how == Occurred {
		reason = audit.ReasonExpired
	}
	return d.change(ctx, "end", id, reason, func(c *Directive) error {
		if !how.ends(c) {
			return errors.New("the ending does not fit the directive: authorizations, consents and restrictions are Revoked, restrictions also Oral, an authorization with an Event has Occurred, a hold is Lifted")
		}
		if c.Ended == "" && (c.Until.IsZero() || now.Before(c.Until)) {
			c.Until, c.Ended = now, how
		}
		if c.Until.Before(c.From) { // it has not begun, and never will
			c.Until = c.From
		}
		return nil
	})
}

func (e Ending) ends(d *Directive) bool {
	switch e {
	case Revoked:
		return d.Kind == Restriction || d.Kind == Consent || d.Kind == Authorization
	case Oral:
		return d.Kind == Restriction
	case Occurred:
		return d.Kind == Authorization && d.Event != "" && d.Event != NoEnd
	case Lifted:
		return d.Kind == Hold
	}
	return false
}

// Void takes back a directive of the caller's tenant that was a mistake, such as
// one of another patient.
func (d *Directives) Void(ctx context.Context, id string) error {
	return d.change(ctx, "void", id, audit.ReasonMistake, func(c *Directive) error { c.Void = true; return nil })
}

func (d *Directives) change(ctx context.Context, verb, id string, reason audit.Reason, change func(*Directive) error) error {
	scope, err := access.From(ctx)
	if err != nil {
		return fmt.Errorf("directive: %s: %w", verb, err)
	}
	if err := access.CheckID(id); err != nil {
		return fmt.Errorf("directive: %s: the ID %w", verb, err)
	}
	tenant := scope.Principal().Tenant
	if err := d.may(ctx, access.Update, Directive{Tenant: tenant, ID: id}); err != nil {
		return err
	}
	err = d.cfg.Store.Change(ctx, tenant, id, change, func(c Directive) audit.Event { return event(c, access.Update, reason) })
	if err != nil {
		return fmt.Errorf("directive: %s: %w", verb, err)
	}
	return nil
}

// List returns a patient's directives of the caller's tenant, void ones too, and
// records that the caller has seen them.
func (d *Directives) List(ctx context.Context, patient string) ([]Directive, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return nil, fmt.Errorf("directive: list: %w", err)
	}
	if err := access.CheckID(patient); err != nil {
		return nil, fmt.Errorf("directive: list: the patient %w", err)
	}
	tenant := scope.Principal().Tenant
	if err := d.may(ctx, access.Read, Directive{Tenant: tenant, Patient: patient}); err != nil {
		return nil, err
	}
	found, err := d.cfg.Store.List(ctx, tenant, patient, "")
	if err != nil {
		return nil, fmt.Errorf("directive: list: %w", err)
	}
	ev := audit.Event{Type: audit.Fetched, Outcome: audit.Success, Action: access.Read, Objects: []audit.Object{{Type: Resource, Patient: patient}}}
	if len(found) > 0 {
		ev.Objects = nil
	}
	for _, f := range found {
		ev.Objects = append(ev.Objects, audit.Object{Type: Resource, Tenant: f.Tenant, Record: f.ID, Patient: f.Patient})
	}
	if _, err := d.cfg.Audit.Record(ctx, ev); err != nil {
		return nil, fmt.Errorf("directive: list: %w", err)
	}
	return found, nil
}

// Resource is the type of a directive for rules and in the trail.
const Resource = "directive"

// may reports whether the policy lets the principal of ctx do action to a
// directive, and records that it does not.
func (d *Directives) may(ctx context.Context, action access.Action, n Directive) error {
	dec, err := d.cfg.Access.Check(ctx, access.Request{Action: action, Resources: []access.Resource{{Type: Resource, ID: n.ID, Tenant: n.Tenant, Patient: n.Patient}}})
	if err != nil {
		return fmt.Errorf("directive: %s: %w", action, err)
	}
	if dec.AllowAll(1) {
		return nil
	}
	denied := &access.DeniedError{Action: action, Resource: Resource, Code: access.DenyInvalid, Decision: dec.ID}
	if len(dec.Verdicts) == 1 {
		denied.Code = dec.Verdicts[0].Code
	}
	return d.refuse(ctx, n, denied)
}

// refuse records a refusal.
func (d *Directives) refuse(ctx context.Context, n Directive, denied *access.DeniedError) error {
	_, err := d.cfg.Audit.Record(ctx, audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: denied.Action, Code: denied.Code,
		Decision: denied.Decision, Objects: []audit.Object{{Type: Resource, Patient: n.Patient}}})
	return errors.Join(denied, err)
}

func event(n Directive, action access.Action, reason audit.Reason) audit.Event {
	ev := audit.Event{Type: audit.DirectiveChanged, Outcome: audit.Success, Action: action, Reason: reason, Rule: string(n.Kind), Since: n.From, Until: n.Until,
		Objects: []audit.Object{{Type: Resource, Tenant: n.Tenant, Record: n.ID, Patient: n.Patient, Version: n.Version}}}
	switch {
	case n.Kind == Restriction && n.Basis == Required:
		ev.Citation = "164.522(a)(1)(vi)"
	case n.Kind == Restriction:
		ev.Citation = "164.522(a)(1)"
	case n.Kind == Authorization:
		ev.Citation = "164.508"
	}
	if n.Record != "" {
		ev.Objects = append(ev.Objects, audit.Object{Type: n.Types[0], Tenant: n.Tenant, Record: n.Record, Patient: n.Patient})
	}
	return ev
}
