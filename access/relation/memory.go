// SPDX-License-Identifier: Apache-2.0

package relation

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/part164/part164/access"
)

// A Memory is a [Store] in memory, for tests and small programs. Make it with
// [NewMemory]; it is safe for concurrent use.
type Memory struct {
	mu   sync.RWMutex
	byID map[[2]string]*Relation   // by tenant and ID
	by   map[[2]string][]*Relation // by tenant and principal
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{byID: map[[2]string]*Relation{}, by: map[[2]string][]*Relation{}}
}

// Add implements [Store].
func (m *Memory) Add(ctx context.Context, r Relation, record func(context.Context) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := [2]string{r.Tenant, r.ID}
	if m.byID[id] != nil {
		return errors.New("relation: the ID is taken")
	}
	if err := record(ctx); err != nil {
		return err
	}
	of := [2]string{r.Tenant, r.Principal}
	m.byID[id] = &r
	m.by[of] = append(m.by[of], &r)
	return nil
}

// Change implements [Store].
func (m *Memory) Change(ctx context.Context, tenant, id string, change func(*Relation) error, record func(context.Context, Relation) error) error {
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
	if err := record(ctx, r); err != nil {
		return err
	}
	kept.Until, kept.Void = r.Until, r.Void
	return nil
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
