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
	switch p {
	case "":
		return "none stated"
	case access.Treatment:
		return "treatment"
	case access.EmergencyTreatment:
		return "treatment in an emergency"
	case access.BreakGlass:
		return "emergency access"
	case access.CareManagement:
		return "care management"
	case access.Payment:
		return "payment"
	case access.Operations:
		return "health care operations"
	case access.Compliance:
		return "review of access"
	case access.RecordManagement:
		return "record management"
	case access.SystemAdmin:
		return "system administration"
	case access.PatientRequest:
		return "patient request"
	case access.PublicHealth:
		return "public health"
	case access.Research:
		return "research"
	}
	return string(p)
}
