// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// grantObject is the kind of object that an event names a grant as.
const grantObject = "grant"

// byGrant puts into an event by which grants it was allowed: each use of one is
// on record, and that of emergency access says so in its code. The grant without
// which all of it would have been denied stands in the event itself, by which a
// review finds it.
func byGrant(ev *audit.Event, d access.Decision) {
	var used []string
	all := true
	for _, v := range d.Verdicts {
		if !v.Allow || v.Grant == "" {
			all = all && !v.Allow
			continue
		}
		if ev.Code != access.AllowBreakGlass {
			ev.Code = v.Code
		}
		if !slices.Contains(used, v.Grant) {
			used = append(used, v.Grant)
			ev.Objects = append(ev.Objects, audit.Object{Type: grantObject, Record: v.Grant})
		}
	}
	if all && len(used) == 1 && access.CheckDecisionID(used[0]) == nil {
		ev.Grant = used[0]
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
