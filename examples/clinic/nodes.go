// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"iter"
	"strings"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/crypto"
)

// Several nodes of the clinic share a database (-dsn), the key that wraps the
// others, and nothing else: each has a journal of its own. What a report says is
// read from all of them.

// sources are the trails of this node and of those that -trails names.
func (a *app) sources() []report.Source {
	out := []report.Source{a.journal}
	for _, dir := range strings.Split(a.options.trails, ",") {
		if dir = strings.TrimSpace(dir); dir != "" {
			out = append(out, elsewhere{dir, a.kek})
		}
	}
	return out
}

// elsewhere is the trail of another node, in a folder on a disk that this one can
// read. It is opened each time: that node may have turned its keys over. A report
// that cannot read it fails, since it would leave something out.
type elsewhere struct {
	dir string
	kek crypto.KEK
}

// Events implements report.Source.
func (e elsewhere) Events(ctx context.Context, q audit.Query) iter.Seq2[audit.Stored, error] {
	r, err := audit.OpenReader(e.dir, e.kek)
	if err != nil {
		return func(yield func(audit.Stored, error) bool) { yield(audit.Stored{}, err) }
	}
	return r.Events(ctx, q)
}

// Pseudonym implements report.Source.
func (e elsewhere) Pseudonym(tenant, id string) string {
	r, err := audit.OpenReader(e.dir, e.kek)
	if err != nil {
		return "" // Events says so
	}
	return r.Pseudonym(tenant, id)
}
