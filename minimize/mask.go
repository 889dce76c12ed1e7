// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Placeholder returns what stands for a value that is not shown, such as
// "[PHI:name]"; "[PHI]" for what is no class.
func Placeholder(c Class) string {
	if !c.Valid() {
		return "[PHI]"
	}
	return "[PHI:" + string(c) + "]"
}

// Apply returns what a view shows of a text of the class. Where the view shows
// nothing, or the text has no such form, it is the [Placeholder], never the
// text. The empty text stays empty in every view but [Withhold]: there is
// nothing to hide.
//
// Masks. A value that is too short for its mask becomes "***":
//
//	name                                 J*** R***      first letter of each word of 3 letters or more
//	ssn                                  ***-**-1234    last 4 of exactly 9 digits
//	phone, fax                           ***-***-1234   last 4 of 10 digits or more, last 2 of 7 to 9
//	email                                j***@e***.org  first letters of the two parts, if each has 3 or more
//	mrn                                  ***123         last 3 of 7 letters and digits or more
//	plan, account, license,
//	vehicle, device, uid                 ***1234        last 4 of 9 letters and digits or more
//
// Generalised forms. A text that cannot be read becomes the placeholder:
//
//	dob, date   the year. Where it is 90 or more years ago it would tell an age over 89 (45 CFR
//	            164.514(b)(2)(i)(C)): "90+" for dob, "90+ years ago" for date
//	age         the band of ten years, such as "40-49"; "90+" from 90 up
//	zip         the first 3 digits, or "000" for an area of 20,000 people or fewer: see [ZIP3]
//
// No other class has a mask or a generalised form. [Pseudonym] and [Scrub]
// come with a later version and show the placeholder until then. Masks are for
// the eyes of the workforce: they do not de-identify.
func Apply(v View, c Class, text string) string {
	b, ok := appendView(nil, v, c, text, 0)
	if !ok {
		return Placeholder(c)
	}
	return string(b)
}

// fits reports whether the view has a form for the class.
func (v View) fits(c Class) bool {
	switch v {
	case Withhold, Reveal:
		return true
	case Mask:
		return maskOf(c) != noMask
	case Generalise:
		switch c {
		case DOB, Date, Age, ZIP:
			return true
		}
	}
	return false
}

// appendView appends what v shows of text. It reports false, having appended
// nothing, where that is nothing. thisYear 0 asks the clock.
func appendView(dst []byte, v View, c Class, text string, thisYear int) ([]byte, bool) {
	switch {
	case v == Reveal && c.Valid():
		return append(dst, text...), true
	case v == Withhold || v == Reveal || !v.fits(c):
		return dst, false
	case text == "":
		return dst, true
	case v == Mask:
		return appendMask(dst, maskOf(c), text), true
	case v == Generalise:
		return appendGeneral(dst, c, text, thisYear)
	}
	return dst, false
}

// stars stands for what a mask hides. It does not tell how much that is.
const stars = "***"

// A mask is one of the masks in the comment of [Apply].
type mask uint8

const (
	noMask mask = iota
	initials
	last4SSN
	last4Phone
	emailParts
	last3
	last4
)

func maskOf(c Class) mask {
	switch c {
	case Name:
		return initials
	case SSN:
		return last4SSN
	case Phone, Fax:
		return last4Phone
	case Email:
		return emailParts
	case MRN:
		return last3
	case Plan, Account, License, Vehicle, Device, UID:
		return last4
	}
	return noMask
}

func appendMask(dst []byte, m mask, text string) []byte {
	switch m {
	case initials:
		from := len(dst)
		for i := 0; i < len(text); {
			r, size := rune(text[i]), 1
			if r >= utf8.RuneSelf {
				r, size = utf8.DecodeRuneInString(text[i:])
			}
			if unicode.IsSpace(r) {
				i += size
				continue
			}
			if len(dst) > from {
				dst = append(dst, ' ')
			}
			end := i + size
			for end < len(text) {
				if c := text[end]; c < utf8.RuneSelf && ascii[c]&letter == 0 && unicode.IsSpace(rune(c)) {
					break
				} else if c >= utf8.RuneSelf {
					if r, _ := utf8.DecodeRuneInString(text[end:]); unicode.IsSpace(r) {
						break
					}
				}
				end++
			}
			dst = append(appendInitial(dst, text[i:end]), stars...)
			i = end
		}
		if len(dst) > from {
			return dst
		}
	case emailParts:
		local, domain, _ := strings.Cut(text, "@")
		dot := strings.LastIndexByte(domain, '.')
		if dot < 0 || !isTop(domain[dot+1:]) {
			return append(dst, stars...)
		}
		dst = append(appendInitial(dst, local), stars+"@"...)
		dst = append(appendInitial(dst, domain[:dot]), stars...)
		return append(dst, domain[dot:]...)
	case last4SSN:
		if n, other := digits(text); n == 9 && !other {
			return appendLast(append(dst, "***-**-"...), text, 4, digit)
		}
	case last4Phone:
		switch n, _ := digits(text); {
		case n >= 10:
			return appendLast(append(dst, "***-***-"...), text, 4, digit)
		case n >= 7:
			return appendLast(append(dst, "***-**"...), text, 2, digit)
		}
	case last3:
		if atLeast(7, text) {
			return appendLast(append(dst, stars...), text, 3, letter|digit)
		}
	case last4:
		if atLeast(9, text) {
			return appendLast(append(dst, stars...), text, 4, letter|digit)
		}
	}
	return append(dst, stars...)
}

// isTop reports whether s can be a top-level domain: 2 to 20 ASCII letters.
func isTop(s string) bool {
	for i := range len(s) {
		if ascii[s[i]]&letter == 0 {
			return false
		}
	}
	return len(s) >= 2 && len(s) <= 20
}

// appendInitial appends the first letter of a word that has at least 3.
func appendInitial(dst []byte, word string) []byte {
	n := 0
	for _, r := range word {
		if unicode.IsLetter(r) {
			if n++; n == 3 {
				break
			}
		}
	}
	if r, _ := utf8.DecodeRuneInString(word); n == 3 && unicode.IsLetter(r) {
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

// appendLast appends the last n bytes of text that are of kinds, and nothing
// else of it.
func appendLast(dst []byte, text string, n int, kinds uint8) []byte {
	at := len(text)
	for at > 0 && n > 0 {
		if at--; ascii[text[at]]&kinds != 0 {
			n--
		}
	}
	for ; at < len(text); at++ {
		if ascii[text[at]]&kinds != 0 {
			dst = append(dst, text[at])
		}
	}
	return dst
}

// digits returns how many ASCII digits text has, and whether it has letters or
// anything that is not ASCII.
func digits(text string) (n int, other bool) {
	for i := range len(text) {
		switch c := text[i]; {
		case ascii[c]&digit != 0:
			n++
		case ascii[c]&letter != 0 || c >= utf8.RuneSelf:
			other = true
		}
	}
	return n, other
}

// atLeast reports whether text has n ASCII letters and digits.
func atLeast(n int, text string) bool {
	for i := 0; i < len(text) && n > 0; i++ {
		if ascii[text[i]]&(letter|digit) != 0 {
			n--
		}
	}
	return n <= 0
}

func appendGeneral(dst []byte, c Class, text string, thisYear int) ([]byte, bool) {
	switch c {
	case ZIP:
		return append(dst, ZIP3(text)...), true
	case Age:
		n, err := strconv.Atoi(strings.TrimSpace(text))
		switch {
		case err != nil || n < 0:
			return dst, false
		case n > 89:
			return append(dst, over89...), true
		}
		low := n / 10 * 10
		dst = append(strconv.AppendInt(dst, int64(low), 10), '-')
		return strconv.AppendInt(dst, int64(low+9), 10), true
	case DOB, Date:
		year, ok := yearOf(text)
		if !ok {
			return dst, false
		}
		return appendYear(dst, c, year, thisYear), true
	}
	return dst, false
}

// appendYear appends a year of birth or of an event, unless it tells an age
// over 89.
func appendYear(dst []byte, c Class, year int, thisYear int) []byte {
	if thisYear == 0 {
		thisYear = time.Now().UTC().Year()
	}
	switch {
	case thisYear-year <= 89:
		return strconv.AppendInt(dst, int64(year), 10)
	case c == DOB:
		return append(dst, over89...)
	}
	return append(dst, longAgo...)
}

const (
	over89  = "90+"
	longAgo = "90+ years ago"
)

// yearOf reads the year of a date in the forms of Go, FHIR R4, HL7 v2 and US
// paper forms.
func yearOf(text string) (int, bool) {
	text = strings.TrimSpace(text)
	for _, layout := range [...]string{
		time.DateOnly, "20060102", "2006", "2006-01", "200601021504", "20060102150405", "2006-01-02T15:04", time.DateTime,
	} {
		if len(layout) != len(text) {
			continue // these have one length
		}
		if t, err := time.Parse(layout, text); err == nil && t.Year() > 0 {
			return t.Year(), true
		}
	}
	for _, layout := range [...]string{
		time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "20060102150405-0700",
		"1/2/2006", "January 2, 2006", "2 January 2006", "Jan 2, 2006", "2 Jan 2006",
	} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() > 0 {
			return t.Year(), true
		}
	}
	return 0, false
}
