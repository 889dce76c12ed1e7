// SPDX-License-Identifier: Apache-2.0

package audit

import "strings"

// isCitation reports whether s is a provision of the rules that this module
// serves, 45 CFR 160, 162 and 164 and 42 CFR 2, and of nothing else: a part, a
// section, and paragraphs as 1 CFR 21.11 orders them, such as
// "164.312(a)(2)(iv)". A definition has no paragraph with a letter:
// "164.402(1)(i)".
func isCitation(s string) bool {
	section, paragraphs, _ := strings.Cut(s, "(")
	part, number, _ := strings.Cut(section, ".")
	switch part {
	case "160", "162", "164":
		if len(number) < 3 || !isNumber(number, 1999) {
			return false
		}
	case "2":
		if !isNumber(number, 99) {
			return false
		}
	default:
		return false
	}
	if paragraphs == "" {
		return section == s
	}
	levels := [...]func(string) bool{isLetter('a'), upTo99, isRoman, isLetter('A'), upTo99, isRoman}
	level := 0
	if c := paragraphs[0]; c >= '1' && c <= '9' {
		level = 1
	}
	text, whole := strings.CutSuffix(paragraphs, ")")
	if !whole {
		return false
	}
	for _, p := range strings.Split(text, ")(") {
		if level == len(levels) || !levels[level](p) {
			return false
		}
		level++
	}
	return true
}

func isNumber(s string, most int) bool {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || len(s) > 4 || s[0] == '0' {
			return false
		}
		n = 10*n + int(s[i]-'0')
	}
	return n > 0 && n <= most
}

func upTo99(s string) bool { return isNumber(s, 99) }

// isLetter is of one letter, or of the same twice: after z comes aa.
func isLetter(first byte) func(string) bool {
	return func(s string) bool {
		return (len(s) == 1 || len(s) == 2 && s[0] == s[1]) && s[0] >= first && s[0] < first+26
	}
}

// isRoman is of i to xxxix.
func isRoman(s string) bool {
	ones := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(s, "x"), "x"), "x")
	switch ones {
	case "", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix":
		return s != ""
	}
	return false
}

// isEventID reports whether s is the ID of an event of a journal: its writer, a
// dot and its sequence.
func isEventID(s string) bool {
	writer, seq, ok := strings.Cut(s, ".")
	return ok && isWriter(writer) && (seq == "0" || isSequence(seq))
}

// isWriter reports whether s is what newKeys makes.
func isWriter(s string) bool {
	id, ok := strings.CutPrefix(s, "j")
	return ok && len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}

func isSequence(s string) bool {
	return s != "" && len(s) <= 20 && s[0] != '0' && strings.Trim(s, "0123456789") == ""
}
