// SPDX-License-Identifier: Apache-2.0

package audittest

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// TestTrail runs the contract of [audit.Trail]. open is called once a subtest
// and returns a trail of its own, and a function that reads back what it
// holds, oldest first; IDs may be pseudonyms there.
func TestTrail(t *testing.T, open func(t *testing.T) (audit.Trail, func() []audit.Stored)) {
	nurse := access.Principal{ID: "u-17", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}, Session: "s-9",
		Assurance: 2, Addr: netip.MustParseAddr("192.0.2.7"), OnBehalf: "u-3", OnBehalfKind: access.Human}
	as := func(t *testing.T) context.Context { return access.With(t.Context(), nurse, access.Treatment) }
	const decision, alert, grant = "0123456789abcdef0123456789abcdef", "j0123456789abcdef0123456789abcdef.7", "0190163d-8694-739b-aea5-966c26f8ad90"
	reveal := audit.Event{Type: audit.Revealed, Outcome: audit.Success, Action: access.Read, Decision: decision, Objects: []audit.Object{
		{Type: "patient", Record: "r-1", Patient: "r-1", Version: 3, Fields: []string{"name", "mrn"}},
	}}
	attempt := audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success, Action: access.Update, Objects: []audit.Object{
		{Type: "patient", Record: "r-1", Patient: "r-1", Version: 4, Fields: []string{"name"}, Digests: []string{"0011223344556677"}},
	}}
	of := func(events []audit.Stored, typ audit.Type) (out []audit.Stored) {
		for _, ev := range events {
			if ev.Type == typ {
				out = append(out, ev)
			}
		}
		return out
	}

	t.Run("an event is kept with its actor and purpose", func(t *testing.T) {
		tr, events := open(t)
		receipt, err := tr.Record(as(t), reveal)
		if err != nil || receipt.ID == "" {
			t.Fatalf("Record = %q, %v", receipt.ID, err)
		}
		got := of(events(), audit.Revealed)
		if len(got) != 1 {
			t.Fatalf("%d events are kept, want 1", len(got))
		}
		ev := got[0]
		if ev.ID != receipt.ID || ev.Outcome != audit.Success || ev.Action != access.Read || ev.Decision != decision ||
			ev.Actor.ID != "u-17" || ev.Actor.Tenant != "t-1" || ev.Actor.Kind != access.Human || ev.Actor.Session != "s-9" ||
			ev.Actor.Addr != nurse.Addr || ev.Actor.Assurance != 2 || !slices.Equal(ev.Actor.Roles, nurse.Roles) ||
			ev.Purpose != access.Treatment || ev.Time.IsZero() {
			t.Errorf("kept %+v", ev)
		}
		if len(ev.Objects) != 1 || ev.Objects[0].Type != "patient" || ev.Objects[0].Version != 3 || ev.Objects[0].Tenant != "t-1" ||
			!slices.Equal(ev.Objects[0].Fields, []string{"name", "mrn"}) || ev.Objects[0].Record == "" || ev.Objects[0].Record != ev.Objects[0].Patient {
			t.Errorf("kept objects %+v", ev.Objects)
		}
	})

	t.Run("every member of an event is kept", func(t *testing.T) {
		tr, events := open(t)
		since := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		disclosure := audit.Disclosure{Basis: audit.ByResearch, Recipient: "university-7", Protocol: "irb-12", Frequency: audit.Monthly}
		ev := audit.Event{
			Type: audit.Disclosed, Outcome: audit.Success, Reason: audit.ReasonWritten, Action: access.Read, Code: access.AllowRule,
			Decision: decision, Objects: reveal.Objects, Count: 4, Citation: "164.512(i)(1)(i)", About: alert, Rule: "bulk", Grant: grant, Role: "records-clerk",
			User: "u-5", UserKind: access.Human, Since: since, Until: since.AddDate(0, 4, 0).In(time.FixedZone("", 3600)), Disclosure: &disclosure,
		}
		if _, err := tr.Record(access.WithRequestID(as(t), "req-1"), ev); err != nil {
			t.Fatal(err)
		}
		disclosure.Basis = audit.ByLaw // the caller's to change
		got := of(events(), audit.Disclosed)
		if len(got) != 1 {
			t.Fatalf("%d events are kept, want 1", len(got))
		}
		s := got[0]
		if s.Reason != audit.ReasonWritten || s.Code != access.AllowRule || s.Request != "req-1" || s.Count != 4 || s.Citation != ev.Citation ||
			s.About != alert || s.Rule != "bulk" || s.Grant != grant || s.Role != "records-clerk" || s.User != "u-5" || s.UserKind != access.Human || s.Actor.OnBehalf != "u-3" ||
			!s.Since.Equal(since) || !s.Until.Equal(since.AddDate(0, 4, 0)) || s.Until.Location() != time.UTC {
			t.Errorf("kept %+v", s)
		}
		if s.Disclosure == nil || *s.Disclosure != (audit.Disclosure{Basis: audit.ByResearch, Recipient: "university-7", Protocol: "irb-12", Frequency: audit.Monthly}) {
			t.Errorf("kept disclosure %+v", s.Disclosure)
		}
	})

	t.Run("what the caller changes later is not changed in the trail", func(t *testing.T) {
		tr, events := open(t)
		ev := reveal
		ev.Objects = []audit.Object{{Type: "patient", Record: "r-1", Patient: "r-1", Fields: []string{"name"}}}
		if _, err := tr.Record(as(t), ev); err != nil {
			t.Fatal(err)
		}
		ev.Objects[0].Fields[0] = "other"
		ev.Objects[0].Denied = true
		got := of(events(), audit.Revealed)
		if len(got) != 1 || got[0].Objects[0].Fields[0] != "name" || got[0].Objects[0].Denied {
			t.Errorf("kept %+v", got)
		}
	})

	t.Run("a cancelled request is recorded with its actor", func(t *testing.T) {
		tr, events := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		ctx = access.With(ctx, nurse, access.Treatment)
		cancel()
		if _, err := tr.Record(ctx, reveal); err != nil {
			t.Fatalf("Record(cancelled) = %v", err)
		}
		if got := of(events(), audit.Revealed); len(got) != 1 || got[0].Actor.ID != "u-17" {
			t.Errorf("kept %+v", got)
		}
	})

	t.Run("the actor of a sign-in", func(t *testing.T) {
		tr, events := open(t)
		failed := audit.Event{Type: audit.SignInFailed, Outcome: audit.Failure, Reason: audit.ReasonPassword}
		failed.Actor = nurse
		if _, err := tr.Record(t.Context(), failed); err != nil {
			t.Fatal(err)
		}
		failed.Actor = access.Principal{Addr: nurse.Addr} // an unknown user
		if _, err := tr.Record(t.Context(), failed); err != nil {
			t.Fatal(err)
		}
		failed.Actor = access.Principal{ID: "impostor", Tenant: "t-1", Kind: access.Human}
		if _, err := tr.Record(as(t), failed); err != nil { // the context wins
			t.Fatal(err)
		}
		got := of(events(), audit.SignInFailed)
		if len(got) != 3 || got[0].Actor.ID != "u-17" || got[1].Actor.ID != "" || got[1].Actor.Addr != nurse.Addr || got[2].Actor.ID != "u-17" {
			t.Errorf("kept %+v", got)
		}
		failed.Actor = access.Principal{ID: "jane@example.org", Tenant: "t-1", Kind: access.Human}
		if _, err := tr.Record(t.Context(), failed); !errors.Is(err, audit.ErrEvent) {
			t.Errorf("Record(actor is an e-mail address) = %v, want ErrEvent", err)
		}
	})

	t.Run("bad events are refused and not kept", func(t *testing.T) {
		tr, events := open(t)
		disclosed := func(change func(*audit.Disclosure)) audit.Event {
			d := audit.Disclosure{Basis: audit.ByLaw, Recipient: "court-1"}
			change(&d)
			return audit.Event{Type: audit.Disclosed, Outcome: audit.Success, Objects: reveal.Objects, Disclosure: &d}
		}
		before := len(events())
		with := func(change func(*audit.Event)) audit.Event {
			ev := reveal
			ev.Objects = slices.Clone(reveal.Objects)
			change(&ev)
			return ev
		}
		object := func(change func(*audit.Object)) audit.Event {
			return with(func(ev *audit.Event) { change(&ev.Objects[0]) })
		}
		for name, ev := range map[string]audit.Event{
			"the zero event":             {},
			"unknown type":               with(func(ev *audit.Event) { ev.Type = "Jane Roe" }),
			"no outcome":                 with(func(ev *audit.Event) { ev.Outcome = "" }),
			"unknown outcome":            with(func(ev *audit.Event) { ev.Outcome = "fine" }),
			"unknown reason":             with(func(ev *audit.Event) { ev.Reason = "because Jane Roe asked" }),
			"free text as action":        with(func(ev *audit.Event) { ev.Action = "read Jane Roe" }),
			"free text as decision":      with(func(ev *audit.Event) { ev.Decision = "let Jane in" }),
			"free text as citation":      with(func(ev *audit.Event) { ev.Citation = "164.312 (Jane)" }),
			"negative count":             with(func(ev *audit.Event) { ev.Count = -1 }),
			"object without a type":      object(func(o *audit.Object) { o.Type = "" }),
			"free text as type":          object(func(o *audit.Object) { o.Type = "patient Jane" }),
			"SSN as record":              object(func(o *audit.Object) { o.Record = "078-05-1120" }),
			"phone as patient":           object(func(o *audit.Object) { o.Patient = "617-555-0199" }),
			"e-mail as patient":          object(func(o *audit.Object) { o.Patient = "jane@example.org" }),
			"free text as tenant":        object(func(o *audit.Object) { o.Tenant = "St Mary's" }),
			"free text as field":         object(func(o *audit.Object) { o.Fields = []string{"Jane Roe"} }),
			"newline in a field":         object(func(o *audit.Object) { o.Fields = []string{"a\nb"} }),
			"digest that is no digest":   object(func(o *audit.Object) { o.Fields, o.Digests = []string{"name"}, []string{"Jane Roe 1234567"} }),
			"digests that fit no fields": object(func(o *audit.Object) { o.Digests = []string{"0011223344556677"} }),
			"negative version":           object(func(o *audit.Object) { o.Version = -1 }),
			"unknown code":               with(func(ev *audit.Event) { ev.Code = "DENY_JANE_ROE" }),
			"free text as about":         with(func(ev *audit.Event) { ev.About = "the alert about Jane" }),
			"free text as grant":         with(func(ev *audit.Event) { ev.Grant = "g-7" }),
			"free text as role":          with(func(ev *audit.Event) { ev.Role = "Jane's neighbour" }),
			"free text as rule":          with(func(ev *audit.Event) { ev.Rule = "Jane's neighbour" }),
			"free text as user":          with(func(ev *audit.Event) { ev.User, ev.UserKind = "Jane Roe", access.Human }),
			"phone as user":              with(func(ev *audit.Event) { ev.User, ev.UserKind = "617-555-0199", access.Human }),
			"user without a kind":        with(func(ev *audit.Event) { ev.User = "u-5" }),
			"free text as kind":          with(func(ev *audit.Event) { ev.User, ev.UserKind = "u-5", "Jane" }),
			"kind without a user":        with(func(ev *audit.Event) { ev.UserKind = access.Human }),
			"a period that ends first":   with(func(ev *audit.Event) { ev.Since, ev.Until = time.Unix(10, 0), time.Unix(9, 0) }),
			"a time out of range":        with(func(ev *audit.Event) { ev.Since = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }),
			"a disclosure of nothing":    {Type: audit.Disclosed, Outcome: audit.Success},
			"a reveal with a disclosure": with(func(ev *audit.Event) { ev.Disclosure = &audit.Disclosure{Basis: audit.ByLaw, Recipient: "court-1"} }),
			"no basis":                   disclosed(func(d *audit.Disclosure) { d.Basis = "" }),
			"free text as basis":         disclosed(func(d *audit.Disclosure) { d.Basis = "Jane Roe said so" }),
			"free text as recipient":     disclosed(func(d *audit.Disclosure) { d.Recipient = "St Mary's" }),
			"no recipient":               disclosed(func(d *audit.Disclosure) { d.Recipient = "" }),
			"free text as frequency":     disclosed(func(d *audit.Disclosure) { d.Frequency = "whenever Jane calls" }),
			"SSN as protocol":            disclosed(func(d *audit.Disclosure) { d.Basis, d.Protocol = audit.ByResearch, "078-05-1120" }),
			"a protocol of no research":  disclosed(func(d *audit.Disclosure) { d.Protocol = "irb-1" }),
			"an empty detail":            with(func(ev *audit.Event) { ev.Detail = &audit.Detail{} }),
			"a detail that is not text":  with(func(ev *audit.Event) { ev.Detail = &audit.Detail{Recipient: "Jane\xff"} }),
			"a detail without an end":    with(func(ev *audit.Event) { ev.Detail = &audit.Detail{Statement: strings.Repeat("Jane ", 20000)} }),
			"a forged key rotation":      {Type: audit.JournalKeyRotated, Outcome: audit.Success},
			"a forged purge":             {Type: audit.Purged, Outcome: audit.Success},
			"a forged hold":              {Type: audit.Held, Outcome: audit.Success},
			"a forged release":           {Type: audit.Released, Outcome: audit.Success},
			"a forged erasure":           {Type: audit.Erased, Outcome: audit.Success},
			"a forged opening of detail": {Type: audit.DetailOpened, Outcome: audit.Success},
			"a forged gap":               {Type: audit.Gap, Outcome: audit.Success},
			"an attempt":                 attempt,
			"a forged commit":            {Type: audit.Committed, Outcome: audit.Success},
			"a forged opening":           {Type: audit.Opened, Outcome: audit.Success},
		} {
			receipt, err := tr.Record(as(t), ev)
			if !errors.Is(err, audit.ErrEvent) || receipt != (audit.Receipt{}) {
				t.Errorf("%s: Record = %v, %v; want ErrEvent", name, receipt, err)
			}
			if err != nil {
				NoPHI(t, err.Error(), "Jane", "078-05-1120", "617-555-0199", "St Mary")
			}
		}
		if got := events(); len(got) != before {
			t.Errorf("%d events were kept", len(got)-before)
		}
	})

	t.Run("PHI needs a principal and a purpose", func(t *testing.T) {
		tr, _ := open(t)
		for _, typ := range []audit.Type{audit.Revealed, audit.Fetched, audit.Searched, audit.Disclosed} {
			ev := reveal
			ev.Type = typ
			if typ == audit.Disclosed {
				ev.Disclosure = &audit.Disclosure{Basis: audit.ByLaw, Recipient: "court-1"}
			}
			if _, err := tr.Record(t.Context(), ev); !errors.Is(err, access.ErrNoPrincipal) {
				t.Errorf("Record(%s, no principal) = %v, want ErrNoPrincipal", typ, err)
			}
			if _, err := tr.Record(access.With(t.Context(), nurse, ""), ev); !errors.Is(err, access.ErrNoPurpose) {
				t.Errorf("Record(%s, no purpose) = %v, want ErrNoPurpose", typ, err)
			}
		}
		if _, err := tr.Attempt(t.Context(), attempt); !errors.Is(err, access.ErrNoPrincipal) {
			t.Errorf("Attempt(no principal) = %v, want ErrNoPrincipal", err)
		}
		denied := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy}
		if _, err := tr.Record(t.Context(), denied); err != nil {
			t.Errorf("Record(denied, no principal) = %v: a denial of nobody must be recorded", err)
		}
	})

	t.Run("attempt, commit, and again", func(t *testing.T) {
		tr, events := open(t)
		ticket, err := tr.Attempt(as(t), attempt)
		if err != nil {
			t.Fatal(err)
		}
		if ticket.Writer != tr.Writer() || ticket.Writer == "" || ticket.Attempt == "" || len(ticket.Digest) != 32 || len(ticket.MAC) != 32 {
			t.Fatalf("Attempt = %+v", ticket)
		}
		for range 2 {
			refused, err := tr.Commit(t.Context(), []audit.Ticket{ticket})
			if err != nil || len(refused) != 0 {
				t.Fatalf("Commit = %v, %v", refused, err)
			}
		}
		got := of(events(), audit.Committed)
		if len(got) != 2 || got[0].Attempt != ticket.Attempt || got[1].Attempt != ticket.Attempt {
			t.Errorf("kept %+v", got)
		}
		if refused, err := tr.Commit(t.Context(), nil); err != nil || len(refused) != 0 {
			t.Errorf("Commit(nothing) = %v, %v", refused, err)
		}
	})

	t.Run("a change of what access rests on is attempted, and no other event", func(t *testing.T) {
		tr, events := open(t)
		change := attempt
		for _, typ := range []audit.Type{audit.RelationChanged, audit.DirectiveChanged} {
			change.Type = typ
			if _, err := tr.Record(as(t), change); !errors.Is(err, audit.ErrEvent) {
				t.Errorf("Record(%s) = %v, want ErrEvent", typ, err)
			}
			if ticket, err := tr.Attempt(as(t), change); err != nil {
				t.Errorf("Attempt(%s) = %v", typ, err)
			} else if err := tr.Rollback(t.Context(), []audit.Ticket{ticket}); err != nil {
				t.Errorf("Rollback(%s) = %v", typ, err)
			}
		}
		change.Type = audit.PolicyChanged
		if _, err := tr.Record(as(t), change); !errors.Is(err, audit.ErrEvent) {
			t.Errorf("Record(%s) = %v, want ErrEvent", change.Type, err)
		}
		ticket, err := tr.Attempt(as(t), change)
		if err != nil {
			t.Fatal(err)
		}
		if refused, err := tr.Commit(t.Context(), []audit.Ticket{ticket}); err != nil || len(refused) != 0 {
			t.Fatalf("Commit = %v, %v", refused, err)
		}
		if got := of(events(), audit.PolicyChanged); len(got) != 1 || got[0].ID != ticket.Attempt || got[0].Actor.ID != nurse.ID {
			t.Errorf("kept %+v", got)
		}
		for _, typ := range []audit.Type{audit.Revealed, audit.UserChanged, audit.Committed} {
			other := attempt
			other.Type = typ
			if _, err := tr.Attempt(as(t), other); !errors.Is(err, audit.ErrEvent) {
				t.Errorf("Attempt(%s) = %v, want ErrEvent", typ, err)
			}
		}
	})

	t.Run("rollback", func(t *testing.T) {
		tr, events := open(t)
		ticket, err := tr.Attempt(as(t), attempt)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Rollback(t.Context(), []audit.Ticket{ticket}); err != nil {
			t.Fatal(err)
		}
		if got := of(events(), audit.RolledBack); len(got) != 1 || got[0].Attempt != ticket.Attempt {
			t.Errorf("kept %+v", got)
		}
		// Whoever saw its row before can put it back into the outbox.
		if refused, err := tr.Commit(t.Context(), []audit.Ticket{ticket}); err != nil || len(refused) != 1 || refused[0].Attempt != ticket.Attempt {
			t.Errorf("Commit(rolled back) = %v, %v; want it refused", refused, err)
		}
		kept := events()
		if got := of(kept, audit.Committed); len(got) != 0 {
			t.Errorf("what was rolled back is committed: %+v", got)
		}
		if got := of(kept, audit.OutboxRefused); len(got) != 1 || got[0].Reason != audit.ReasonUndone || got[0].Count != 1 {
			t.Errorf("refusals kept: %+v", got)
		}
		ticket.MAC = slices.Clone(ticket.MAC)
		ticket.MAC[0] ^= 1
		if err := tr.Rollback(t.Context(), []audit.Ticket{ticket}); err == nil {
			t.Error("Rollback(forged) = nil error")
		}
	})

	t.Run("forged tickets are refused and recorded", func(t *testing.T) {
		tr, events := open(t)
		good, err := tr.Attempt(as(t), attempt)
		if err != nil {
			t.Fatal(err)
		}
		other, _ := open(t)
		foreign, err := other.Attempt(as(t), attempt)
		if err != nil {
			t.Fatal(err)
		}
		forge := func(change func(*audit.Ticket)) audit.Ticket {
			ticket := good
			ticket.Digest, ticket.MAC = slices.Clone(good.Digest), slices.Clone(good.MAC)
			change(&ticket)
			return ticket
		}
		forged := []audit.Ticket{
			{},
			foreign,
			forge(func(k *audit.Ticket) { k.Attempt += "1" }),
			forge(func(k *audit.Ticket) { k.Writer = foreign.Writer }),
			forge(func(k *audit.Ticket) { k.Digest[31] ^= 1 }),
			forge(func(k *audit.Ticket) { k.MAC[0] ^= 0x80 }),
			forge(func(k *audit.Ticket) { k.MAC = k.MAC[:16] }),
			forge(func(k *audit.Ticket) { k.MAC = nil }),
		}
		refused, err := tr.Commit(t.Context(), append([]audit.Ticket{good}, forged...))
		if err != nil || len(refused) != len(forged) {
			t.Fatalf("Commit = %d refused, %v; want %d", len(refused), err, len(forged))
		}
		kept := events()
		if got := of(kept, audit.Committed); len(got) != 1 || got[0].Attempt != good.Attempt {
			t.Errorf("committed %+v, want the good ticket only", got)
		}
		if got := of(kept, audit.OutboxRefused); len(got) != 1 || got[0].Reason != audit.ReasonForged || got[0].Count != len(forged) {
			t.Errorf("refusals kept: %+v", got)
		}
	})

	t.Run("replay", func(t *testing.T) {
		tr, _ := open(t)
		h, ok := tr.(audit.History)
		if !ok {
			t.Skip("the trail is no History")
		}
		other := nurse
		other.Tenant = "t-2"
		var tickets []audit.Ticket
		for _, p := range []access.Principal{nurse, other, nurse} {
			ctx := access.With(t.Context(), p, access.Treatment)
			if _, err := tr.Record(ctx, reveal); err != nil {
				t.Fatal(err)
			}
			ticket, err := tr.Attempt(ctx, attempt)
			if err != nil {
				t.Fatal(err)
			}
			tickets = append(tickets, ticket)
		}
		if _, err := tr.Commit(t.Context(), tickets[:2]); err != nil {
			t.Fatal(err)
		}
		if err := tr.Rollback(t.Context(), tickets[2:]); err != nil {
			t.Fatal(err)
		}
		replay := func(tenant string, types ...audit.Type) (out []audit.Stored) {
			for s, err := range h.Replay(t.Context(), tenant, types...) {
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, s)
			}
			return out
		}
		got := replay("t-1", audit.WriteAttempt, audit.Committed, audit.RolledBack)
		var ids []string
		for _, s := range got {
			ids = append(ids, s.ID+s.Attempt)
		}
		if len(got) != 5 || got[0].Type != audit.RolledBack || got[0].Attempt != tickets[2].Attempt ||
			got[1].Type != audit.Committed || got[1].Attempt != tickets[1].Attempt || got[2].Attempt != tickets[0].Attempt ||
			got[3].ID != tickets[2].Attempt || got[4].ID != tickets[0].Attempt {
			t.Errorf("Replay(t-1) = %v, want the ends and the attempts of t-1, newest first", ids)
		}
		if n := len(replay("t-2", audit.Revealed)); n != 1 {
			t.Errorf("Replay(t-2, reveal) = %d events, want 1", n)
		}
		if n := len(replay("", audit.Revealed, audit.WriteAttempt)); n != 6 {
			t.Errorf("Replay(every tenant) = %d events, want 6", n)
		}
		for _, o := range got[4].Objects {
			if o.Record == "" || o.Record != h.Pseudonym("t-1", "r-1") || o.Version != 4 || !slices.Equal(o.Digests, attempt.Objects[0].Digests) {
				t.Errorf("replayed object %+v", o)
			}
		}
		if a, b := h.Pseudonym("t-1", "r-1"), h.Pseudonym("t-1", "r-2"); a == b {
			t.Error("two records have one pseudonym")
		}
		for range h.Replay(t.Context(), "t-1") {
			break // ends the iteration
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, err := range h.Replay(ctx, "t-1") {
			if err == nil {
				t.Error("Replay(cancelled) yields an event")
			}
		}
		if !h.Issued(tickets[0]) {
			t.Error("Issued(own ticket) = false")
		}
		forged := tickets[0]
		forged.Attempt = tickets[1].Attempt
		foreign, _ := open(t)
		if theirs, err := foreign.Attempt(as(t), attempt); err != nil || h.Issued(theirs) || h.Issued(forged) || h.Issued(audit.Ticket{}) {
			t.Errorf("Issued(forged or foreign) = true (%v)", err)
		}
	})

	t.Run("details", func(t *testing.T) {
		tr, events := open(t)
		d, ok := tr.(audit.Details)
		if !ok {
			t.Skip("the trail opens no details")
		}
		want := audit.Detail{Recipient: "Sarah Poe", Address: "12 Elm Street", Description: "visit notes", Statement: "subpoena"}
		given := want
		ev := audit.Event{Type: audit.Disclosed, Outcome: audit.Success, Objects: reveal.Objects,
			Disclosure: &audit.Disclosure{Basis: audit.ByJudicial, Recipient: "court-1"}, Detail: &given}
		receipt, err := tr.Record(as(t), ev)
		if err != nil {
			t.Fatal(err)
		}
		given.Recipient = "the caller's to change"
		again, err := tr.Record(as(t), ev)
		if err != nil {
			t.Fatal(err)
		}
		kept := of(events(), audit.Disclosed)
		if len(kept) != 2 || len(kept[0].Detail) != 43 || kept[0].Detail == kept[1].Detail {
			t.Fatalf("kept %+v", kept)
		}
		plain, err := tr.Record(as(t), reveal)
		if err != nil {
			t.Fatal(err)
		}
		other := nurse
		other.Tenant = "t-2"
		for name, tt := range map[string]struct {
			ctx   context.Context
			event string
			want  error
		}{
			"an event without a detail": {as(t), plain.ID, audit.ErrNoDetail},
			"an event that is not":      {as(t), again.ID + "7", audit.ErrNoDetail},
			"another tenant's":          {access.With(t.Context(), other, access.Treatment), receipt.ID, audit.ErrNoDetail},
			"nobody":                    {t.Context(), receipt.ID, access.ErrNoPrincipal},
			"no purpose":                {access.With(t.Context(), nurse, ""), receipt.ID, access.ErrNoPurpose},
			"free text":                 {as(t), "the one about Sarah", audit.ErrEvent},
		} {
			if got, err := d.Detail(tt.ctx, tt.event); !errors.Is(err, tt.want) || got != (audit.Detail{}) {
				t.Errorf("Detail(%s) = %+v, %v; want %v", name, got, err, tt.want)
			}
		}
		if n := len(of(events(), audit.DetailOpened)); n != 0 {
			t.Errorf("%d openings of nothing are recorded", n)
		}
		if got, err := d.Detail(as(t), receipt.ID); err != nil || got != want {
			t.Errorf("Detail = %+v, %v", got, err)
		}
		opened := of(events(), audit.DetailOpened)
		if len(opened) != 1 || opened[0].About != receipt.ID || opened[0].Actor.ID != "u-17" || opened[0].Purpose != access.Treatment {
			t.Errorf("recorded %+v", opened)
		}
		if c, ok := tr.(io.Closer); ok { // nothing opens that is not recorded
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if got, err := d.Detail(as(t), receipt.ID); !errors.Is(err, audit.ErrClosed) || got != (audit.Detail{}) {
				t.Errorf("Detail(closed) = %+v, %v", got, err)
			}
		}
	})

	t.Run("concurrent writers", func(t *testing.T) {
		tr, events := open(t)
		const writers, each = 8, 20
		ids := make(chan string, writers*each)
		ctx := as(t)
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range each {
					receipt, err := tr.Record(ctx, reveal)
					if err != nil {
						t.Errorf("Record: %v", err)
						return
					}
					ids <- receipt.ID
				}
			})
		}
		wg.Wait()
		close(ids)
		acked := make(map[string]bool)
		for id := range ids {
			if acked[id] {
				t.Errorf("two events have the ID %s", id)
			}
			acked[id] = true
		}
		for _, ev := range events() {
			delete(acked, ev.ID)
		}
		if len(acked) != 0 {
			t.Errorf("%d acknowledged events are not kept", len(acked))
		}
	})

	t.Run("after Close", func(t *testing.T) {
		tr, _ := open(t)
		c, ok := tr.(io.Closer)
		if !ok {
			t.Skip("the trail has no Close")
		}
		ticket, err := tr.Attempt(as(t), attempt)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Record(as(t), reveal); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("Record = %v, want ErrClosed", err)
		}
		if _, err := tr.Attempt(as(t), attempt); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("Attempt = %v, want ErrClosed", err)
		}
		if _, err := tr.Commit(t.Context(), []audit.Ticket{ticket}); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("Commit = %v, want ErrClosed", err)
		}
		if err := tr.Rollback(t.Context(), []audit.Ticket{ticket}); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("Rollback = %v, want ErrClosed", err)
		}
	})
}
