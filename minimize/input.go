// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"errors"
	"fmt"
	"strings"
)

// ErrMaskedInput means that a text given as a new value is a placeholder, a
// mask or a generalised form: somebody sent back what they were shown.
var ErrMaskedInput = errors.New("minimize: a masked or withheld value was given back as input: leave the field out to keep what is stored")

// CheckInput refuses a text that is what a view of the class looks like rather
// than a value: a client that PUTs back what it was shown must not overwrite
// the data. The error wraps [ErrMaskedInput], names the class and does not
// hold the text.
//
// A year is a valid partial date and a real name may look like no mask, so the
// shape cannot tell everything: whoever replaces a stored value also asks
// [CheckChange].
func CheckInput(c Class, text string) error {
	if looksMasked(c, text) {
		return fmt.Errorf("%w (class %s)", ErrMaskedInput, c)
	}
	return nil
}

// CheckChange refuses text as the new value of a field that holds stored if
// [CheckInput] does, or if it is what a view shows of stored. The stored value
// itself passes.
func CheckChange(c Class, stored, text string) error {
	if err := CheckInput(c, text); err != nil || stored == text {
		return err
	}
	shown := strings.TrimSpace(text)
	for v := Mask; v < Reveal; v++ {
		if b, ok := appendView(nil, v, c, stored, 0); ok && stored != "" && string(b) == shown {
			return fmt.Errorf("%w (class %s)", ErrMaskedInput, c)
		}
	}
	return nil
}

func looksMasked(c Class, text string) bool {
	text = strings.TrimSpace(text)
	lower := strings.ToLower(text)
	switch {
	case strings.Contains(lower, "[phi:"), strings.Contains(lower, "[phi]"):
		return true // a placeholder, also inside a longer text
	case strings.Contains(lower, `class="phi-`):
		return true // what the template function phi prints for a withheld value
	case lower == withheld, lower == unavailable:
		return c != Operational // what a page shows in its place; a status may well say so
	case Mask.fits(c):
		return strings.Contains(text, "*")
	}
	switch c {
	case ZIP:
		n, other := digits(text)
		return n == 3 && !other || strings.Contains(text, "*")
	case DOB, Date:
		return text == over89 || text == longAgo || strings.Contains(text, "*")
	case Age:
		return text == over89 || strings.Contains(text, "-") || strings.Contains(text, "*")
	}
	return false
}

// What a page shows where there is a value and it is not shown.
const (
	withheld    = "withheld"
	unavailable = "unavailable"
)
