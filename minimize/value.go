// SPDX-License-Identifier: Apache-2.0

package minimize

import "context"

// A View says how much of a field a caller sees. The zero View withholds.
type View uint8

// The views, from nothing to all.
const (
	Withhold   View = iota // not opened at all; shown as withheld, never as blank
	Mask                   // a mask of the class, such as the last four digits
	Generalise             // ZIP3, year, age band
	Pseudonym              // a keyed code in place of the value
	Scrub                  // free text without the identifiers found in it
	Reveal                 // the value
)

// A State says what became of a value for one scope. The zero State is sealed.
type State uint8

// The states.
const (
	Sealed      State = iota // nobody revealed it to this scope
	Null                     // there is no value
	Shown                    // the value itself
	Partly                   // a mask, generalisation, pseudonym or scrubbed text
	Withheld                 // the policy shows nothing of it
	Unavailable              // it could not be opened
)

// A Rendering is what one scope may see of one value.
type Rendering struct {
	State State
	Class Class
	Text  string // Shown: the value as text; Partly: the mask; else the placeholder
	Value any    // Shown: the value itself, for encoding; else nil
}

// A Value is a field that knows what a scope may see of it; storage.Sealed is
// one. Renderers never open a value: they print what it gives them.
type Value interface {
	// Minimized returns what the scope of ctx may see, without opening
	// anything. To another scope than the one it was revealed to it is Sealed.
	Minimized(ctx context.Context) Rendering
}
