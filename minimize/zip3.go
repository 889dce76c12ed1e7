// SPDX-License-Identifier: Apache-2.0

package minimize

// ZIP3 returns the first three digits of a US ZIP code, or "000" where the
// area of all ZIP codes with these digits has 20,000 people or fewer, as 45
// CFR 164.514(b)(2)(i)(B) asks, and for whatever is no US ZIP code of 5 or 9
// digits.
//
// The list is the union, 19 prefixes, of
//   - the 17 of the Census 2000 that the HHS guidance on de-identification
//     (2012) prints: 036 059 063 102 203 556 692 790 821 823 830 831 878 879
//     884 890 893;
//   - the 14 counted from the Census 2010 in the sample configuration of
//     Microsoft's Tools for Health Data Anonymization: 036 059 102 203 205 369
//     556 692 821 823 878 879 884 893;
//
// and the prefixes without residents of their own: 000 to 004, and the
// military 090 to 098, 340 and 962 to 966. The rule speaks of the current
// census and no such list of 2020 was found: check yours before an export.
func ZIP3(zip string) string {
	var d [9]byte
	n := 0
	for i := range len(zip) {
		switch c := zip[i]; {
		case c >= '0' && c <= '9' && n < len(d):
			d[n] = c
			n++
		case c == ' ', c == '-' && n == 5:
		default:
			return "000"
		}
	}
	if n != 5 && n != 9 {
		return "000"
	}
	switch p := string(d[:3]); p {
	case "036", "059", "063", "102", "203", "205", "369", "556", "692", "790",
		"821", "823", "830", "831", "878", "879", "884", "890", "893",
		"000", "001", "002", "003", "004",
		"090", "091", "092", "093", "094", "095", "096", "097", "098", "340",
		"962", "963", "964", "965", "966":
		return "000"
	default:
		return p
	}
}
