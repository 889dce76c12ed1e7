// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"fmt"
	"strings"
)

// A Right says how a field may be written. The zero Right is none.
type Right uint8

// The write rights, from none to all.
const (
	No     Right = iota // may not write it
	Set                 // may give a value where there is none
	Change              // may give, replace and remove a value
)

// rightNames holds the names of the rights in tables and JSON.
var rightNames = [...]string{"no", "set", "change"}

// String returns the right's name; "no" for what is no right.
func (r Right) String() string {
	if int(r) >= len(rightNames) {
		r = No
	}
	return rightNames[r]
}

// MarshalText writes the right's name.
func (r Right) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a right's name and refuses every other text.
func (r *Right) UnmarshalText(text []byte) error {
	for i, name := range rightNames {
		if string(text) == name {
			*r = Right(i)
			return nil
		}
	}
	return fmt.Errorf("minimize: unknown right: take one of %s", strings.Join(rightNames[:], ", "))
}
