// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"fmt"
	"slices"

	"github.com/part164/part164/access"
)

// independent says why who, with these roles, cannot approve c under base.
func (c *change) independent(base *state, who access.Principal, roles []string) error {
	if who.Kind != access.Human || who.OnBehalf != "" {
		return ErrOwn
	}
	if who.Tenant == c.Tenant && (who.ID == c.Author || who.ID == c.OnBehalf) {
		return ErrOwn
	}
	if base.givesTo(who, roles, c.edits) {
		return ErrOwn
	}
	return nil
}

// ownRoles returns the roles that who has under base, and those that it would
// have if what waits for approval were in force: by links, by its session, by
// grants, with those that they include.
func (s *Store) ownRoles(ctx context.Context, base *state, who access.Principal) ([]string, error) {
	above := base.hierarchy()
	roles := slices.Concat(base.held(above, who.Tenant, who.ID), who.Roles)
	if s.cfg.Elevated != nil {
		granted, err := s.cfg.Elevated(ctx, who.Tenant, who.ID)
		if err != nil {
			return nil, fmt.Errorf("policystore: roles by grants of who approves: %w", err)
		}
		roles = append(roles, granted...)
	}
	waiting, err := s.waitingLinks(ctx, who.Tenant)
	if err != nil {
		return nil, err
	}
	for _, l := range waiting {
		switch {
		case l.kind == roleLink:
			above[l.f[1]] = append(above[l.f[1]], l)
		case l.f[1] == who.ID:
			roles = append(roles, l.f[2])
		}
	}
	return above.included(who.Tenant, roles), nil
}

// waitingLinks returns the links that proposals would add in a tenant, whoever
// made them. One that SQL has edited counts too: it gives nobody anything, and
// only keeps an approver from approving.
func (s *Store) waitingLinks(ctx context.Context, tenant string) ([]row, error) {
	db, err := s.database()
	if err != nil {
		return nil, err
	}
	db = db.WithContext(ctx)
	var edits []editTable
	open := db.Model(&changeTable{}).Select("id").Where("status = ? AND proposed_at >= ?", proposed, s.oldest())
	q := db.Where("change_id IN (?) AND op = ? AND kind IN ? AND tenant IN ?", open, opAdd, []string{string(roleLink), string(userLink)}, []string{tenant, every})
	if err := q.Find(&edits).Error; err != nil {
		return nil, fmt.Errorf("policystore: read policy_edits: %w", err)
	}
	out := make([]row, len(edits))
	for i := range edits {
		out[i] = edits[i].edit().row
	}
	return out, nil
}

// givesTo reports whether edits of the state could give who, with these roles, a
// right: by a link of its own, by a rule or link of a role that it has, or by
// taking off what denies it something.
func (s *state) givesTo(who access.Principal, roles []string, edits []edit) bool {
	denying := s.denying()
	for _, e := range edits {
		if t := e.row.tenant(); t != every && t != who.Tenant {
			continue
		}
		gives, f := false, e.row.f
		switch e.row.kind {
		case userLink:
			gives = f[1] == who.ID && (!e.remove || denying[f[2]])
		case roleLink:
			gives = slices.Contains(roles, f[1]) && (!e.remove || denying[f[2]])
		case ruleRow:
			gives = slices.Contains(roles, f[0]) && !e.takes()
		}
		if gives {
			return true
		}
	}
	return false
}

// standing says why a proposal counts no more: of its two people one, the
// author, could not make it now, for whatever purpose. Who has which role is not
// known here with Config.PrincipalRoles.
func (s *Store) standing(ctx context.Context, c *change) error {
	if s.cfg.PrincipalRoles {
		return nil
	}
	author := access.Principal{ID: c.Author, Tenant: c.Tenant, Kind: access.Kind(c.AuthorKind)}
	req := access.Request{Action: access.Update, Resources: []access.Resource{{Type: Resource, Tenant: c.Tenant}}}
	for _, p := range access.Purposes() {
		if p.Emergency() {
			continue
		}
		d, err := s.engine.Check(access.With(ctx, author, p), req)
		if err != nil {
			return err
		}
		if d.AllowAll(1) {
			return nil
		}
	}
	return fmt.Errorf("%w: its author has no right to change the policy any more: propose it anew", ErrNoProposal)
}
