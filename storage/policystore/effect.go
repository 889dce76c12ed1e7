// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
)

// An Effect is what a proposal would do if it were approved now: what its edits
// come to, by the roles that bring others and the rules that deny. It holds the
// IDs of the workforce, and no PHI.
type Effect struct {
	Revision uint64   `json:"revision"`           // of the policy that the proposal is held against
	Users    []string `json:"users,omitempty"`    // roles that users get (+) or lose (-), with those that a role includes
	Rights   []string `json:"rights,omitempty"`   // rights that roles gain (+) or lose (-): see rbac.Diff
	Unlisted string   `json:"unlisted,omitempty"` // why Rights could not be listed; empty where they are
	Findings []string `json:"findings,omitempty"` // what rbac.Lint would point at that it does not now
	Refused  string   `json:"refused,omitempty"`  // why it could not be approved; then there is nothing else
}

// Preview says what a proposal would do: for who approves it. What Config.Assign
// and Config.Validate would say is not asked.
//
// The principal of ctx needs the right to access.Read on [Resource], and sees the
// proposals that [Store.Pending] returns.
func (s *Store) Preview(ctx context.Context, id string) (*Effect, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.may(ctx, scope, access.Read, nil); err != nil {
		return nil, err
	}
	c, err := s.proposal(ctx, scope, id)
	if err != nil {
		return nil, err
	}
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	return s.effect(s.state(), c.edits)
}

// effect is that of edits of base.
func (s *Store) effect(base *state, edits []edit) (*Effect, error) {
	e := &Effect{Revision: base.revision}
	next, after, err := s.after(base, edits)
	if err != nil {
		e.Refused = err.Error()
		return e, nil
	}
	before, err := rbac.New(base.config(&s.cfg))
	if err != nil {
		return nil, &loadError{err}
	}
	for _, h := range next.touched(base, edits) {
		line := func(sign string, roles []string) {
			for _, role := range roles {
				e.Users = append(e.Users, fmt.Sprintf("%s user %s has role %s in tenant %s", sign, h.user, role, h.tenant))
			}
		}
		line("+", without(h.roles, h.had))
		line("-", without(h.had, h.roles))
	}
	rights, err := rbac.Diff(before, after, nil)
	if err != nil {
		e.Unlisted = err.Error()
	}
	for _, r := range rights {
		e.Rights = append(e.Rights, r.String())
	}
	then, err := s.lint(base)
	if err != nil {
		return nil, &loadError{err}
	}
	now, err := s.lint(next)
	if err != nil {
		return nil, &loadError{err}
	}
	e.Findings = without(now, then)
	return e, nil
}

// lint returns what rbac.Lint points at, in the words of the rows: their places
// differ from state to state.
func (s *Store) lint(of *state) ([]string, error) {
	cfg := of.config(&s.cfg)
	found, err := rbac.Lint(cfg)
	if err != nil {
		return nil, err
	}
	rows := make(map[string][]row) // as config numbers them
	for _, r := range of.rows {
		list := map[kind]string{ruleRow: "Rules", roleLink: "Links", userLink: "Assignments"}[r.kind]
		rows[list] = append(rows[list], r)
	}
	place := regexp.MustCompile(`Config\.(Rules|Links|Assignments)\[(\d+)\]`)
	inWords := func(text string) string {
		return place.ReplaceAllStringFunc(text, func(at string) string {
			m := place.FindStringSubmatch(at)
			if i, err := strconv.Atoi(m[2]); err == nil && i < len(rows[m[1]]) {
				return rows[m[1]][i].String()
			}
			return at
		})
	}
	out := make([]string, len(found))
	for i, f := range found {
		out[i] = f.Kind + ": " + inWords(f.Where) + ": " + inWords(f.Why)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// lines are e for people.
func (e *Effect) lines() []string {
	if e == nil {
		return nil
	}
	out := slices.Concat(e.Users, e.Rights, e.Findings)
	for _, why := range []struct{ what, text string }{{"its rights cannot be listed: ", e.Unlisted}, {"it cannot be approved: ", e.Refused}} {
		if why.text != "" {
			out = append(out, why.what+why.text)
		}
	}
	return out
}
