// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report/document"
)

// ErrChanged is wrapped where the report that was looked at is not the one of the
// policy in force.
var ErrChanged = errors.New("that is not the report that was looked at: make it again")

// SignOff records that the principal of ctx has gone through the report of which
// seen is the Digest, and that each line of the policy in it is still needed: what
// is not is taken away first, which makes another report. The next one names who
// signed, when, and which revision. Rights for a time are no part of it: they end
// by themselves.
//
// Who signs is a human who acts for nobody else, and needs the right to [Approve]
// on [Resource]. A report of another tenant, or of another policy than the one in
// force, is refused by [ErrChanged]. That nobody signs for themselves alone is
// yours to see to.
func (s *Store) SignOff(ctx context.Context, seen string) error {
	scope, err := access.From(ctx)
	if err != nil {
		return err
	}
	if err := s.may(ctx, scope, Approve, nil); err != nil {
		return err
	}
	if who := scope.Principal(); who.Kind != access.Human || who.OnBehalf != "" {
		return s.deny(ctx, Approve, access.DenyDuty, "", errors.New("policystore: sign off: who reviews access is a human, and acts for nobody else"))
	}
	r, err := s.holdings(ctx, scope)
	if err != nil {
		return err
	}
	if seen != r.Digest {
		return fmt.Errorf("policystore: sign off: in force is revision %d: %w", r.Revision, ErrChanged)
	}
	_, err = s.cfg.Audit.Record(ctx, audit.Event{Type: audit.PolicyReviewed, Outcome: audit.Success, Reason: audit.ReasonReview, Action: Approve,
		Count: len(r.Holders), Citation: "164.308(a)(4)(ii)(C)", Rule: r.about(),
		Objects: []audit.Object{{Type: Resource, Tenant: r.Tenant, Version: int64(r.Revision), Fields: []string{digestField}, Digests: []string{r.Digest}}}})
	return err
}

// about says in an event whether a report is of one tenant or of all.
func (r *Report) about() string {
	if r.Tenant == "" {
		return "every_tenant"
	}
	return "tenant"
}

// uses are the events by which a user is seen to be there.
func uses() []audit.Type {
	return []audit.Type{audit.SignIn, audit.Fetched, audit.Revealed, audit.Searched, audit.WriteAttempt, audit.Disclosed}
}

// replay takes from the trails what they tell.
func (r *reporting) replay(ctx context.Context, trails []audit.History) error {
	r.Trails = len(trails)
	last := make(map[[2]string]time.Time)
	granted := make(map[string]Holding)
	ended := make(map[string]bool)
	for _, h := range trails {
		var first time.Time
		for ev, err := range h.Replay(ctx, r.Tenant, append(uses(), audit.GrantApproved, audit.GlassBroken, audit.GrantEnded, audit.PolicyReviewed)...) {
			if err != nil {
				return fmt.Errorf("policystore: report: read the trail: %w", err)
			}
			if ev.Outcome != audit.Success {
				continue
			}
			if ev.Type == audit.GrantEnded { // by itself, too
				ended[ev.Grant] = true
				continue
			}
			if ev.Actor.ID == "" || r.Tenant != "" && ev.Actor.Tenant != r.Tenant {
				continue
			}
			switch ev.Type {
			case audit.GrantApproved, audit.GlassBroken:
				if kept, ok := granted[ev.Grant]; ev.Until.After(r.Made) && (!ok || ev.Time.After(kept.Since.Time)) {
					granted[ev.Grant] = Holding{Tenant: ev.Actor.Tenant, User: ev.User, Role: ev.Role, Grant: ev.Grant, Until: ev.Until,
						Since: Origin{Time: ev.Time, Author: ev.Actor.ID, Reason: ev.Reason}}
				}
			case audit.PolicyReviewed:
				if len(ev.Objects) == 1 && ev.Rule == r.about() && (r.Reviewed == nil || ev.Time.After(r.Reviewed.Time)) {
					r.Reviewed = &Origin{Revision: uint64(ev.Objects[0].Version), Time: ev.Time, Author: ev.Actor.ID, Reason: ev.Reason}
				}
			default:
				if first.IsZero() || ev.Time.Before(first) {
					first = ev.Time
				}
				if user := [2]string{ev.Actor.Tenant, ev.Actor.ID}; ev.Time.After(last[user]) {
					last[user] = ev.Time
				}
			}
		}
		if first.After(r.Known) {
			r.Known = first
		}
	}
	for i := range r.Holders {
		h := &r.Holders[i]
		h.LastUse = last[[2]string{h.Tenant, h.User}]
	}
	for id, h := range granted {
		if !ended[id] {
			h.LastUse = last[[2]string{h.Tenant, h.User}]
			r.Granted = append(r.Granted, h)
		}
	}
	slices.SortFunc(r.Granted, func(a, b Holding) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.User, b.User), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Grant, b.Grant))
	})
	return nil
}

func (r *Report) lastUse(h Holding) string {
	switch {
	case !h.LastUse.IsZero():
		return document.Stamp(h.LastUse)
	case r.Known.IsZero():
		return "not known"
	}
	return "not since " + document.Stamp(r.Known)
}

func (r *Report) ungranted() string {
	if r.Trails == 0 {
		return "Not known: no trail was given."
	}
	return "None."
}

func (r *Report) signedOff() string {
	switch {
	case r.Reviewed != nil:
		return fmt.Sprintf("%s by %s, revision %d", document.Stamp(r.Reviewed.Time), r.Reviewed.Author, r.Reviewed.Revision)
	case r.Trails == 0:
		return "not known: no trail was given"
	}
	return "never, as far as the trails go back"
}
