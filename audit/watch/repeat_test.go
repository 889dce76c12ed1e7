// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"slices"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/watch"
)

// Whom an actor was alerted about hides nobody who stands behind in a list.
func TestAnAlertIsNotRepeatedForItsPatientOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t, watch.Config{})
	for _, p := range []string{"p-1", "p-2", "p-3"} {
		b.relations.Set("t-1", "", p, watch.Relation{VIP: true})
	}
	for i, tt := range []struct {
		patients []string
		alerts   []string // about whom; nil for none
	}{
		{[]string{"p-1"}, []string{"p-1"}},
		{[]string{"p-1"}, nil},
		{[]string{"p-1", "p-2"}, []string{"p-2"}},
		{[]string{"p-2", "p-1"}, nil},
		{[]string{"p-1", "p-2", "p-3"}, []string{"p-3"}},
		{[]string{"p-3"}, nil},
	} {
		alerts, err := b.w.Observe(b.ctx, b.event("u-1", audit.Revealed, tt.patients...))
		if err != nil {
			t.Fatal(err)
		}
		var about []string
		for _, a := range alerts {
			if a.Rule != watch.VIP {
				t.Errorf("%d: %+v", i, a)
			}
			about = append(about, a.Patients...)
		}
		if !slices.Equal(about, tt.alerts) {
			t.Errorf("%d, %v: alerts about %v, want %v", i, tt.patients, about, tt.alerts)
		}
	}
}

// Nobody has a reason to do anything about a record of nobody, whatever it is.
func TestAnyEventAboutAHoneyRecordAlerts(t *testing.T) {
	t.Parallel()
	b := newBench(t, watch.Config{})
	b.relations.Set("t-1", "", "p-honey", watch.Relation{Honey: true})
	for _, typ := range []audit.Type{
		audit.Revealed, audit.Fetched, audit.Searched, audit.WriteAttempt, audit.Disclosed, audit.Denied, audit.RevealFailed,
		audit.Reported, audit.DetailOpened, audit.Outside, audit.Shredded, audit.Merged, audit.Held,
	} {
		for _, outcome := range []audit.Outcome{audit.Success, audit.Failure} {
			b.now = b.now.Add(time.Hour)
			ev := b.event("u-2", typ, "p-1", "p-honey")
			ev.Outcome = outcome
			if got := b.observe(ev); !slices.Contains(got, watch.Honey) {
				t.Errorf("%s, %s: %v", typ, outcome, got)
			}
		}
	}
}

// Emergency access that comes due while history is learnt is raised after it.
func TestBreakGlassThatIsLearntComesDue(t *testing.T) {
	t.Parallel()
	for name, reviewed := range map[string]bool{"unreviewed": false, "reviewed": true} {
		b := newBench(t, watch.Config{})
		glass := b.event("u-1", audit.Revealed, "p-1")
		glass.Purpose = access.BreakGlass
		b.learn(glass)
		b.now = b.now.Add(80 * time.Hour)
		b.learn(b.event("u-2", audit.SignIn))
		if reviewed {
			ev := b.event("u-3", audit.Disposed)
			ev.About = glass.ID
			b.learn(ev)
		}
		alerts, err := b.w.Tick(b.ctx, b.now.Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if reviewed && len(alerts) > 0 || !reviewed && (len(alerts) != 1 || alerts[0].Rule != watch.BreakGlass || alerts[0].Event != glass.ID) {
			t.Errorf("%s: %+v", name, alerts)
		}
	}
}
