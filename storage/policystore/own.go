// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"fmt"
	"slices"

	"github.com/part164/part164/access"
)

// independent says why who cannot approve c under base.
func (c *change) independent(base *state, who access.Principal) error {
	if who.Kind != access.Human || who.OnBehalf != "" {
		return ErrOwn
	}
	if who.Tenant == c.Tenant && (who.ID == c.Author || who.ID == c.OnBehalf) {
		return ErrOwn
	}
	if base.givesTo(who, c.edits) {
		return ErrOwn
	}
	return nil
}

// givesTo reports whether edits of the state could give who a right: by a link
// of its own, by a rule or link of a role that it has, or by taking off what
// denies it something. It goes by the roles before the edits: one that they give
// comes by a link, which is seen itself.
func (s *state) givesTo(who access.Principal, edits []edit) bool {
	above := s.hierarchy()
	roles := above.included(who.Tenant, slices.Concat(s.held(above, who.Tenant, who.ID), who.Roles))
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
