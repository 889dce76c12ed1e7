// SPDX-License-Identifier: Apache-2.0

package watchtest

import (
	"context"
	"sync"

	"github.com/part164/part164/audit/watch"
	"github.com/part164/part164/internal/fault"
)

// A Fake is a [watch.Relations] in memory. The zero Fake knows nobody. It is
// safe for concurrent use.
type Fake struct {
	mu     sync.Mutex
	known  map[pair]watch.Relation
	faults fault.Faults
}

type pair struct{ tenant, actor, patient string }

// Set says how an actor and a patient are related; an empty actor stands for
// everybody of whom nothing else was said.
func (f *Fake) Set(tenant, actor, patient string, r watch.Relation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == nil {
		f.known = map[pair]watch.Relation{}
	}
	f.known[pair{tenant, actor, patient}] = r
}

// Fail makes every later call fail with err, until Fail(nil).
func (f *Fake) Fail(err error) { f.faults.FailAfter(0, err) }

// Relate implements [watch.Relations].
func (f *Fake) Relate(ctx context.Context, tenant, actor string, patients []string) ([]watch.Relation, error) {
	if err := f.faults.Call(ctx); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]watch.Relation, len(patients))
	for i, p := range patients {
		r, ok := f.known[pair{tenant, actor, p}]
		if !ok {
			r = f.known[pair{tenant, "", p}]
		}
		out[i] = r
	}
	return out, nil
}
