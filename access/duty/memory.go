// SPDX-License-Identifier: Apache-2.0

package duty

import (
	"context"
	"slices"
	"sync"

	"github.com/part164/part164/access"
)

// Memory is an Acts in memory, for one process and for tests. The zero Memory
// is empty; it is safe for concurrent use.
type Memory struct {
	mu   sync.Mutex
	done map[act]bool
}

type act struct {
	tenant, principal, resourceType, record string
	action                                  access.Action
}

// Did notes that a principal of tenant did action to a record.
func (m *Memory) Did(tenant, principal string, action access.Action, resourceType, record string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done == nil {
		m.done = map[act]bool{}
	}
	m.done[act{tenant, principal, resourceType, record, action}] = true
}

// By implements [Acts].
func (m *Memory) By(principals []string, resourceType string, actions []access.Action) access.Set {
	return &memorySet{m, slices.Clone(principals), resourceType, slices.Clone(actions)}
}

type memorySet struct {
	of           *Memory
	principals   []string
	resourceType string
	actions      []access.Action
}

// Has implements [access.Set].
func (s *memorySet) Has(_ context.Context, tenant string, ids []string) ([]bool, error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	out := make([]bool, len(ids))
	for i, id := range ids {
		for _, p := range s.principals {
			for _, a := range s.actions {
				out[i] = out[i] || s.of.done[act{tenant, p, s.resourceType, id, a}]
			}
		}
	}
	return out, nil
}
