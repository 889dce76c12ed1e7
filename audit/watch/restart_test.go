// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/audit/watch"
	"github.com/part164/part164/audit/watchtest"
)

// A station is a journal that is watched, and may be started again.
type station struct {
	t         *testing.T
	journal   *audit.Journal
	relations *watchtest.Fake
	watcher   *watch.Watcher
	pipe      *sink.Pipe
}

// newStation starts one; r-vip is of public interest to u-1, and r-honey is nobody.
func newStation(t *testing.T) *station {
	t.Helper()
	s := &station{t: t, relations: new(watchtest.Fake)}
	var err error
	if s.journal, err = audit.Open(audittest.Dir(t), audit.Config{Development: true, SegmentSize: 256 << 10}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.journal.Close() })
	s.relations.Set("t-1", "u-1", s.journal.Pseudonym("t-1", "r-vip"), watch.Relation{VIP: true})
	s.relations.Set("t-1", "", s.journal.Pseudonym("t-1", "r-honey"), watch.Relation{Honey: true})
	s.start()
	return s
}

func (s *station) start() {
	s.t.Helper()
	var err error
	if s.watcher, err = watch.New(watch.Config{Audit: s.journal, Relations: s.relations, Silence: 1000 * time.Hour}); err != nil {
		s.t.Fatal(err)
	}
	service := access.Principal{ID: "watch", Tenant: "t-1", Kind: access.Service}
	in, err := watch.NewSink(s.t.Context(), s.watcher, s.journal, service)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.pipe, err = sink.Open(s.journal, in, sink.Config{Retry: time.Millisecond, MaxRetry: time.Millisecond}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = s.pipe.Close() })
}

func (s *station) stop() {
	s.t.Helper()
	if err := s.pipe.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *station) does(actor string, purpose access.Purpose, ev audit.Event) string {
	s.t.Helper()
	if ev.Outcome == "" {
		ev.Outcome = audit.Success
	}
	r, err := s.journal.Record(access.With(s.t.Context(), access.Principal{ID: actor, Tenant: "t-1", Kind: access.Human}, purpose), ev)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.ID
}

func seen(patient string) audit.Event {
	return audit.Event{Type: audit.Revealed, Objects: []audit.Object{{Type: "patient", Record: patient, Patient: patient}}}
}

// alerts returns what was raised, oldest first, once everything was observed.
func (s *station) alerts() (rules []string) {
	s.t.Helper()
	if err := s.pipe.Flush(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	for ev, err := range s.journal.Events(s.t.Context(), audit.Query{Tenant: "t-1", Types: []audit.Type{audit.Alerted}}) {
		if err != nil {
			s.t.Fatal(err)
		}
		rules = append(rules, ev.Rule)
	}
	slices.Reverse(rules)
	return rules
}

func (s *station) tick(ahead time.Duration) {
	s.t.Helper()
	ctx := access.With(s.t.Context(), access.Principal{ID: "watch", Tenant: "t-1", Kind: access.Service}, access.Compliance)
	if _, err := s.watcher.Tick(ctx, time.Now().Add(ahead)); err != nil {
		s.t.Fatal(err)
	}
}

// What was raised before the process was started again is not raised a second
// time, whatever came of it, and what was not raised yet is.
func TestARestartForgetsNothing(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.does("u-1", access.Payment, seen("r-vip"))
	s.does("u-2", access.BreakGlass, seen("r-2"))
	if got := s.alerts(); !slices.Equal(got, []string{"vip"}) {
		t.Fatalf("alerts: %v", got)
	}
	s.tick(73 * time.Hour)
	s.does("u-3", access.BreakGlass, seen("r-2")) // to be reviewed
	want := []string{"vip", "break_glass"}
	if got := s.alerts(); !slices.Equal(got, want) {
		t.Fatalf("alerts: %v, want %v", got, want)
	}
	cursor := filepath.Join(s.journal.Dir(), "sink-watch.json")
	before, err := os.ReadFile(cursor)
	if err != nil {
		t.Fatal(err)
	}
	s.does("u-9", access.Payment, seen("r-honey"))
	want = append(want, "honey")
	if got := s.alerts(); !slices.Equal(got, want) {
		t.Fatalf("alerts: %v, want %v", got, want)
	}

	for name, crash := range map[string]bool{"a restart": false, "a crash before the cursor was written": true} {
		s.stop()
		if crash {
			if err := os.WriteFile(cursor, before, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s.start()
		s.does("u-1", access.Payment, seen("r-vip"))
		if got := s.alerts(); !slices.Equal(got, want) {
			t.Errorf("after %s: %v, want %v", name, got, want)
		}
	}
	s.tick(73 * time.Hour)
	if got := s.alerts(); !slices.Equal(got, append(want, "break_glass")) {
		t.Errorf("73 hours later: %v, want the emergency access of u-3 too, and that of u-2 once", got)
	}
}

// While relations do not answer nothing is lost: the cursor waits.
func TestASinkWaitsForRelations(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.relations.Fail(os.ErrDeadlineExceeded)
	s.does("u-1", access.Payment, seen("r-vip"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.pipe.Flush(ctx); err == nil {
		t.Error("an event counts as observed that was not")
	}
	s.relations.Fail(nil)
	if got := s.alerts(); !slices.Equal(got, []string{"vip"}) {
		t.Errorf("alerts: %v", got)
	}
}

func TestNewSinkRefuses(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	for name, p := range map[string]access.Principal{
		"a person":  {ID: "u-1", Tenant: "t-1", Kind: access.Human},
		"no tenant": {ID: "watch", Kind: access.Service},
	} {
		if _, err := watch.NewSink(t.Context(), s.watcher, s.journal, p); err == nil {
			t.Errorf("%s records alerts", name)
		}
	}
}
