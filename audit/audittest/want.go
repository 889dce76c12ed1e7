// SPDX-License-Identifier: Apache-2.0

package audittest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/part164/part164/audit"
)

// Want fails the test unless tr holds events that match wants, in this order;
// other events may stand between them. In a want, zero fields match anything,
// Actor.ID names the actor, each Object must be matched by an object of the
// event, and Fields must be the object's fields, in any order.
func Want(t testing.TB, tr *Trail, wants ...audit.Event) {
	t.Helper()
	events := tr.Events()
	at := 0
	for i, want := range wants {
		from := at
		for at < len(events) && !matches(events[at], want) {
			at++
		}
		if at == len(events) {
			t.Errorf("audit trail: want %d of %d is not among the events from %d on:\n  want %s\n%s",
				i+1, len(wants), from, describe(stored(want)), list(events, from))
			return
		}
		at++
	}
}

// WantNone fails the test if tr holds an event that matches any of wants.
func WantNone(t testing.TB, tr *Trail, wants ...audit.Event) {
	t.Helper()
	events := tr.Events()
	for _, want := range wants {
		for i, ev := range events {
			if matches(ev, want) {
				t.Errorf("audit trail: event %d must not be there:\n  want none of %s\n%s", i, describe(stored(want)), list(events, 0))
				return
			}
		}
	}
}

func stored(want audit.Event) audit.Stored {
	return audit.Stored{
		Type: want.Type, Outcome: want.Outcome, Reason: want.Reason, Action: want.Action,
		Decision: want.Decision, Citation: want.Citation, Count: want.Count, Objects: want.Objects, Actor: want.Actor,
		Code: want.Code, About: want.About, Rule: want.Rule, Grant: want.Grant, Role: want.Role, User: want.User, UserKind: want.UserKind,
		Since: want.Since, Until: want.Until, Disclosure: want.Disclosure,
	}
}

func matches(ev audit.Stored, want audit.Event) bool {
	if !is(ev.Type, want.Type) || !is(ev.Outcome, want.Outcome) || !is(ev.Reason, want.Reason) ||
		!is(ev.Action, want.Action) || !is(ev.Decision, want.Decision) || !is(ev.Citation, want.Citation) ||
		!is(ev.Code, want.Code) || !is(ev.About, want.About) || !is(ev.Rule, want.Rule) || !is(ev.Grant, want.Grant) || !is(ev.Role, want.Role) ||
		!is(ev.User, want.User) || !is(ev.UserKind, want.UserKind) ||
		!want.Since.IsZero() && !want.Since.Equal(ev.Since) || !want.Until.IsZero() && !want.Until.Equal(ev.Until) ||
		want.Disclosure != nil && (ev.Disclosure == nil || *ev.Disclosure != *want.Disclosure) ||
		!is(ev.Count, want.Count) || !is(ev.Actor.ID, want.Actor.ID) || !is(ev.Actor.Tenant, want.Actor.Tenant) {
		return false
	}
	for _, o := range want.Objects {
		if !slices.ContainsFunc(ev.Objects, func(have audit.Object) bool { return matchesObject(have, o) }) {
			return false
		}
	}
	return true
}

func matchesObject(have, want audit.Object) bool {
	return is(have.Type, want.Type) && is(have.Tenant, want.Tenant) && is(have.Record, want.Record) &&
		is(have.Patient, want.Patient) && is(have.Version, want.Version) && is(have.Denied, want.Denied) &&
		sameSet(have.Fields, want.Fields) && sameSet(have.Digests, want.Digests)
}

// is reports whether have equals want, or want is zero.
func is[T comparable](have, want T) bool {
	var zero T
	return want == zero || have == want
}

func sameSet(have, want []string) bool {
	return want == nil || slices.Equal(slices.Sorted(slices.Values(have)), slices.Sorted(slices.Values(want)))
}

func list(events []audit.Stored, from int) string {
	if len(events) == 0 {
		return "  there are no events"
	}
	var b strings.Builder
	for i, ev := range events {
		mark := " "
		if i >= from {
			mark = "*"
		}
		fmt.Fprintf(&b, "  %s%3d %s\n", mark, i, describe(ev))
	}
	return b.String()
}

func describe(ev audit.Stored) string {
	var b strings.Builder
	b.WriteString(string(ev.Type))
	add := func(name string, value any, zero bool) {
		if !zero {
			fmt.Fprintf(&b, " %s=%v", name, value)
		}
	}
	add("outcome", ev.Outcome, ev.Outcome == "")
	add("reason", ev.Reason, ev.Reason == "")
	add("action", ev.Action, ev.Action == "")
	add("actor", ev.Actor.ID, ev.Actor.ID == "")
	add("purpose", ev.Purpose, ev.Purpose == "")
	add("code", ev.Code, ev.Code == "")
	add("decision", ev.Decision, ev.Decision == "")
	add("about", ev.About, ev.About == "")
	add("rule", ev.Rule, ev.Rule == "")
	add("grant", ev.Grant, ev.Grant == "")
	add("role", ev.Role, ev.Role == "")
	add("user", ev.User, ev.User == "")
	if d := ev.Disclosure; d != nil {
		add("basis", d.Basis, false)
		add("recipient", d.Recipient, false)
	}
	add("citation", ev.Citation, ev.Citation == "")
	add("count", ev.Count, ev.Count == 0)
	add("attempt", ev.Attempt, ev.Attempt == "")
	for _, o := range ev.Objects {
		fmt.Fprintf(&b, " {%s record=%s patient=%s", o.Type, o.Record, o.Patient)
		add("version", o.Version, o.Version == 0)
		add("fields", strings.Join(o.Fields, ","), len(o.Fields) == 0)
		add("denied", true, !o.Denied)
		b.WriteString("}")
	}
	return b.String()
}
