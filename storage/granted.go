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
// on record, and that of emergency access says so in its code.
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
			ev.Objects = append(ev.Objects, audit.Object{Type: grantObject, Record: v.Grant})
		}
	}
}

// withRole returns the roles of who with the one that a grant brings.
func withRole(who access.Principal, role string) []string {
	if role == "" {
		return who.Roles
	}
	return slices.Concat(who.Roles, []string{role})
}
