// SPDX-License-Identifier: Apache-2.0

package relation

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A Memory is a [Store] in memory, for tests and small programs. Make it with
// [NewMemory]; it is safe for concurrent use.
type Memory struct {
	trail audit.Trail

	mu   sync.RWMutex
	byID map[[2]string]*Relation   // by tenant and ID
	by   map[[2]string][]*Relation // by tenant and principal
}

// NewMemory returns an empty store that records its changes in trail.
func NewMemory(trail audit.Trail) *Memory {
	return &Memory{trail: trail, byID: map[[2]string]*Relation{}, by: map[[2]string][]*Relation{}}
}

// Add implements [Store].
func (m *Memory) Add(ctx context.Context, r Relation, ev audit.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := [2]string{r.Tenant, r.ID}
	if m.byID[id] != nil {
		return errors.New("relation: the ID is taken")
	}
	ticket, err := m.trail.Attempt(ctx, ev)
	if err != nil {
		return err
	}
	r.Version = 1
	of := [2]string{r.Tenant, r.Principal}
	m.byID[id] = &r
	m.by[of] = append(m.by[of], &r)
	_, err = m.trail.Commit(ctx, []audit.Ticket{ticket})
	return err
}

// Change implements [Store].
func (m *Memory) Change(ctx context.Context, tenant, id string, change func(*Relation) error, event func(Relation) audit.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := m.byID[[2]string{tenant, id}]
	if kept == nil {
		return ErrNotFound
	}
	r := *kept
	if err := change(&r); err != nil {
		return err
	}
	will := *kept
	will.Until, will.Void, will.Version = r.Until, r.Void, kept.Version+1
	ticket, err := m.trail.Attempt(ctx, event(will))
	if err != nil {
		return err
	}
	*kept = will
	_, err = m.trail.Commit(ctx, []audit.Ticket{ticket})
	return err
}

// List implements [Store].
func (m *Memory) List(ctx context.Context, tenant string, q Query) ([]Relation, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []Relation
	for _, r := range m.byID {
		if r.Tenant == tenant && q.Finds(*r) {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b Relation) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Set implements [Store]. storage cannot tell it in SQL.
func (m *Memory) Set(q Reach) access.Set { return memorySet{m, q} }

type memorySet struct {
	m *Memory
	q Reach
}

// Has implements [access.Set].
func (s memorySet) Has(ctx context.Context, tenant string, ids []string) ([]bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]bool, len(ids))
	if tenant != s.q.Tenant {
		return out, nil
	}
	s.m.mu.RLock()
	defer s.m.mu.RUnlock()
	there := map[string]bool{}
	for _, r := range s.m.by[[2]string{s.q.Tenant, s.q.Principal}] {
		if s.q.Holds(*r) {
			there[r.Patient] = true
		}
	}
	for i, id := range ids {
		out[i] = id != "" && there[id]
	}
	return out, nil
}
