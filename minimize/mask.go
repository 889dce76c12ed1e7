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
	b, ok := appendView(nil, v, c, text, time.Now())
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
		switch c {
		case Name, SSN, Phone, Fax, Email, MRN, Plan, Account, License, Vehicle, Device, UID:
			return true
		}
	case Generalise:
		switch c {
		case DOB, Date, Age, ZIP:
			return true
		}
	}
	return false
}

// appendView appends what v shows of text. It reports false, having appended
// nothing, where that is nothing.
func appendView(dst []byte, v View, c Class, text string, now time.Time) ([]byte, bool) {
	switch {
	case v == Withhold || !c.Valid() || !v.fits(c):
		return dst, false
	case v == Reveal:
		return append(dst, text...), true
	case text == "":
		return dst, true
	case v == Mask:
		return appendMask(dst, c, text), true
	case v == Generalise:
		return appendGeneral(dst, c, text, now)
	}
	return dst, false
}

// stars stands for what a mask hides. It does not tell how much that is.
const stars = "***"

func appendMask(dst []byte, c Class, text string) []byte {
	switch c {
	case Name:
		i := 0
		for word := range strings.FieldsSeq(text) {
			if i++; i > 1 {
				dst = append(dst, ' ')
			}
			dst = append(appendInitial(dst, word), stars...)
		}
		if i > 0 {
			return dst
		}
	case Email:
		local, domain, ok := strings.Cut(text, "@")
		dot := strings.LastIndexByte(domain, '.')
		if !ok || dot < 0 {
			return append(dst, stars...)
		}
		dst = append(appendInitial(dst, local), stars+"@"...)
		dst = append(appendInitial(dst, domain[:dot]), stars...)
		return append(dst, domain[dot:]...)
	case SSN:
		if n, other := count(text, isDigit); n == 9 && !other {
			return appendLast(append(dst, "***-**-"...), text, 4, isDigit)
		}
	case Phone, Fax:
		switch n, _ := count(text, isDigit); {
		case n >= 10:
			return appendLast(append(dst, "***-***-"...), text, 4, isDigit)
		case n >= 7:
			return appendLast(append(dst, "***-**"...), text, 2, isDigit)
		}
	case MRN:
		if n, _ := count(text, isAlnum); n >= 7 {
			return appendLast(append(dst, stars...), text, 3, isAlnum)
		}
	default:
		if n, _ := count(text, isAlnum); n >= 9 {
			return appendLast(append(dst, stars...), text, 4, isAlnum)
		}
	}
	return append(dst, stars...)
}

// appendInitial appends the first letter of a word that has at least 3.
func appendInitial(dst []byte, word string) []byte {
	if n, _ := count(word, unicode.IsLetter); n < 3 {
		return dst
	}
	if r, _ := utf8.DecodeRuneInString(word); unicode.IsLetter(r) {
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

// appendLast appends the last n characters of text that are of a kind.
func appendLast(dst []byte, text string, n int, is func(rune) bool) []byte {
	at := len(text)
	for at > 0 && n > 0 {
		r, size := utf8.DecodeLastRuneInString(text[:at])
		at -= size
		if is(r) {
			n--
		}
	}
	for _, r := range text[at:] {
		if is(r) {
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}

// count returns how many characters of text are of a kind, and whether it has
// other letters or digits.
func count(text string, is func(rune) bool) (n int, other bool) {
	for _, r := range text {
		switch {
		case r == utf8.RuneError:
			other = true
		case is(r):
			n++
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			other = true
		}
	}
	return n, other
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

func isAlnum(r rune) bool { return isDigit(r) || r|0x20 >= 'a' && r|0x20 <= 'z' }

func appendGeneral(dst []byte, c Class, text string, now time.Time) ([]byte, bool) {
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
		switch {
		case !ok:
			return dst, false
		case now.UTC().Year()-year <= 89:
			return strconv.AppendInt(dst, int64(year), 10), true
		case c == DOB:
			return append(dst, over89...), true
		}
		return append(dst, longAgo...), true
	}
	return dst, false
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
		time.DateOnly, time.RFC3339Nano, "2006-01-02 15:04:05Z07:00", time.DateTime, "2006-01-02T15:04:05", "2006-01-02T15:04",
		"2006-01", "2006", "20060102", "200601021504", "20060102150405", "20060102150405-0700",
		"1/2/2006", "January 2, 2006", "2 January 2006", "Jan 2, 2006", "2 Jan 2006",
	} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() > 0 {
			return t.Year(), true
		}
	}
	return 0, false
}
