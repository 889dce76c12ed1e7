// SPDX-License-Identifier: Apache-2.0

package directive

import (
	"errors"
	"fmt"
	"slices"

	"github.com/part164/part164/access"
)

// A Need says what may be used with the patient's paper only. The zero Need
// asks for an authorization for everything.
type Need struct {
	Types    []string         // records of these types; empty: of every type
	Purposes []access.Purpose // for these and the purposes below them; empty: for every purpose
	Free     []access.Purpose // but not for these and the purposes below them
	Kinds    []Kind           // which papers do: Consent, Authorization; empty: an authorization

	// Originator are the purposes for which whoever wrote a record needs none
	// for it: Config.Others says who did.
	Originator []access.Purpose

	// Apart says that an authorization that names one of Types names no other
	// type (45 CFR 164.508(b)(3)(ii)).
	Apart bool
}

// PsychotherapyNotes is the need of such notes, which the given types of records
// hold (45 CFR 164.508(a)(2)): an authorization for every use and disclosure,
// also in an emergency, but of whoever wrote them for treatment. The covered
// entity's own supervised training, and its defence in a legal action that the
// individual brings, need none either: add access.Training or access.Legal to
// Free where that is what such a purpose means here.
func PsychotherapyNotes(types ...string) Need {
	return Need{Types: types, Originator: []access.Purpose{access.Treatment}, Apart: true}
}

// Marketing is the need of an authorization for marketing, with records of any
// type (45 CFR 164.508(a)(3)).
func Marketing() Need { return Need{Purposes: []access.Purpose{access.Marketing}} }

func (n Need) validate() error {
	if slices.ContainsFunc(slices.Concat(n.Purposes, n.Free, n.Originator), func(p access.Purpose) bool { return !p.Valid() }) {
		return errors.New("has an unknown purpose: take the constants of package access")
	}
	for _, t := range n.Types {
		if err := access.CheckName(t); err != nil {
			return fmt.Errorf("has a type that %w", err)
		}
	}
	if slices.ContainsFunc(n.Kinds, func(k Kind) bool { return k != Consent && k != Authorization }) {
		return errors.New("has a kind that is neither consent nor authorization")
	}
	if n.Apart && len(n.Types) == 0 {
		return errors.New("is apart, and names no types")
	}
	return nil
}

// asks reports whether a use falls under the need.
func (n Need) asks(purpose access.Purpose, resourceType string) bool {
	return (len(n.Types) == 0 || slices.Contains(n.Types, resourceType)) &&
		(len(n.Purposes) == 0 || slices.ContainsFunc(n.Purposes, purpose.IsA)) && !slices.ContainsFunc(n.Free, purpose.IsA)
}

func (n Need) clone() Need {
	n.Types, n.Purposes, n.Free = slices.Clone(n.Types), slices.Clone(n.Purposes), slices.Clone(n.Free)
	n.Kinds, n.Originator = slices.Clone(n.Kinds), slices.Clone(n.Originator)
	if len(n.Kinds) == 0 {
		n.Kinds = []Kind{Authorization}
	}
	return n
}
