// SPDX-License-Identifier: Apache-2.0

package relation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Config configures [New]. Store, Access and Audit are required.
type Config struct {
	Store Store

	// Access says who may access.Create, access.Update and access.Read relations,
	// which are [Resource]: the policy, an rbac.Engine or a policystore.Store.
	// The decision point that asks these relations comes after them.
	Access access.Authorizer

	Audit audit.Recorder // of refusals, and of who saw which: the store records changes

	// Windows is how long before and after it a relation counts, by kind. Nil
	// means 30 days before and after for the kinds of an encounter, and none for
	// the others. The number is ours, no regulation sets it: a hospital has
	// published the same for whom its EHR does not ask to break the glass (Salem
	// Health, 12 March 2023). A map that is not nil says all of it.
	Windows map[Kind]Window

	// Kinds is which kinds serve a purpose and the purposes below it; those
	// that it does not name are served by every kind. An empty list serves none.
	Kinds map[access.Purpose][]Kind

	// Others are sets of the app's own, such as storage.Members over its table
	// of encounters: whoever is in one is in reach of staff and services as
	// with a relation. Each may return nil, for nobody.
	Others []func(who access.Principal, purpose access.Purpose, now time.Time) access.Set

	// Oneself lets people say that they care for a patient. Else somebody else
	// has to: who could would have no bound but the record of it.
	Oneself bool

	Now func() time.Time // the clock; nil means time.Now
}

// around is the default window of a relation of an encounter.
const around = 30 * 24 * time.Hour

// Relations says who has to do with whom, and changes it. Make it with [New];
// it is safe for concurrent use.
type Relations struct{ cfg Config }

// New returns Relations, or an error naming the first bad field of cfg.
func New(cfg Config) (*Relations, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("relation: Config.Store is nil: take storage/accessstore, or relation.NewMemory in tests")
	case cfg.Access == nil:
		return nil, errors.New("relation: Config.Access is nil: give the policy, an rbac.Engine or a policystore.Store")
	case cfg.Audit == nil:
		return nil, errors.New("relation: Config.Audit is nil: audit.Open")
	}
	if cfg.Windows == nil {
		cfg.Windows = map[Kind]Window{}
		for _, k := range Kinds() {
			if k.ofEncounter() {
				cfg.Windows[k] = Window{Before: around, After: around}
			}
		}
	}
	for k, w := range cfg.Windows {
		if !k.known() {
			return nil, errors.New("relation: Config.Windows has a kind that is none of package relation's")
		}
		if w.Before < 0 || w.After < 0 {
			return nil, fmt.Errorf("relation: Config.Windows[%s] is negative", k)
		}
	}
	for p, kinds := range cfg.Kinds {
		if !p.Valid() {
			return nil, errors.New("relation: Config.Kinds has an unknown purpose: take the constants of package access")
		}
		if slices.ContainsFunc(kinds, func(k Kind) bool { return !k.known() }) {
			return nil, fmt.Errorf("relation: Config.Kinds[%s] has a kind that is none of package relation's", p)
		}
	}
	if slices.ContainsFunc(cfg.Others, func(f func(access.Principal, access.Purpose, time.Time) access.Set) bool { return f == nil }) {
		return nil, errors.New("relation: Config.Others has a nil function")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Windows, cfg.Others = maps.Clone(cfg.Windows), slices.Clone(cfg.Others)
	kinds := make(map[access.Purpose][]Kind, len(cfg.Kinds))
	for p, k := range cfg.Kinds {
		kinds[p] = slices.Clone(k)
	}
	cfg.Kinds = kinds
	return &Relations{cfg}, nil
}

// Related returns the patients to whom who has a relation at now that serves
// purpose: of a proxy, the patient whom it represents, if it has one. Nil means
// none. It is what access/pdp asks.
func (r *Relations) Related(who access.Principal, purpose access.Purpose, now time.Time) access.Set {
	if who.Validate() != nil || !purpose.Valid() || who.Kind == access.Proxy && who.OnBehalf == "" {
		return nil
	}
	q := Reach{Tenant: who.Tenant, Principal: who.ID, Kinds: map[Kind]Window{}, At: moment(now)}
	if who.Kind == access.Proxy {
		q.Patient = who.OnBehalf
	}
	for _, k := range r.serving(purpose) {
		if k.holds(who.Kind) {
			q.Kinds[k] = r.cfg.Windows[k]
		}
	}
	var sets access.Union
	if len(q.Kinds) > 0 {
		sets = append(sets, r.cfg.Store.Set(q))
	}
	if who.Kind == access.Human || who.Kind == access.Service {
		for _, other := range r.cfg.Others {
			if s := other(who, purpose, now); s != nil {
				sets = append(sets, s)
			}
		}
	}
	switch len(sets) {
	case 0:
		return nil
	case 1:
		return sets[0]
	}
	return sets
}

// serving returns the kinds that serve a purpose: what is said of it, or of the
// nearest purpose above it of which something is.
func (r *Relations) serving(purpose access.Purpose) []Kind {
	for p := purpose; p != ""; p = p.Parent() {
		if kinds, ok := r.cfg.Kinds[p]; ok {
			return kinds
		}
	}
	return Kinds()
}

// Add keeps a new relation of the caller's tenant, and returns it with its ID.
// ID is made here; an empty Tenant is the caller's, and a zero From is now.
func (r *Relations) Add(ctx context.Context, n Relation) (Relation, error) {
	who, err := r.caller(ctx)
	if err != nil {
		return Relation{}, fmt.Errorf("relation: add: %w", err)
	}
	if n.Tenant == "" {
		n.Tenant = who.Tenant
	}
	if n.From.IsZero() {
		n.From = r.cfg.Now()
	}
	n.ID, n.From, n.Until, n.Void = rand.Text(), moment(n.From), moment(n.Until), false
	if err := n.Validate(); err != nil {
		return Relation{}, err
	}
	switch {
	case n.Tenant != who.Tenant:
		return Relation{}, r.refuse(ctx, n, refusal(access.Create, access.DenyTenant))
	case n.Principal == who.ID && !r.cfg.Oneself:
		return Relation{}, r.refuse(ctx, n, refusal(access.Create, access.DenyDuty))
	}
	if err := r.may(ctx, access.Create, n); err != nil {
		return Relation{}, err
	}
	n.Version = 1
	if err := r.cfg.Store.Add(ctx, n, event(n, access.Create, audit.ReasonCreated)); err != nil {
		return Relation{}, fmt.Errorf("relation: add: %w", err)
	}
	return n, nil
}

// End ends a relation of the caller's tenant at a moment, zero for now. One that
// ends earlier already is left as it is: end it anew with [Relations.Add].
func (r *Relations) End(ctx context.Context, id string, at time.Time) error {
	if at.IsZero() {
		at = r.cfg.Now()
	}
	at = moment(at)
	return r.change(ctx, "end", id, audit.ReasonRevoked, func(c *Relation) error {
		if !inRange(at) {
			return errors.New("the moment is not between the years 1 and 9999")
		}
		if c.Until.IsZero() || at.Before(c.Until) {
			c.Until = at
		}
		if c.Until.Before(c.From) {
			c.Until = c.From
		}
		return nil
	})
}

// Void takes back a relation of the caller's tenant that was a mistake: it
// counts no more, in no window.
func (r *Relations) Void(ctx context.Context, id string) error {
	return r.change(ctx, "void", id, audit.ReasonMistake, func(c *Relation) error { c.Void = true; return nil })
}

func (r *Relations) change(ctx context.Context, verb, id string, reason audit.Reason, change func(*Relation) error) error {
	who, err := r.caller(ctx)
	if err != nil {
		return fmt.Errorf("relation: %s: %w", verb, err)
	}
	if err := access.CheckID(id); err != nil {
		return fmt.Errorf("relation: %s: the ID %w", verb, err)
	}
	if err := r.may(ctx, access.Update, Relation{Tenant: who.Tenant, ID: id}); err != nil {
		return err
	}
	err = r.cfg.Store.Change(ctx, who.Tenant, id, change, func(c Relation) audit.Event { return event(c, access.Update, reason) })
	if err != nil {
		return fmt.Errorf("relation: %s: %w", verb, err)
	}
	return nil
}

// List returns the relations of the caller's tenant that the query finds, void
// ones too, and records that the caller has seen them: who treats whom is PHI.
func (r *Relations) List(ctx context.Context, q Query) ([]Relation, error) {
	who, err := r.caller(ctx)
	if err != nil {
		return nil, fmt.Errorf("relation: list: %w", err)
	}
	if err := r.may(ctx, access.Read, Relation{Tenant: who.Tenant, ID: q.ID, Patient: q.Patient}); err != nil {
		return nil, err
	}
	found, err := r.cfg.Store.List(ctx, who.Tenant, q)
	if err != nil {
		return nil, fmt.Errorf("relation: list: %w", err)
	}
	if len(found) == 0 {
		return nil, nil
	}
	ev := audit.Event{Type: audit.Fetched, Outcome: audit.Success, Action: access.Read}
	for _, f := range found {
		ev.Objects = append(ev.Objects, audit.Object{Type: Resource, Tenant: f.Tenant, Record: f.ID, Patient: f.Patient})
	}
	if _, err := r.cfg.Audit.Record(ctx, ev); err != nil {
		return nil, fmt.Errorf("relation: list: %w", err)
	}
	return found, nil
}

// Resource is the type of a relation for rules and in the trail.
const Resource = "relation"

// may reports whether the policy lets the principal of ctx do action to a
// relation, and records that it does not.
func (r *Relations) may(ctx context.Context, action access.Action, n Relation) error {
	d, err := r.cfg.Access.Check(ctx, access.Request{Action: action, Resources: []access.Resource{{Type: Resource, ID: n.ID, Tenant: n.Tenant, Patient: n.Patient}}})
	if err != nil {
		return fmt.Errorf("relation: %s: %w", action, err)
	}
	if d.AllowAll(1) {
		return nil
	}
	denied := refusal(action, access.DenyInvalid)
	if len(d.Verdicts) == 1 {
		denied.Code = d.Verdicts[0].Code
	}
	denied.Decision = d.ID
	return r.refuse(ctx, n, denied)
}

// caller returns who asks; a change needs a purpose, as everything does.
func (r *Relations) caller(ctx context.Context) (access.Principal, error) {
	s, err := access.From(ctx)
	if err != nil {
		return access.Principal{}, err
	}
	return s.Principal(), nil
}

func event(n Relation, action access.Action, reason audit.Reason) audit.Event {
	kind := access.Human
	if n.Kind == Representative {
		kind = access.Proxy
	}
	return audit.Event{Type: audit.RelationChanged, Outcome: audit.Success, Action: action, Reason: reason, Rule: string(n.Kind),
		User: n.Principal, UserKind: kind, Since: n.From, Until: n.Until,
		Objects: []audit.Object{{Type: Resource, Tenant: n.Tenant, Record: n.ID, Patient: n.Patient, Version: n.Version}}}
}

func refusal(action access.Action, code access.Code) *access.DeniedError {
	return &access.DeniedError{Action: action, Resource: Resource, Code: code}
}

// refuse records a refusal.
func (r *Relations) refuse(ctx context.Context, n Relation, denied *access.DeniedError) error {
	ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: denied.Action, Code: denied.Code, Decision: denied.Decision,
		Objects: []audit.Object{{Type: Resource}}}
	if denied.Code != access.DenyTenant {
		ev.Objects[0].Patient = n.Patient
	}
	_, err := r.cfg.Audit.Record(ctx, ev)
	return errors.Join(denied, err)
}
