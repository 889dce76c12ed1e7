// SPDX-License-Identifier: Apache-2.0

package access

import "strings"

// Shapes of what a person is known by, as CheckID refuses them. Each is of
// digits between separators: an ID that a program numbers or draws has such a
// shape by chance far too seldom to matter.

func isSeparator(c byte) bool { return c == '.' || c == '_' || c == ':' || c == '-' }

// digitGroups calls yield with the groups of digits in each stretch of id that
// has only digits and separators, until it returns true, and reports whether it
// did.
func digitGroups(id string, yield func(groups []string) bool) bool {
	for _, run := range strings.FieldsFunc(id, func(r rune) bool { return isLetter(byte(r)) }) {
		if yield(strings.FieldsFunc(run, func(r rune) bool { return isSeparator(byte(r)) })) {
			return true
		}
	}
	return false
}

// hasPhoneOrSSN looks for neighbouring groups of 3-2-4 or 3-3-4 digits.
func hasPhoneOrSSN(id string) bool {
	return digitGroups(id, func(groups []string) bool {
		var shape []byte
		for _, g := range groups {
			shape = append(shape, byte('0'+min(len(g), 9)))
		}
		return strings.Contains(string(shape), "324") || strings.Contains(string(shape), "334")
	})
}

// hasDate looks for a year with four digits, and a month and a day with two, in
// either order of the three.
func hasDate(id string) bool {
	return digitGroups(id, func(groups []string) bool {
		for i := 0; i+3 <= len(groups); i++ {
			a, b, c := groups[i], groups[i+1], groups[i+2]
			if isYear(a) && isMonthAndDay(b, c) || isYear(c) && (isMonthAndDay(a, b) || isMonthAndDay(b, a)) {
				return true
			}
		}
		return false
	})
}

func isYear(s string) bool { return len(s) == 4 && (s[:2] == "19" || s[:2] == "20") }

func isMonthAndDay(month, day string) bool {
	return len(month) == 2 && len(day) == 2 && month >= "01" && month <= "12" && day >= "01" && day <= "31"
}

// isLabelled reports whether id ends in a number that says what it is:
// MRN-00123, tel:6175550199.
func isLabelled(id string) bool {
	at := len(id)
	for at > 0 && (isDigit(id[at-1]) || isSeparator(id[at-1])) {
		at--
	}
	digits := 0
	for i := at; i < len(id); i++ {
		if isDigit(id[i]) {
			digits++
		}
	}
	from := at
	for from > 0 && isLetter(id[from-1]) {
		from--
	}
	if from > 0 && !isSeparator(id[from-1]) {
		return false // letters in the middle of something drawn at random
	}
	switch strings.ToLower(id[from:at]) {
	case "mrn", "ssn", "medrec", "mbi", "hicn":
		return digits > 0
	case "dob", "birthdate":
		return digits >= 4
	case "tel", "phone", "fax", "mobile":
		return digits >= 7
	}
	return false
}
