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
	now, err := s.basis(ctx)
	if err != nil {
		return nil, err
	}
	return s.preview(ctx, scope, now, id)
}

// A basis is the policy in force, which proposals are held against.
type basis struct {
	*state
	engine   *rbac.Engine
	findings []string
}

func (s *Store) basis(ctx context.Context) (*basis, error) {
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	b := &basis{state: s.state()}
	var err error
	if b.engine, err = rbac.New(b.config(&s.cfg)); err != nil {
		return nil, &loadError{err}
	}
	if b.findings, err = s.lint(b.state); err != nil {
		return nil, &loadError{err}
	}
	return b, nil
}

func (s *Store) preview(ctx context.Context, scope *access.Scope, base *basis, id string) (*Effect, error) {
	c, err := s.proposal(ctx, scope, id)
	if err != nil {
		return nil, err
	}
	e := &Effect{Revision: base.revision}
	next, after, err := s.after(base.state, c.edits)
	if err != nil {
		e.Refused = err.Error()
		return e, nil
	}
	for _, h := range next.touched(base.state, c.edits) {
		line := func(sign string, roles []string) {
			for _, role := range roles {
				e.Users = append(e.Users, fmt.Sprintf("%s user %s has role %s in tenant %s", sign, h.user, role, h.tenant))
			}
		}
		line("+", without(h.roles, h.had))
		line("-", without(h.had, h.roles))
	}
	rights, err := rbac.Diff(base.engine, after, nil)
	if err != nil {
		e.Unlisted = err.Error()
	}
	for _, r := range rights {
		e.Rights = append(e.Rights, r.String())
	}
	now, err := s.lint(next)
	if err != nil {
		return nil, &loadError{err}
	}
	e.Findings = without(now, base.findings)
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
