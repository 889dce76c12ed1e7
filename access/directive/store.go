// SPDX-License-Identifier: Apache-2.0

package directive

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// ErrNotFound means that there is no such directive in the tenant.
var ErrNotFound = errors.New("directive: not found")

// A Store keeps directives. [NewMemory] and storage/accessstore are ones.
// Implementations are safe for concurrent use; the conformance suite is
// directivetest.TestStore.
type Store interface {
	// Add keeps a new directive, which is valid and whose times are whole
	// microseconds in UTC, with Version 1. ev becomes an attempt of the store's
	// trail (see [audit.Trail]), and the directive is there if and only if that
	// is committed; where it cannot be recorded, nothing is kept.
	Add(ctx context.Context, d Directive, ev audit.Event) error

	// Change replaces Until, Ended and Void of a directive by what change makes
	// of it, and makes its Version one higher, or returns [ErrNotFound] or
	// change's error. What event makes of the directive that will be kept is
	// recorded as by Add. Changes of one directive queue: none is lost.
	Change(ctx context.Context, tenant, id string, change func(*Directive) error, event func(Directive) audit.Event) error

	// List returns the directives of a patient, or the one with an ID where that
	// is not empty, the oldest ID first, void ones too.
	List(ctx context.Context, tenant, patient, id string) ([]Directive, error)

	// Patients returns the patients with a directive that the question is about
	// and that names no record, of the tenant only.
	Patients(q Ask) access.Set

	// Records returns the records that such directives name.
	Records(q Ask) access.Set
}

// A Memory is a [Store] in memory, for tests and small programs. Make it with
// [NewMemory]; it is safe for concurrent use.
type Memory struct {
	trail audit.Trail

	mu      sync.RWMutex
	all     map[[2]string]*Directive   // by tenant and ID
	of      map[[2]string][]*Directive // by tenant and patient
	records map[[2]string][]*Directive // by tenant and record, those that name one
}

// NewMemory returns an empty store that records its changes in trail.
func NewMemory(trail audit.Trail) *Memory {
	return &Memory{trail: trail, all: map[[2]string]*Directive{}, of: map[[2]string][]*Directive{}, records: map[[2]string][]*Directive{}}
}

// clone returns a directive that shares no list.
func (d Directive) clone() Directive {
	d.Principals, d.Roles, d.Purposes, d.Types = slices.Clone(d.Principals), slices.Clone(d.Roles), slices.Clone(d.Purposes), slices.Clone(d.Types)
	return d
}

// Add implements [Store].
func (m *Memory) Add(ctx context.Context, d Directive, ev audit.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := [2]string{d.Tenant, d.ID}
	if m.all[id] != nil {
		return errors.New("directive: the ID is taken")
	}
	ticket, err := m.trail.Attempt(ctx, ev)
	if err != nil {
		return err
	}
	d = d.clone()
	d.Version = 1
	patient := [2]string{d.Tenant, d.Patient}
	m.all[id] = &d
	m.of[patient] = append(m.of[patient], &d)
	if d.Record != "" {
		record := [2]string{d.Tenant, d.Record}
		m.records[record] = append(m.records[record], &d)
	}
	_, err = m.trail.Commit(ctx, []audit.Ticket{ticket})
	return err
}

// Change implements [Store].
func (m *Memory) Change(ctx context.Context, tenant, id string, change func(*Directive) error, event func(Directive) audit.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := m.all[[2]string{tenant, id}]
	if kept == nil {
		return ErrNotFound
	}
	d := kept.clone()
	if err := change(&d); err != nil {
		return err
	}
	will := kept.clone()
	will.Until, will.Ended, will.Void, will.Version = d.Until, d.Ended, d.Void, kept.Version+1
	ticket, err := m.trail.Attempt(ctx, event(will.clone()))
	if err != nil {
		return err
	}
	*kept = will
	_, err = m.trail.Commit(ctx, []audit.Ticket{ticket})
	return err
}

// List implements [Store].
func (m *Memory) List(ctx context.Context, tenant, patient, id string) ([]Directive, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []Directive
	if id != "" {
		if d := m.all[[2]string{tenant, id}]; d != nil && (patient == "" || patient == d.Patient) {
			out = append(out, d.clone())
		}
		return out, nil
	}
	for _, d := range m.of[[2]string{tenant, patient}] {
		out = append(out, d.clone())
	}
	slices.SortFunc(out, func(a, b Directive) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Patients implements [Store]. storage cannot tell it in SQL.
func (m *Memory) Patients(q Ask) access.Set { return memorySet{m, q, false} }

// Records implements [Store]. storage cannot tell it in SQL.
func (m *Memory) Records(q Ask) access.Set { return memorySet{m, q, true} }

type memorySet struct {
	m       *Memory
	q       Ask
	records bool
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
	of := s.m.of
	if s.records {
		of = s.m.records
	}
	for i, id := range ids {
		out[i] = id != "" && slices.ContainsFunc(of[[2]string{tenant, id}], func(d *Directive) bool { return (d.Record != "") == s.records && s.q.About(*d) })
	}
	return out, nil
}
