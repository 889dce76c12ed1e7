// SPDX-License-Identifier: Apache-2.0

package review

import (
	"slices"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
)

// An Activity is what one principal did.
type Activity struct {
	Who       report.Who `json:"who"`
	Patients  int        `json:"patients"` // distinct, whose PHI was seen or changed; of several journals, at most so many
	Seen      int        `json:"seen"`     // events
	Searched  int        `json:"searched"`
	Changed   int        `json:"changed"`
	Disclosed int        `json:"disclosed"`
	Emergency int        `json:"emergency"` // of all these, for emergency access
	Refused   int        `json:"refused"`
	Reports   int        `json:"reports"` // readings of the trail
	SignIns   int        `json:"sign_ins"`
	Failed    int        `json:"failed"` // sign-ins
	Admin     int        `json:"admin"`  // users, factors, keys, jobs, destruction

	ReviewedBy []string `json:"reviewed_by,omitempty"` // IDs of others who signed off
}

// signals are the events that want a look by themselves.
func signals() []audit.Type {
	return []audit.Type{audit.RevealFailed, audit.Outside, audit.Shredded, audit.Restored, audit.SignInLocked, audit.UserChanged, audit.PolicyChanged, audit.PolicyRefused, audit.Deviation,
		audit.Alerted, audit.OutboxRefused, audit.Recovered, audit.ClockOff, audit.Gap, audit.Erased, audit.Held, audit.Released, audit.Purged,
		audit.JournalKeyRotated, audit.Parked, audit.GlassBroken, audit.GrantApproved}
}

// activity are the events that are counted.
func activity() []audit.Type {
	return append(signals(), audit.RelationChanged, audit.DirectiveChanged, audit.RecipientsLoaded, audit.Revealed, audit.Fetched, audit.Searched, audit.Denied, audit.WriteAttempt, audit.Disclosed, audit.Suspended, audit.Reported,
		audit.Reviewed, audit.Disposed, audit.DetailOpened, audit.SignIn, audit.SignInFailed, audit.FactorChanged, audit.KeyRotated, audit.Sealed, audit.Merged, audit.Checked,
		audit.GrantRequested, audit.GrantRefused, audit.GrantEnded, audit.GrantReviewed, audit.PolicyReviewed)
}

// wantsLook reports whether an event does, by itself.
func wantsLook(ev *audit.Stored) bool {
	return ev.Purpose.Emergency() || slices.Contains(signals(), ev.Type) ||
		ev.Outcome == audit.Failure && ev.Type != audit.Denied && ev.Type != audit.SignInFailed
}

func sees(t audit.Type) bool {
	switch t {
	case audit.Revealed, audit.Fetched, audit.Searched, audit.WriteAttempt, audit.Disclosed:
		return true
	}
	return false
}

// count adds an event and returns the series of the chart that it belongs to.
func (a *Activity) count(ev *audit.Stored) int {
	if ev.Purpose.Emergency() {
		a.Emergency++
	}
	switch {
	case ev.Type == audit.SignInFailed || ev.Type == audit.SignInLocked:
		a.Failed += max(ev.Count, 1)
		return 1
	case ev.Outcome == audit.Failure || ev.Type == audit.Denied:
		a.Refused += max(1, ev.Count)
		return 1
	}
	switch ev.Type {
	case audit.Revealed, audit.Fetched:
		a.Seen++
	case audit.Searched:
		a.Searched++
	case audit.WriteAttempt:
		a.Changed++
	case audit.Disclosed:
		a.Disclosed++
	case audit.Reported, audit.DetailOpened:
		a.Reports++
	case audit.SignIn:
		a.SignIns++
	default:
		a.Admin++
	}
	return 0
}
