// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"strings"
	"testing"
)

// A citation is a provision, and no text of a caller's.
func TestACitationIsAProvision(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"164.312", "164.312(b)", "164.312(a)(2)(iv)", "164.514(b)(2)(i)(B)(1)", "164.514(b)(2)(i)(B)(1)(ii)", "164.528(a)(1)(ix)",
		"160.103", "164.402(1)(i)", "164.402(2)", "162.1902(b)(1)", "2.31(a)(4)(ii)", "164.308(aa)(12)(xxxix)(R)", "164.512(k)(2)",
	} {
		if !isCitation(good) {
			t.Errorf("%s is refused", good)
		}
	}
	for _, bad := range []string{
		"", "x", "164", "164.", ".312", "164.31", "164.0312", "164.2000", "164.12345", "164.312.1", "165.312", "1.1", "2.100", "2.0", "02.31",
		"1.1(Jane)(Roe)(HIV)", "617.555(0199)", "78.5(1120)", "164.312(Jane)", "164.312(a)(Roe)", "164.312(ab)", "164.312(a)(2)(iv)(HIV)",
		"164.312(a)(100)", "164.312(a)(01)", "164.312(a)(0)", "164.312(a)(b)", "164.312(1)(2)", "164.312(A)", "164.312(i)(i)", "164.312(a)(2)(iiii)",
		"164.312(a)(2)(xxxx)", "164.312(a)(2)(iv)(A)(1)(i)(a)", "164.312(", "164.312()", "164.312(a", "164.312(a))", "164.312((a)", "164.312(a)x",
		"164.312x(a)", "164.312(a)()", "164.312 (a)", "164.312(a)(2)(iv)(A)(1)(i)(078)", "164.312(a)(2)\n", "45 CFR 164.312", "164.312(a)-(c)",
	} {
		if isCitation(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestAnEventIDIsOfAJournal(t *testing.T) {
	t.Parallel()
	const writer = "j0123456789abcdef0123456789abcdef"
	for _, good := range []string{writer + ".0", writer + ".17", eventID(writer, 1<<64-1)} {
		if !isEventID(good) {
			t.Errorf("%s is refused", good)
		}
	}
	for _, bad := range []string{"", ".", "1", writer, writer + ".", writer + ".017", writer + ".-1", writer + ".1.2", writer + ".184467440737095516150",
		strings.ToUpper(writer) + ".1", writer[1:] + ".1", "x" + writer[1:] + ".1", writer + "0.1", writer + ".1\n", "Jane-Roe-1980", "j6175550199.1"} {
		if isEventID(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzCitation(f *testing.F) {
	for _, s := range []string{"164.312(a)(2)(iv)", "2.31", "617.555(0199)", "164.(", "164.402(1)(i)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !isCitation(s) {
			return
		}
		// However long: at most a section and six paragraphs, of no word.
		if len(s) > len("164.1999(aa)(99)(xxxviii)(AA)(99)(xxxviii)") || strings.Trim(s, "0123456789.()abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			t.Errorf("%q is taken", s)
		}
	})
}
