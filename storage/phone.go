// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"regexp"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// phoneOf returns a telephone number as E.164 has it, and whether it is one.
//
//   - After + or an access code (00, 011) stands a country code.
//   - Ten digits are a number of the North American plan, with or without a 1
//     before them; letters on its keys are read as digits.
//   - A trunk zero in brackets, as in +44 (0)20, is left out.
//   - Seven digits are a local number without its area: they equal only
//     themselves.
//   - An extension is left out: who searches a number finds all behind it.
//
// A library of national numbering plans was rejected: its tables change with
// each release, and a number that is read in another way orphans its tokens.
func phoneOf(s string) (string, bool) {
	s = strings.ToLower(strings.TrimSpace(strings.Map(plainMark, norm.NFKC.String(s))))
	s = strings.TrimPrefix(s, "tel:")
	s = strings.TrimSpace(extension.ReplaceAllString(s, ""))
	international := strings.HasPrefix(s, "+")
	if international {
		s = strings.Replace(s, "(0)", "", 1)
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r >= '0' && r <= '9':
			b.WriteRune(r)
		case r >= 'a' && r <= 'z' && !international && b.Len() > 0:
			b.WriteByte("22233344455566677778889999"[r-'a'])
		case r == '+' && i == 0, strings.ContainsRune(" -.()/\u00b7", r):
		default:
			return "", false
		}
	}
	n := b.String()
	switch {
	case international:
	case strings.HasPrefix(n, "011") && len(n) > 10:
		n, international = n[3:], true
	case strings.HasPrefix(n, "00") && len(n) > 9:
		n, international = n[2:], true
	case len(n) == 10 && n[0] >= '2':
		n, international = "1"+n, true
	case len(n) == 11 && n[0] == '1' && n[1] >= '2':
		international = true
	case len(n) == 7:
		return n, true
	}
	// E.164, 6.2.1: at most 15 digits; no country code begins with 0.
	if !international || len(n) < 7 || len(n) > 15 || n[0] == '0' {
		return "", false
	}
	return "+" + n, true
}

var extension = regexp.MustCompile(`(?:[\s,;]*(?:ext(?:ension)?|x|#)|;ext=)[\s.:=]*[0-9]{1,7}\s*$`)
