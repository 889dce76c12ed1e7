// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Memory is a Store in memory, for one process and for tests. Make it with
// [NewMemory]; it is safe for concurrent use.
type Memory struct {
	mu     sync.Mutex
	grants map[[2]string]*Grant   // by tenant and ID
	held   map[[2]string][]*Grant // by tenant and holder
	keys   map[string]*Grant
	checks sync.Mutex // held while a check goes on
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	return &Memory{grants: make(map[[2]string]*Grant), held: make(map[[2]string][]*Grant), keys: make(map[string]*Grant)}
}

func (g *Grant) clone(steps bool) Grant {
	out := *g
	out.Purposes, out.Steps = slices.Clone(g.Purposes), nil
	if steps {
		out.Steps = slices.Clone(g.Steps)
		for i := range out.Steps {
			out.Steps[i].By.Roles = slices.Clone(out.Steps[i].By.Roles)
		}
	}
	return out
}

// Create implements [Store].
func (m *Memory) Create(_ context.Context, g Grant, keep func(Grant) bool) (Grant, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := g.Key()
	if old, ok := m.keys[key]; ok && keep(old.clone(false)) {
		return old.clone(false), false, nil
	}
	g = g.clone(true)
	g.Version = 1
	m.grants[[2]string{g.Tenant, g.ID}], m.keys[key] = &g, &g
	holder := [2]string{g.Tenant, g.Holder}
	m.held[holder] = append(m.held[holder], &g)
	return g.clone(true), true, nil
}

// Grant implements [Store].
func (m *Memory) Grant(_ context.Context, tenant, id string) (Grant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, ok := m.grants[[2]string{tenant, id}]
	if !ok {
		return Grant{}, ErrNotFound
	}
	return g.clone(true), nil
}

// Change implements [Store].
func (m *Memory) Change(ctx context.Context, g Grant, step *Step, check func(context.Context) error) (bool, error) {
	if check != nil {
		m.checks.Lock()
		defer m.checks.Unlock()
		if err := check(ctx); err != nil {
			return false, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.grants[[2]string{g.Tenant, g.ID}]
	if !ok {
		return false, ErrNotFound
	}
	if old.Version != g.Version {
		return false, nil
	}
	old.State, old.From, old.Until, old.Ended = g.State, g.From, g.Until, g.Ended
	old.ReviewBy, old.Reviewed, old.Finding, old.AlertAt = g.ReviewBy, g.Reviewed, g.Finding, g.AlertAt
	old.Version++
	if step != nil {
		s := *step
		s.By.Roles = slices.Clone(s.By.Roles)
		old.Steps = append(old.Steps, s)
	}
	return true, nil
}

// Use implements [Store].
func (m *Memory) Use(_ context.Context, tenant, id string, at time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, ok := m.grants[[2]string{tenant, id}]
	if !ok || g.At(at) != Active {
		return false, nil
	}
	g.Uses++
	return true, nil
}

// Settle implements [Store].
func (m *Memory) Settle(_ context.Context, tenant, id string, n int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, ok := m.grants[[2]string{tenant, id}]
	if !ok || n < 0 || n >= len(g.Steps) {
		return ErrNotFound
	}
	g.Steps[n].Owed = time.Time{}
	if g.State == Approved && !g.owed() {
		g.State = Active
		g.Version++
	}
	return nil
}

// owed reports whether a step waits to be recorded.
func (g *Grant) owed() bool {
	return slices.ContainsFunc(g.Steps, func(s Step) bool { return !s.Owed.IsZero() })
}

// some returns up to limit of the grants that want selects, in the order of
// creation.
func (m *Memory) some(limit int, steps bool, want func(g *Grant) bool, change func(g *Grant)) []Grant {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []*Grant
	for _, g := range m.grants {
		if want(g) {
			found = append(found, g)
		}
	}
	oldestFirst(found)
	var out []Grant
	for _, g := range found[:min(len(found), limit)] {
		if change != nil {
			change(g)
		}
		out = append(out, g.clone(steps))
	}
	return out
}

// oldestFirst sorts grants by the order of creation.
func oldestFirst(all []*Grant) {
	slices.SortFunc(all, func(a, b *Grant) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
}

// Live implements [Store].
func (m *Memory) Live(_ context.Context, tenant, holder string, at time.Time) ([]Grant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := m.held[[2]string{tenant, holder}]
	oldestFirst(held)
	var out []Grant
	for _, g := range held {
		if g.At(at) == Active {
			out = append(out, g.clone(false))
		}
	}
	return out, nil
}

// List implements [Store].
func (m *Memory) List(_ context.Context, q Query) ([]Grant, error) {
	out := m.some(1<<30, true, q.selects, nil)
	slices.Reverse(out)
	if q.ToReview {
		slices.SortStableFunc(out, func(a, b Grant) int { return a.ReviewBy.Compare(b.ReviewBy) })
	}
	return out[:min(len(out), q.limit())], nil
}

// selects reports whether g is one of those that q asks for.
func (q *Query) selects(g *Grant) bool {
	return g.Tenant == q.Tenant && (q.Holder == "" || g.Holder == q.Holder) && (q.Role == "" || g.Role == q.Role) &&
		(q.Kind == "" || g.Kind == q.Kind) && (len(q.States) == 0 || slices.Contains(q.States, g.State)) &&
		(!q.ToReview || !g.ReviewBy.IsZero() && g.Reviewed.IsZero()) && !g.Created.Before(q.Since)
}

// Owed implements [Store].
func (m *Memory) Owed(_ context.Context, before, at time.Time, limit int) ([]Grant, error) {
	due := func(s Step) bool { return !s.Owed.IsZero() && !s.Owed.After(before) }
	return m.some(limit, true, func(g *Grant) bool { return slices.ContainsFunc(g.Steps, due) }, func(g *Grant) {
		for i := range g.Steps {
			if !g.Steps[i].Owed.IsZero() {
				g.Steps[i].Owed = at
			}
		}
	}), nil
}

// Alerts implements [Store].
func (m *Memory) Alerts(_ context.Context, at, again time.Time, limit int) ([]Grant, error) {
	return m.some(limit, true, func(g *Grant) bool { return !g.AlertAt.IsZero() && !g.AlertAt.After(at) },
		func(g *Grant) { g.AlertAt = again }), nil
}

// Alerted implements [Store].
func (m *Memory) Alerted(_ context.Context, tenant, id string, again, next time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g, ok := m.grants[[2]string{tenant, id}]; ok && g.AlertAt.Equal(again) {
		g.AlertAt = next
	}
	return nil
}

// Over implements [Store].
func (m *Memory) Over(_ context.Context, at time.Time, limit int) ([]Grant, error) {
	return m.some(limit, true, func(g *Grant) bool {
		return (g.State == Requested || g.State == Approved || g.State == Active) && g.At(at) != g.State
	}, nil), nil
}
