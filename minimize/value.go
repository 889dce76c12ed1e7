// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"context"
	"fmt"
	"strings"
)

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

// viewNames holds the names of the views in tables and JSON.
var viewNames = [...]string{"withhold", "mask", "generalise", "pseudonym", "scrub", "reveal"}

// String returns the view's name; "withhold" for what is no view.
func (v View) String() string {
	if int(v) >= len(viewNames) {
		v = Withhold
	}
	return viewNames[v]
}

// MarshalText writes the view's name.
func (v View) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads a view's name and refuses every other text.
func (v *View) UnmarshalText(text []byte) error {
	for i, name := range viewNames {
		if string(text) == name {
			*v = View(i)
			return nil
		}
	}
	return fmt.Errorf("minimize: unknown view: take one of %s", strings.Join(viewNames[:], ", "))
}

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

// stateNames holds the names of the states in templates and tests.
var stateNames = [...]string{"sealed", "null", "shown", "partly", "withheld", "unavailable"}

// String returns the state's name; "sealed" for what is no state.
func (s State) String() string {
	if int(s) >= len(stateNames) {
		s = Sealed
	}
	return stateNames[s]
}

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
