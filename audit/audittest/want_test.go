// SPDX-License-Identifier: Apache-2.0

package audittest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// A quiet test that remembers whether it failed.
type quiet struct {
	testing.TB
	failed string
}

func (q *quiet) Helper()                           {}
func (q *quiet) Errorf(format string, args ...any) { q.failed += fmt.Sprintf(format, args...) }

func TestWant(t *testing.T) {
	t.Parallel()
	tr := audittest.New(t)
	ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)
	reveal := audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: []audit.Object{
		{Type: "patient", Record: "r-1", Patient: "r-1", Fields: []string{"name", "mrn"}},
		{Type: "patient", Record: "r-2", Patient: "r-2", Fields: []string{"name"}, Denied: true},
	}}
	denied := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy}
	for _, ev := range []audit.Event{reveal, denied} {
		if _, err := tr.Record(ctx, ev); err != nil {
			t.Fatal(err)
		}
	}
	object := func(o audit.Object) audit.Event {
		return audit.Event{Type: audit.Revealed, Objects: []audit.Object{o}}
	}
	for name, tt := range map[string]struct {
		wants []audit.Event
		ok    bool
	}{
		"nothing":              {nil, true},
		"both":                 {[]audit.Event{{Type: audit.Revealed}, {Type: audit.Denied}}, true},
		"the second":           {[]audit.Event{{Type: audit.Denied, Reason: audit.ReasonPolicy}}, true},
		"the wrong order":      {[]audit.Event{{Type: audit.Denied}, {Type: audit.Revealed}}, false},
		"twice":                {[]audit.Event{{Type: audit.Denied}, {Type: audit.Denied}}, false},
		"by its actor":         {[]audit.Event{{Actor: access.Principal{ID: "u-1"}}}, true},
		"by another actor":     {[]audit.Event{{Actor: access.Principal{ID: "u-2"}}}, false},
		"a patient":            {[]audit.Event{object(audit.Object{Patient: "r-2"})}, true},
		"another patient":      {[]audit.Event{object(audit.Object{Patient: "r-3"})}, false},
		"fields in any order":  {[]audit.Event{object(audit.Object{Fields: []string{"mrn", "name"}})}, true},
		"not all fields":       {[]audit.Event{object(audit.Object{Patient: "r-1", Fields: []string{"mrn"}})}, false},
		"a denied object":      {[]audit.Event{object(audit.Object{Patient: "r-2", Denied: true})}, true},
		"not the denied one":   {[]audit.Event{object(audit.Object{Patient: "r-1", Denied: true})}, false},
		"another outcome":      {[]audit.Event{{Type: audit.Revealed, Outcome: audit.Failure}}, false},
		"the tenant by itself": {[]audit.Event{object(audit.Object{Tenant: "t-1"})}, true},
	} {
		q := &quiet{TB: t}
		audittest.Want(q, tr, tt.wants...)
		if (q.failed == "") != tt.ok {
			t.Errorf("%s: Want fails with %q", name, q.failed)
		}
		if q.failed != "" && (!strings.Contains(q.failed, "reveal outcome=success actor=u-1 purpose=TREAT") || !strings.Contains(q.failed, "fields=name,mrn")) {
			t.Errorf("%s: the failure does not list the events:\n%s", name, q.failed)
		}
		if len(tt.wants) == 1 {
			q := &quiet{TB: t}
			audittest.WantNone(q, tr, tt.wants...)
			if (q.failed != "") != tt.ok {
				t.Errorf("%s: WantNone fails with %q", name, q.failed)
			}
		}
	}
}

func TestFail(t *testing.T) {
	t.Parallel()
	tr := audittest.New(t)
	ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure}
	full := errors.New("disk full")
	tr.FailAfter(1, full)
	if _, err := tr.Record(t.Context(), ev); err != nil {
		t.Errorf("the first Record = %v", err)
	}
	for range 2 {
		if _, err := tr.Record(t.Context(), ev); !errors.Is(err, audit.ErrUnavailable) || !errors.Is(err, full) {
			t.Errorf("Record(failing) = %v, want ErrUnavailable and the error", err)
		}
	}
	tr.Fail(nil)
	tr.Delay(time.Millisecond)
	start := time.Now()
	if _, err := tr.Record(t.Context(), ev); err != nil || time.Since(start) < time.Millisecond {
		t.Errorf("Record(delayed) = %v after %v", err, time.Since(start))
	}
	if got := len(tr.Events()); got != 2 {
		t.Errorf("%d events are kept, want 2", got)
	}
	tr.Reset()
	if got := len(tr.Events()); got != 0 {
		t.Errorf("%d events after Reset", got)
	}
}

func TestNoPHI(t *testing.T) {
	t.Parallel()
	q := &quiet{TB: t}
	audittest.NoPHI(q, "nothing here", "Jane Roe")
	if q.failed != "" {
		t.Error(q.failed)
	}
	audittest.NoPHI(q, []byte("x 4a616e6520526f65"), "Jane Roe")
	if !strings.Contains(q.failed, "as hex at byte 2") {
		t.Errorf("NoPHI says %q", q.failed)
	}
}
