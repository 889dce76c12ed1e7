// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/watch"
	"github.com/part164/part164/audit/watchtest"
)

// A bench feeds events to a watcher.
type bench struct {
	t         *testing.T
	trail     *audittest.Trail
	relations *watchtest.Fake
	w         *watch.Watcher
	ctx       context.Context
	now       time.Time
	seq       uint64
}

func newBench(t *testing.T, cfg watch.Config) *bench {
	t.Helper()
	b := &bench{t: t, trail: audittest.New(t), relations: new(watchtest.Fake), now: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)}
	b.ctx = access.With(t.Context(), access.Principal{ID: "watch", Tenant: "t-1", Kind: access.Service}, access.Compliance)
	cfg.Audit, cfg.Relations = b.trail, b.relations
	var err error
	if b.w, err = watch.New(cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

// event is what somebody did to some patients, a second after the last.
func (b *bench) event(actor string, typ audit.Type, patients ...string) audit.Stored {
	b.now = b.now.Add(time.Second)
	b.seq++
	ev := audit.Stored{ID: fmt.Sprintf("j0123456789abcdef0123456789abcdef.%d", b.seq), Seq: b.seq, Time: b.now, Type: typ, Outcome: audit.Success, Purpose: access.Payment,
		Actor: access.Principal{ID: actor, Tenant: "t-1", Kind: access.Human}}
	for _, p := range patients {
		ev.Objects = append(ev.Objects, audit.Object{Type: "patient", Tenant: "t-1", Record: p, Patient: p})
	}
	return ev
}

func (b *bench) observe(ev audit.Stored) (rules []watch.Rule) {
	b.t.Helper()
	alerts, err := b.w.Observe(b.ctx, ev)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, a := range alerts {
		if a.ID == "" && a.Explained == "" {
			b.t.Errorf("an alert is not recorded: %+v", a)
		}
		rules = append(rules, a.Rule)
	}
	return rules
}

func (b *bench) learn(ev audit.Stored) {
	b.t.Helper()
	if err := b.w.Learn(b.ctx, ev); err != nil {
		b.t.Fatal(err)
	}
}

func TestHoneyRecordsAlwaysAlert(t *testing.T) {
	t.Parallel()
	b := newBench(t, watch.Config{Explain: excuse{}})
	b.relations.Set("t-1", "", "p-honey", watch.Relation{Honey: true, Care: true})
	for name, change := range map[string]func(*audit.Stored){
		"seen":         func(*audit.Stored) {},
		"again":        func(*audit.Stored) {},
		"refused":      func(ev *audit.Stored) { ev.Type, ev.Outcome = audit.Denied, audit.Failure },
		"by a service": func(ev *audit.Stored) { ev.Actor = access.Principal{ID: "job", Tenant: "t-1", Kind: access.Service} },
		"by a patient": func(ev *audit.Stored) {
			ev.Actor = access.Principal{ID: "pseudonym", Tenant: "t-1", Kind: access.Patient}
		},
	} {
		b.now = b.now.Add(11 * time.Minute)
		ev := b.event("u-1", audit.Searched, "p-1", "p-honey")
		change(&ev)
		if got := b.observe(ev); !slices.Equal(got, []watch.Rule{watch.Honey}) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := b.observe(b.event("u-9", audit.Revealed, "p-honey")); len(got) != 1 {
		t.Errorf("the first event of a look: %v", got)
	}
	if got := b.observe(b.event("u-9", audit.Fetched, "p-honey")); len(got) > 0 {
		t.Errorf("the second event of a look: %v", got)
	}
	audittest.Want(t, b.trail, audit.Event{Type: audit.Alerted, Actor: access.Principal{ID: "watch"}})
	for _, ev := range b.trail.Events() {
		if ev.Rule != "honey" || ev.About == "" || len(ev.Objects) > 0 || ev.User == "pseudonym" {
			t.Errorf("recorded: %+v", ev)
		}
	}
}

type excuse struct{}

func (excuse) Explain(context.Context, watch.Alert) (watch.Explanation, error) {
	return watch.Order, nil
}

func TestRelationsInTheirOrder(t *testing.T) {
	t.Parallel()
	for i, tt := range []struct {
		r       watch.Relation
		purpose access.Purpose
		want    watch.Rule
	}{
		{watch.Relation{}, access.Treatment, watch.NoRelation},
		{watch.Relation{}, access.Payment, ""},
		{watch.Relation{Unit: true}, access.Treatment, ""},
		{watch.Relation{Unit: true, VIP: true}, access.Treatment, watch.VIP},
		{watch.Relation{Care: true, VIP: true, Staff: true, SameSurname: true}, access.Treatment, ""},
		{watch.Relation{VIP: true, Staff: true, SameSurname: true}, access.Payment, watch.VIP},
		{watch.Relation{Staff: true, SameSurname: true}, access.Payment, watch.Coworker},
		{watch.Relation{SameSurname: true}, access.Payment, watch.Surname},
		{watch.Relation{Care: true, SameHousehold: true}, access.Treatment, watch.Household},
		{watch.Relation{Care: true, Self: true}, access.Treatment, watch.Self},
	} {
		b := newBench(t, watch.Config{})
		b.relations.Set("t-1", "u-1", "p-1", tt.r)
		ev := b.event("u-1", audit.Revealed, "p-1")
		ev.Purpose = tt.purpose
		var want []watch.Rule
		if tt.want != "" {
			want = []watch.Rule{tt.want}
		}
		if got := b.observe(ev); !slices.Equal(got, want) {
			t.Errorf("%d: %v, want %v", i, got, want)
		}
		ev.Objects[0].Denied = true
		if got := newBench(t, watch.Config{}).observe(ev); len(got) > 0 {
			t.Errorf("%d: what was refused raises %v", i, got)
		}
	}
}

// Strangers are usual for some: they alert where there are more than usual, and
// for everybody else the first does.
func TestStrangersAreOverOnesOwnHistory(t *testing.T) {
	t.Parallel()
	b := newBench(t, watch.Config{})
	b.now = time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)
	for p := range 40 {
		b.relations.Set("t-1", "", fmt.Sprintf("p-own-%d", p), watch.Relation{Care: true})
	}
	see := func(actor, patient string) audit.Stored {
		ev := b.event(actor, audit.Revealed, patient)
		ev.Purpose = access.Treatment
		return ev
	}
	for day := range 30 {
		b.now = b.now.AddDate(0, 0, 1)
		for k := range 6 {
			b.learn(see("u-floats", fmt.Sprintf("p-%d-%d", day, k)))
		}
		b.learn(see("u-stays", fmt.Sprintf("p-own-%d", day)))
	}
	b.now = b.now.AddDate(0, 0, 1)
	if got := b.observe(see("u-stays", "p-new")); !slices.Equal(got, []watch.Rule{watch.NoRelation}) {
		t.Errorf("the first stranger of one who never sees any: %v", got)
	}
	var fired []int
	for k := range 12 {
		if got := b.observe(see("u-floats", fmt.Sprintf("p-now-%d", k))); len(got) > 0 {
			fired = append(fired, k)
		}
	}
	if len(fired) == 0 || fired[0] < 6 || fired[0] > 9 {
		t.Errorf("one who sees six strangers a day is told of at those of index %v", fired)
	}
}

// A list happens to hold somebody: only honey records count in it.
func TestAListIsNoLook(t *testing.T) {
	t.Parallel()
	b := newBench(t, watch.Config{})
	var list []string
	for i := range 24 {
		list = append(list, fmt.Sprintf("p-%d", i))
	}
	b.relations.Set("t-1", "u-1", "p-0", watch.Relation{VIP: true})
	b.relations.Set("t-1", "u-1", "p-honey", watch.Relation{Honey: true})
	if got := b.observe(b.event("u-1", audit.Fetched, append(list, "p-24")...)); len(got) > 0 {
		t.Errorf("a list of 25: %v", got)
	}
	if got := b.observe(b.event("u-1", audit.Fetched, append(list, "p-honey")...)); !slices.Equal(got, []watch.Rule{watch.Honey}) {
		t.Errorf("a list of 25 with a honey record: %v", got)
	}
	if got := b.observe(b.event("u-1", audit.Fetched, list...)); !slices.Equal(got, []watch.Rule{watch.VIP}) {
		t.Errorf("24 patients: %v", got)
	}
}

// The same alert does not come again within Repeat, unless it is about somebody
// else; an explained one is not recorded.
func TestAlertsRepeatAndAreExplained(t *testing.T) {
	t.Parallel()
	b := newBench(t, watch.Config{})
	for _, p := range []string{"p-1", "p-2"} {
		b.relations.Set("t-1", "u-1", p, watch.Relation{VIP: true})
	}
	for i, tt := range []struct {
		patient string
		later   time.Duration
		want    int
	}{{"p-1", 0, 1}, {"p-1", 11 * time.Hour, 0}, {"p-2", 0, 1}, {"p-1", 2 * time.Hour, 1}} {
		b.now = b.now.Add(tt.later)
		if got := b.observe(b.event("u-1", audit.Revealed, tt.patient)); len(got) != tt.want {
			t.Errorf("%d: %v, want %d", i, got, tt.want)
		}
	}
	e := newBench(t, watch.Config{Explain: excuse{}})
	e.relations.Set("t-1", "u-1", "p-1", watch.Relation{VIP: true})
	alerts, err := e.w.Observe(e.ctx, e.event("u-1", audit.Revealed, "p-1"))
	if err != nil || len(alerts) != 1 || alerts[0].Explained != watch.Order || alerts[0].ID != "" || len(e.trail.Events()) > 0 {
		t.Errorf("explained: %+v, %v, and %d events", alerts, err, len(e.trail.Events()))
	}
	f := newBench(t, watch.Config{Explain: speechless{}})
	f.relations.Set("t-1", "u-1", "p-1", watch.Relation{VIP: true})
	if alerts, err = f.w.Observe(f.ctx, f.event("u-1", audit.Revealed, "p-1")); err == nil || len(alerts) != 1 || alerts[0].ID == "" {
		t.Errorf("an explainer that fails: %+v, %v; want the alert", alerts, err)
	}
}

type speechless struct{}

func (speechless) Explain(context.Context, watch.Alert) (watch.Explanation, error) {
	return watch.Order, errors.New("no answer")
}

func TestADormantAccountWakes(t *testing.T) {
	t.Parallel()
	b := newBench(t, watch.Config{})
	b.observe(b.event("u-1", audit.SignIn))
	b.now = b.now.Add(59 * 24 * time.Hour)
	if got := b.observe(b.event("u-1", audit.SignIn)); len(got) > 0 {
		t.Errorf("after 59 days: %v", got)
	}
	b.now = b.now.Add(60 * 24 * time.Hour)
	failed := b.event("u-1", audit.SignInFailed)
	failed.Outcome = audit.Failure
	if got := b.observe(failed); len(got) > 0 { // somebody tries the account: nobody has used it
		t.Errorf("a failed sign-in: %v", got)
	}
	if got := b.observe(b.event("u-1", audit.SignIn)); !slices.Equal(got, []watch.Rule{watch.Dormant}) {
		t.Errorf("after 60 days: %v", got)
	}
}

// Who is often busy may be; who is not, may not.
func TestBulkIsOverOnesOwnHistory(t *testing.T) {
	t.Parallel()
	b := newBench(t, watch.Config{})
	list := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("p-%d-%d", b.seq, i))
		}
		return out
	}
	for range 40 {
		b.now = b.now.Add(time.Hour)
		b.learn(b.event("u-busy", audit.Fetched, list(100)...))
		b.learn(b.event("u-calm", audit.Fetched, list(5)...))
	}
	b.now = b.now.Add(time.Hour)
	if got := b.observe(b.event("u-busy", audit.Fetched, list(150)...)); len(got) > 0 {
		t.Errorf("150 of one who sees 100 an hour: %v", got)
	}
	if got := b.observe(b.event("u-calm", audit.Fetched, list(80)...)); !slices.Equal(got, []watch.Rule{watch.Bulk}) {
		t.Errorf("80 of one who sees 5 an hour: %v", got)
	}
	if got := b.observe(b.event("u-busy", audit.Fetched, list(450)...)); !slices.Equal(got, []watch.Rule{watch.Bulk}) {
		t.Errorf("600 of one who sees 100 an hour: %v", got)
	}
	same := list(1)
	for range 200 {
		if got := b.observe(b.event("u-new", audit.Revealed, same...)); len(got) > 0 {
			t.Fatalf("one patient again and again: %v", got)
		}
	}
}

// An event of several lines counts as one.
func TestExportOverSeveralLines(t *testing.T) {
	t.Parallel()
	b := newBench(t, watch.Config{Off: []watch.Rule{watch.Bulk}})
	var got []watch.Rule
	for part := range 3 {
		var list []string
		for i := range 200 {
			list = append(list, fmt.Sprintf("p-%d-%d", part, i))
		}
		ev := b.event("u-1", audit.Fetched, list...)
		ev.Batch, ev.Part, ev.Parts = "j0123456789abcdef0123456789abcdef.7", part+1, 3
		got = append(got, b.observe(ev)...)
	}
	if !slices.Equal(got, []watch.Rule{watch.Export}) {
		t.Errorf("600 records in three lines: %v", got)
	}
}

func TestTrailAndClock(t *testing.T) {
	t.Parallel()
	b := newBench(t, watch.Config{})
	for _, tt := range []struct {
		change func(*audit.Stored)
		want   []watch.Rule
	}{
		{func(ev *audit.Stored) { ev.Type = audit.Gap }, []watch.Rule{watch.TrailGap}},
		{func(ev *audit.Stored) { ev.Type = audit.OutboxRefused }, []watch.Rule{watch.TrailGap}},
		{func(ev *audit.Stored) { ev.Type, ev.Count = audit.Recovered, 9 }, []watch.Rule{watch.TrailGap}},
		{func(ev *audit.Stored) { ev.Type = audit.Recovered }, nil},
		{func(ev *audit.Stored) { ev.Type = audit.ClockOff }, []watch.Rule{watch.ClockOff}},
		{func(ev *audit.Stored) { ev.Time = ev.Time.Add(-time.Minute) }, []watch.Rule{watch.ClockOff}},
		{func(ev *audit.Stored) {}, nil},
		{func(ev *audit.Stored) { ev.Time = ev.Time.Add(-10 * time.Second) }, nil},
		{func(ev *audit.Stored) {
			ev.ID, ev.Time = "j1123456789abcdef0123456789abcdef.1", ev.Time.Add(-time.Hour)
		}, nil}, // another writer
	} {
		ev := b.event("", audit.Opened)
		ev.Actor = access.Principal{}
		tt.change(&ev)
		if got := b.observe(ev); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", ev.Type, got, tt.want)
		}
	}
	if alerts, err := b.w.Tick(b.ctx, b.now.Add(23*time.Hour)); err != nil || len(alerts) > 0 {
		t.Errorf("after 23 hours: %v, %v", alerts, err)
	}
	for i, want := range []int{1, 0} { // once
		if alerts, err := b.w.Tick(b.ctx, b.now.Add(25*time.Hour)); err != nil || len(alerts) != want {
			t.Errorf("after 25 hours of silence, %d: %v, %v", i, alerts, err)
		}
	}
}

// An alert that cannot be recorded, or a question that is not answered, is an
// error, and the alert is not lost.
func TestFailuresAreSaid(t *testing.T) {
	t.Parallel()
	b := newBench(t, watch.Config{})
	b.relations.Set("t-1", "u-1", "p-1", watch.Relation{Self: true})
	broken := errors.New("broken")
	b.trail.Fail(broken)
	alerts, err := b.w.Observe(b.ctx, b.event("u-1", audit.Revealed, "p-1"))
	if !errors.Is(err, audit.ErrUnavailable) || len(alerts) != 1 || alerts[0].ID != "" {
		t.Errorf("an alert that is not recorded: %v, %v", alerts, err)
	}
	b.trail.Fail(nil)
	again, err := b.w.Observe(b.ctx, b.event("u-2", audit.SignIn))
	if err != nil || len(again) != 1 || again[0].Event != alerts[0].Event || again[0].ID == "" {
		t.Errorf("with the next event: %+v, %v; want the alert, recorded", again, err)
	}
	if again, err = b.w.Tick(b.ctx, b.now); err != nil || len(again) > 0 {
		t.Errorf("and once more: %+v, %v", again, err)
	}
	b.relations.Fail(broken)
	if _, err := b.w.Observe(b.ctx, b.event("u-1", audit.Revealed, "p-2")); !errors.Is(err, broken) {
		t.Errorf("relations that do not answer: %v", err)
	}
	b.relations.Fail(nil)
	w, err := watch.New(watch.Config{Audit: b.trail, Relations: short{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Observe(b.ctx, b.event("u-1", audit.Revealed, "p-2")); err == nil || !strings.Contains(err.Error(), "0 answers about 1") {
		t.Errorf("relations that leave answers out: %v", err)
	}
}

type short struct{}

func (short) Relate(context.Context, string, string, []string) ([]watch.Relation, error) {
	return nil, nil
}

// More actors than are kept, and more emergencies: memory stays, and nothing
// is dropped in silence.
func TestStateIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, watch.Config{MaxActors: 10, MaxPending: 5})
	early := 0
	for i := range 50 {
		ev := b.event(fmt.Sprintf("u-%d", i), audit.Revealed, "p-1")
		ev.Purpose = access.BreakGlass
		early += len(b.observe(ev))
	}
	if early != 45 {
		t.Errorf("%d emergencies were raised early, want 45", early)
	}
	if n := b.w.Actors(); n != 10 {
		t.Errorf("%d actors are kept, want 10", n)
	}
}

// A million events of more actors and patients than are kept: memory stays.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("one goroutine's work: left out of the race leg")
	}
	n := 200_000
	if os.Getenv("PART164_TEST_LONG") != "" {
		n = 1_000_000
	}
	b := newBench(t, watch.Config{MaxActors: 2000, Off: []watch.Rule{watch.NoRelation}})
	used := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var early int64
	for i := range n {
		ev := b.event(fmt.Sprintf("u-%d", i%5000), audit.Revealed, fmt.Sprintf("p-%d", i))
		if i%100 == 0 {
			ev.Purpose = access.BreakGlass
		}
		ev.ID = fmt.Sprintf("j%d.%d", i%50, i)
		b.learn(ev)
		if i == n/4 {
			early = used()
		}
	}
	if grown := used() - early; grown > 4<<20 {
		t.Errorf("%d bytes more after %d events than after %d", grown, n, n/4)
	}
	runtime.KeepAlive(b)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := watch.Config{Audit: audittest.New(t), Relations: new(watchtest.Fake)}
	for field, change := range map[string]func(*watch.Config){
		"Config.Audit":        func(c *watch.Config) { c.Audit = nil },
		"Config.Relations":    func(c *watch.Config) { c.Relations = nil },
		"Config.Bulk":         func(c *watch.Config) { c.Bulk = -1 },
		"Config.BulkFactor":   func(c *watch.Config) { c.BulkFactor = -1 },
		"Config.OffShare":     func(c *watch.Config) { c.OffShare = 2 },
		"Config.ReviewWithin": func(c *watch.Config) { c.ReviewWithin = -1 },
		"Config.Off":          func(c *watch.Config) { c.Off = []watch.Rule{"none"} },
	} {
		cfg := good
		change(&cfg)
		if _, err := watch.New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
