// SPDX-License-Identifier: Apache-2.0

package document

import (
	"fmt"
	"time"

	"github.com/part164/part164/access"
)

// Stamp says a time to the second, in UTC.
func Stamp(t time.Time) string { return t.UTC().Format(time.DateTime) }

// Day says a date, in UTC.
func Day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// Count says how many.
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Purpose says a purpose of use in words.
func Purpose(p access.Purpose) string {
	if p == "" {
		return "none stated"
	}
	return p.Display()
}
