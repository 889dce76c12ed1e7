// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"
	"net/url"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report/review"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/audit/watch"
)

// nobody is the record ID of a patient who does not exist: a honey record.
// Whoever touches it was looking around.
const nobody = "019b4000-0000-7000-8000-0000000000ff"

// known is what the clinic knows of its people beside who cares for whom: yours
// has coworkers among its patients, and knows who lives with whom. Patients are
// named as the trail names them.
type known struct{ nobody string }

// Relate implements watch.Relations.
func (k known) Relate(_ context.Context, of, actor string, patients []string) ([]watch.Relation, error) {
	out := make([]watch.Relation, len(patients))
	for i, p := range patients {
		out[i].Honey = of == tenant && p == k.nobody && actor != importer().ID // who has made it
	}
	return out, nil
}

// watchTrail looks at each event of the trail, as it comes, for accesses that
// want a look. The alerts stand in the weekly review.
func (a *app) watchTrail(ctx context.Context) error {
	var off []watch.Rule
	if a.options.trails != "" {
		// A node watches its own trail, and a review may be recorded in another's.
		// Emergency access is always by a grant here, and the desk itself says which
		// nobody has reviewed: see app.tell.
		off = []watch.Rule{watch.BreakGlass}
	}
	w, err := watch.New(watch.Config{
		Audit: a.trail, Relations: a.relations.Watched(a.journal.Pseudonym, known{a.journal.Pseudonym(tenant, nobody)}), Off: off,
	})
	if err != nil {
		return err
	}
	in, err := watch.NewSink(ctx, w, a.journal, access.Principal{ID: "watch", Tenant: tenant, Kind: access.Service})
	if err != nil {
		return err
	}
	a.watch, err = sink.Open(a.journal, in, sink.Config{})
	return err
}

// outcomes are what may have come of an alert.
var outcomes = []struct {
	Reason audit.Reason
	Name   string
}{
	{audit.ReasonExplained, "It was in order"}, {audit.ReasonFalseAlarm, "The rule was wrong"},
	{audit.ReasonEscalated, "Somebody else decides"}, {audit.ReasonViolation, "It was not in order"},
}

// dispose says what came of an alert.
func (a *app) dispose(w http.ResponseWriter, r *http.Request) {
	err := review.Dispose(r.Context(), a.reports, r.PostFormValue("alert"), audit.Reason(r.PostFormValue("reason")))
	if err != nil {
		a.fail(w, r, err)
		return
	}
	see(w, r, "/review?week="+url.QueryEscape(r.PostFormValue("week"))+"#look")
}
