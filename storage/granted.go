// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// grantObject is the kind of object that an event names a grant as, where it
// rests on more than one.
const grantObject = "grant"

// byGrant puts into an event by which grants it was allowed: each use of one is
// on record, and that of emergency access says so in its code. A grant is named
// once: in Event.Grant, by which a review finds it, as the steps of the grant
// itself are; or, of several in one event, as objects.
func byGrant(ev *audit.Event, d access.Decision) {
	var used []string
	for _, v := range d.Verdicts {
		if !v.Allow || v.Grant == "" {
			continue
		}
		if ev.Code != access.AllowBreakGlass {
			ev.Code = v.Code
		}
		if !slices.Contains(used, v.Grant) {
			used = append(used, v.Grant)
		}
	}
	if len(used) == 1 && access.CheckDecisionID(used[0]) == nil {
		ev.Grant = used[0]
		return
	}
	for _, id := range used {
		ev.Objects = append(ev.Objects, audit.Object{Type: grantObject, Record: id})
	}
}

// withRole returns the roles in which the scope's principal acts, with the one
// that a grant brings.
func withRole(s *access.Scope, role string) []string {
	if role == "" {
		return s.Roles()
	}
	return append(s.Roles(), role)
}
