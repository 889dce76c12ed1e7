// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"slices"
)

// A Union is the set of those who belong to any of its sets. storage turns it
// into SQL where it does so for each. The zero Union is the empty set.
type Union []Set

// Has implements [Set].
func (u Union) Has(ctx context.Context, tenant string, ids []string) ([]bool, error) {
	out := make([]bool, len(ids))
	for _, s := range u {
		in, err := has(ctx, s, tenant, ids)
		if err != nil {
			return nil, err
		}
		for i := range out {
			out[i] = out[i] || in[i]
		}
	}
	return out, nil
}

// AllBut is the set of everybody, or every record, but those with the IDs.
type AllBut []string

// Has implements [Set].
func (but AllBut) Has(_ context.Context, _ string, ids []string) ([]bool, error) {
	out := make([]bool, len(ids))
	for i, id := range ids {
		out[i] = id != "" && !slices.Contains(but, id)
	}
	return out, nil
}
