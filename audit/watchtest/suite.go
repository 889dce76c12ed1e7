// SPDX-License-Identifier: Apache-2.0

package watchtest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/watch"
)

// A Known is a relation that the one under test must tell.
type Known struct {
	Tenant, Actor, Patient string // as they stand in the trail
	Relation               watch.Relation
}

// TestRelations holds r to the contract of [watch.Relations]. known are
// relations that it has, of two patients at least.
func TestRelations(t *testing.T, r watch.Relations, known ...Known) {
	t.Run("AnswersInOrder", func(t *testing.T) {
		for _, k := range known {
			for _, others := range [][]string{{k.Patient}, {"nobody-1", k.Patient}, {k.Patient, "nobody-2", k.Patient}} {
				got, err := r.Relate(t.Context(), k.Tenant, k.Actor, others)
				if err != nil || len(got) != len(others) {
					t.Fatalf("%d answers about %d patients, %v", len(got), len(others), err)
				}
				for i, p := range others {
					if want := k.Relation; p == k.Patient && got[i] != want || p != k.Patient && got[i] != (watch.Relation{}) {
						t.Errorf("patient %d of %d: %+v", i+1, len(others), got[i])
					}
				}
			}
		}
	})
	t.Run("TenantsAreApart", func(t *testing.T) {
		for _, k := range known {
			got, err := r.Relate(t.Context(), "another-tenant", k.Actor, []string{k.Patient})
			if err == nil && (len(got) != 1 || got[0] != (watch.Relation{})) {
				t.Errorf("another tenant's question is answered: %+v", got)
			}
		}
	})
	t.Run("NobodyIsAskedAbout", func(t *testing.T) {
		if got, err := r.Relate(t.Context(), "t-1", "u-1", nil); err != nil || len(got) != 0 {
			t.Errorf("about nobody: %v, %v", got, err)
		}
	})
	t.Run("EndsWithItsContext", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		got, err := r.Relate(ctx, "t-1", "u-1", []string{"nobody"})
		if err == nil && len(got) != 1 {
			t.Errorf("neither an answer nor an error: %v", got)
		}
	})
	t.Run("Concurrent", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for _, k := range known {
					if got, err := r.Relate(t.Context(), k.Tenant, k.Actor, []string{k.Patient}); err != nil || len(got) != 1 || got[0] != k.Relation {
						t.Errorf("%+v, %v", got, err)
					}
				}
			})
		}
		wg.Wait()
	})
}

// Acts are what an application lets people do; each leaves its events in the
// trail. The functions fail the test where they cannot.
type Acts struct {
	Events     func() []audit.Stored // what the trail holds, oldest first
	FailSignIn func(t *testing.T, user string)
	SignIn     func(t *testing.T, user string)
	BreakGlass func(t *testing.T, user, patient string)
	Review     func(t *testing.T, reviewer, event string) // of emergency access, by its event ID

	User, Reviewer, Patient string // IDs that the functions take
}

// accepting takes alerts and forgets them.
type accepting struct{}

func (accepting) Record(ctx context.Context, ev audit.Event) (audit.Receipt, error) {
	_, err := audit.Stamp(ctx, ev)
	return audit.Receipt{ID: "alert"}, err
}

// TestActs holds that the events which the acts leave raise the alerts that
// they should: failed sign-ins and then success, and emergency access that
// nobody else reviewed. begin returns acts on a new trail.
func TestActs(t *testing.T, begin func(t *testing.T) Acts) {
	watcher := func(t *testing.T) *watch.Watcher {
		t.Helper()
		w, err := watch.New(watch.Config{Audit: accepting{}, Relations: new(Fake)})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	ctx := func(t *testing.T) context.Context {
		return access.With(t.Context(), access.Principal{ID: "watch", Tenant: "t-1", Kind: access.Service}, access.Compliance)
	}
	observe := func(t *testing.T, w *watch.Watcher, a Acts) (rules []watch.Rule) {
		t.Helper()
		for _, ev := range a.Events() {
			alerts, err := w.Observe(ctx(t), ev)
			if err != nil {
				t.Fatal(err)
			}
			for _, al := range alerts {
				rules = append(rules, al.Rule)
			}
		}
		return rules
	}
	t.Run("FailuresThenSuccess", func(t *testing.T) {
		a := begin(t)
		for range 5 {
			a.FailSignIn(t, a.User)
		}
		a.SignIn(t, a.User)
		if got := observe(t, watcher(t), a); !slices.Contains(got, watch.SignIn) {
			t.Errorf("alerts: %v", got)
		}
	})
	t.Run("FewFailures", func(t *testing.T) {
		a := begin(t)
		a.FailSignIn(t, a.User)
		a.SignIn(t, a.User)
		if got := observe(t, watcher(t), a); slices.Contains(got, watch.SignIn) {
			t.Errorf("alerts: %v", got)
		}
	})
	for name, tt := range map[string]struct {
		by   func(a Acts) string
		want bool
	}{
		"EmergencyWithoutReview":     {func(Acts) string { return "" }, true},
		"EmergencyReviewed":          {func(a Acts) string { return a.Reviewer }, false},
		"EmergencyReviewedByOneself": {func(a Acts) string { return a.User }, true},
	} {
		t.Run(name, func(t *testing.T) {
			a := begin(t)
			a.BreakGlass(t, a.User, a.Patient)
			event := ""
			for _, ev := range a.Events() {
				if ev.Purpose == access.BreakGlass && event == "" && (ev.Type == audit.Revealed || ev.Type == audit.Fetched) {
					event = ev.ID
				}
			}
			if event == "" {
				t.Fatal("emergency access left no event of that purpose")
			}
			if by := tt.by(a); by != "" {
				a.Review(t, by, event)
			}
			w := watcher(t)
			observe(t, w, a)
			alerts, err := w.Tick(ctx(t), time.Now().Add(73*time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.ContainsFunc(alerts, func(al watch.Alert) bool { return al.Rule == watch.BreakGlass && al.Event == event }); got != tt.want {
				t.Errorf("after 73 hours an alert: %v, want %v", got, tt.want)
			}
		})
	}
}
