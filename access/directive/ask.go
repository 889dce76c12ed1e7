// SPDX-License-Identifier: Apache-2.0

package directive

import (
	"slices"
	"time"

	"github.com/part164/part164/access"
)

// An Ask is a question about directives: which of some kinds are live and about
// this principal, these roles, purpose, type and recipient.
type Ask struct {
	Tenant    string
	Kinds     []Kind           // empty: none
	Principal string           // who would use the records
	Roles     []string         // and holds these roles
	Purposes  []access.Purpose // the purpose, and what it is a kind of as far as that counts; empty: only what names none
	Type      string           // of the records
	Recipient string           // to whom they would go; empty: a use inside
	At        time.Time        // in whole microseconds, as the times of directives are
}

// About reports whether a directive is one that the question is about.
func (a Ask) About(d Directive) bool {
	return d.Tenant == a.Tenant && slices.Contains(a.Kinds, d.Kind) && d.Live(a.At) && d.Recipient == a.Recipient &&
		(len(d.Principals)+len(d.Roles) == 0 || slices.Contains(d.Principals, a.Principal) || slices.ContainsFunc(d.Roles, func(r string) bool { return slices.Contains(a.Roles, r) })) &&
		(len(d.Purposes) == 0 || slices.ContainsFunc(d.Purposes, func(p access.Purpose) bool { return slices.Contains(a.Purposes, p) })) &&
		(len(d.Types) == 0 || slices.Contains(d.Types, a.Type))
}

// up returns a purpose with every one that it is a kind of.
func up(p access.Purpose) (out []access.Purpose) {
	for ; p.Valid(); p = p.Parent() {
		out = append(out, p)
	}
	return out
}

// meant returns the purposes that permit p where a paper names them: p, and what
// it is a kind of, but for emergencies, which a paper on treatment does not mean.
func meant(p access.Purpose) []access.Purpose {
	if p.Emergency() {
		return []access.Purpose{p}
	}
	return up(p)
}
