// SPDX-License-Identifier: Apache-2.0

package granttest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit"
)

// A bench is a desk, with a policy, a clock, a trail and alerts that fail as told.
type bench struct {
	*grant.Desk
	cfg grant.Config

	mu      sync.Mutex
	at      time.Time
	policy  map[string][]string // the roles of each person
	down    error               // of the policy
	unknown map[string]error    // what the policy says of whom it does not know
	events  []audit.Stored
	trail   error
	alerts  []grant.Alert
	alertTo error
}

// newBench makes a desk on store, with with's changes of its configuration.
func newBench(t *testing.T, store grant.Store, with func(*grant.Config)) *bench {
	t.Helper()
	b := &bench{at: monday(), policy: map[string][]string{}}
	b.cfg = grant.Config{
		Store: store, Audit: b, Roles: b.roles,
		Elevations: []grant.Elevation{
			{Role: "records-clerk", Requesters: []string{"front-desk"}, Approvers: []string{"privacy-officer"}, MaxTTL: 8 * time.Hour,
				Purposes: []access.Purpose{access.Operations, access.Payment}, Reviewers: []string{"privacy-officer", "auditor"}},
			{Role: "policy-admin", Requesters: []string{"engineer"}, Approvers: []string{"security-officer", "policy-admin"}, Approvals: 2, MaxTTL: time.Hour,
				MaxUses: 2, Purposes: []access.Purpose{access.SystemAdmin}},
			grant.Repair("repairer", []string{"engineer"}, []string{"security-officer"}),
		},
		Emergency: &grant.Emergency{Roles: []string{"physician", "nurse"}, Reviewers: []string{"privacy-officer"}},
		Confirm: func(_ context.Context, _ access.Principal, secret string) error {
			if secret != "right" {
				return errors.New("wrong")
			}
			return nil
		},
		Alert: func(_ context.Context, a grant.Alert) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.alertTo == nil {
				b.alerts = append(b.alerts, a)
			}
			return b.alertTo
		},
		Now: b.now,
	}
	if with != nil {
		with(&b.cfg)
	}
	var err error
	if b.Desk, err = grant.New(b.cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at
}

// pass lets time pass; it may go back.
func (b *bench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = b.at.Add(d)
}

// fail makes the trail and the alerts fail.
func (b *bench) fail(trail, alert error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trail, b.alertTo = trail, alert
}

// Record implements [audit.Recorder].
func (b *bench) Record(ctx context.Context, ev audit.Event) (audit.Receipt, error) {
	s, err := audit.Stamp(ctx, ev)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		err = b.trail
	}
	if err != nil {
		return audit.Receipt{}, err
	}
	s.Time = b.at
	b.events = append(b.events, s)
	return audit.Receipt{ID: "j0123456789abcdef0123456789abcdef.1"}, nil
}

// recorded returns the events of a type about a grant; an empty ID means any.
func (b *bench) recorded(typ audit.Type, id string) (out []audit.Stored) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ev := range b.events {
		if ev.Type == typ && (id == "" || ev.Grant == id) {
			out = append(out, ev)
		}
	}
	return out
}

// told returns the alerts about a grant.
func (b *bench) told(id string) (out []grant.Alert) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.alerts {
		if a.Grant.ID == id {
			out = append(out, a)
		}
	}
	return out
}

// roles is a policy: a person has the roles that it gives, and acts in those of
// them that the session names.
func (b *bench) roles(_ context.Context, p access.Principal) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.unknown[p.ID]; err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(b.policy[p.ID]), func(r string) bool { return len(p.Roles) > 0 && !slices.Contains(p.Roles, r) }), b.down
}

// assign makes roles all that the policy gives to somebody.
func (b *bench) assign(id string, roles ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.policy[id] = roles
}

// as gives roles to somebody, and returns a context in which they act in them, who
// signed in with two factors at the bench's time.
func (b *bench) as(t *testing.T, id string, roles ...string) context.Context {
	t.Helper()
	b.mu.Lock()
	b.policy[id] = append(b.policy[id], roles...)
	b.mu.Unlock()
	return b.saying(t, id, roles...)
}

// saying returns a context of somebody whose session names roles, whatever the
// policy says.
func (b *bench) saying(t *testing.T, id string, roles ...string) context.Context {
	t.Helper()
	p := somebody(id, roles...)
	p.AuthTime = b.now()
	return access.With(t.Context(), p, access.Operations)
}

// live returns the IDs of what somebody has in force.
func (b *bench) live(t *testing.T, id string) (out []string) {
	t.Helper()
	grants, err := b.Live(t.Context(), somebody(id), b.now())
	if err != nil {
		t.Error(err)
	}
	for _, g := range grants {
		out = append(out, g.ID)
	}
	return out
}

func (b *bench) isLive(t *testing.T, who string, g grant.Grant, want bool) {
	t.Helper()
	if got := slices.Contains(b.live(t, who), g.ID); got != want {
		t.Errorf("in force: %v, want %v", got, want)
	}
}

// clerk asks for the role of a records clerk for one patient.
func clerk() grant.Request {
	return grant.Request{Role: "records-clerk", Reason: audit.ReasonIndividual, Patient: "p-1", TTL: time.Hour}
}
