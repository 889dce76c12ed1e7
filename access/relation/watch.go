// SPDX-License-Identifier: Apache-2.0

package relation

import (
	"context"
	"errors"

	"github.com/part164/part164/audit/watch"
)

// Watched returns what the rules of audit/watch ask: rest, with a care relation
// where somebody has a live relation of any kind, in its window. pseudonym is
// that of the trail that is watched ([audit.History].Pseudonym). rest is what the
// app knows beside relations, such as who is staff; nil knows nothing.
func (r *Relations) Watched(pseudonym func(tenant, id string) string, rest watch.Relations) watch.Relations {
	return watched{r, pseudonym, rest}
}

type watched struct {
	r         *Relations
	pseudonym func(tenant, id string) string
	rest      watch.Relations
}

// Relate implements watch.Relations.
func (w watched) Relate(ctx context.Context, tenant, actor string, patients []string) ([]watch.Relation, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]watch.Relation, len(patients))
	if w.rest != nil {
		known, err := w.rest.Relate(ctx, tenant, actor, patients)
		if err != nil {
			return nil, err
		}
		if len(known) != len(patients) {
			return nil, errors.New("relation: watched: the rest answers about another number of patients")
		}
		copy(out, known)
	}
	if actor == "" || len(patients) == 0 {
		return out, nil
	}
	mine, err := w.r.cfg.Store.List(ctx, tenant, Query{Principal: actor})
	if err != nil {
		return nil, err
	}
	now, cares := w.r.cfg.Now(), map[string]bool{}
	for _, m := range mine {
		if m.Kind != Representative && m.Live(now, w.r.cfg.Windows[m.Kind]) {
			cares[w.pseudonym(tenant, m.Patient)] = true
		}
	}
	delete(cares, "") // whom the trail cannot name
	for i, p := range patients {
		out[i].Care = out[i].Care || cares[p]
	}
	return out, nil
}
