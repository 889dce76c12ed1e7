// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/watch"
)

// A score counts alerts that are labelled, and labels that were found. An
// incident of several events is found by one alert.
type score struct{ right, wrong, missed int }

func (s score) precision() float64 { return float64(s.right) / float64(max(s.right+s.wrong, 1)) }
func (s score) recall() float64    { return float64(s.right) / float64(max(s.right+s.missed, 1)) }

// watched is what the rules made of a hospital.
type watched struct {
	scores    map[watch.Rule]*score
	explained int
	events    int
}

func (w *watched) of(r watch.Rule) *score {
	if w.scores[r] == nil {
		w.scores[r] = new(score)
	}
	return w.scores[r]
}

// run lets the rules watch a hospital, after a month of learning.
func (w *watched) run(t *testing.T, seed uint64) {
	t.Helper()
	h := newHospital(seed)
	watcher, err := watch.New(watch.Config{Audit: audittest.New(t), Relations: h.relations, Explain: h})
	if err != nil {
		t.Fatal(err)
	}
	ctx := access.With(t.Context(), access.Principal{ID: "watch", Tenant: "t-1", Kind: access.Service}, access.Compliance)
	bulk := map[string]string{} // event to incident
	for _, ev := range h.events {
		bulk[ev.ID] = fmt.Sprintf("bulk %s %s", ev.Actor.ID, ev.Time.Format(time.DateOnly))
	}
	incident := func(rule watch.Rule, id string) string { // the events of one bulk incident are one
		if rule == watch.Bulk {
			return bulk[id]
		}
		return id
	}
	found := map[string]bool{}
	take := func(alerts []watch.Alert) {
		for _, a := range alerts {
			switch {
			case a.Explained != watch.Unexplained:
				w.explained++
			case h.labels[a.Event] != "" && h.labels[a.Event] != a.Rule: // two rules see one incident
			case h.labels[a.Event] == "":
				w.of(a.Rule).wrong++
			case !found[incident(a.Rule, a.Event)]:
				found[incident(a.Rule, a.Event)] = true
				w.of(a.Rule).right++
			}
		}
	}
	w.events += len(h.events)
	for _, ev := range h.events {
		if ev.Time.Sub(h.events[0].Time) < learnt*24*time.Hour {
			if err := watcher.Learn(ctx, ev); err != nil {
				t.Fatal(err)
			}
			continue
		}
		alerts, err := watcher.Observe(ctx, ev)
		if err != nil {
			t.Fatal(err)
		}
		take(alerts)
		if alerts, err = watcher.Tick(ctx, ev.Time); err != nil {
			t.Fatal(err)
		}
		take(alerts)
	}
	missed := map[string]bool{}
	for id, rule := range h.labels {
		if key := incident(rule, id); !found[key] && !missed[key] {
			missed[key] = true
			w.of(rule).missed++
		}
	}
}

// The rules find what is planted among ninety days of work, and little else.
// The defaults were chosen on the first seeds; the test holds them to others,
// which nothing was chosen on. The figures are of this simulation: a real trail
// has its own.
func TestSimulation(t *testing.T) {
	if testing.Short() {
		t.Skip("one goroutine's work: left out of the race leg")
	}
	t.Parallel()
	tune, held := []uint64{1}, []uint64{101}
	if os.Getenv("PART164_TEST_LONG") != "" {
		tune, held = []uint64{1, 2, 3}, []uint64{101, 102, 103, 104, 105}
	}
	var scores [2]watched
	for i, seeds := range [][]uint64{tune, held} {
		scores[i].scores = map[watch.Rule]*score{}
		for _, seed := range seeds {
			scores[i].run(t, seed)
		}
	}
	t.Logf("%-12s %-50s %s", "", fmt.Sprint("seeds ", tune, ", that the defaults were chosen on"), fmt.Sprint("seeds ", held))
	var all [2]score
	for _, r := range []watch.Rule{watch.Honey, watch.Self, watch.Household, watch.VIP, watch.Coworker, watch.Surname, watch.NoRelation, watch.Bulk, watch.Export,
		watch.OffHours, watch.BreakGlass, watch.SignIn, watch.Dormant, watch.TrailGap, watch.ClockOff} {
		line := fmt.Sprintf("%-12s", r)
		for i := range scores {
			s := *scores[i].of(r)
			all[i] = score{all[i].right + s.right, all[i].wrong + s.wrong, all[i].missed + s.missed}
			line += fmt.Sprintf(" %3d right %3d wrong %2d missed  precision %.2f recall %.2f ", s.right, s.wrong, s.missed, s.precision(), s.recall())
		}
		t.Log(line)
		precision, recall := 0.5, 0.9 // two rules meet where who covers for somebody happens on a neighbour
		if r == watch.NoRelation {    // who covers for another unit has no relation either, and nothing explains a quarter of it
			precision, recall = 0.1, 0.7
		}
		if s := *scores[1].of(r); s.recall() < recall || s.precision() < precision {
			t.Errorf("%s: precision %.2f and recall %.2f, want %.2f and %.2f", r, s.precision(), s.recall(), precision, recall)
		}
	}
	for i, s := range all {
		t.Logf("in all: %d right, %d wrong, %d missed: precision %.2f, recall %.2f; %d explained; %d events", s.right, s.wrong, s.missed, s.precision(), s.recall(), scores[i].explained, scores[i].events)
	}
	if all[1].recall() < 0.95 || all[1].precision() < 0.5 || scores[1].explained == 0 {
		t.Errorf("in all: precision %.2f, recall %.2f, %d explained", all[1].precision(), all[1].recall(), scores[1].explained)
	}
}
