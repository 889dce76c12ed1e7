// SPDX-License-Identifier: Apache-2.0

package audittest_test

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/part164/part164/audit/audittest"
)

func TestSearcherFindsEveryEncoding(t *testing.T) {
	t.Parallel()
	const needle = "Jané Roe?~"
	utf := func(big bool) string {
		var b []byte
		for _, u := range utf16.Encode([]rune(needle)) {
			if big {
				b = append(b, byte(u>>8), byte(u))
			} else {
				b = append(b, byte(u), byte(u>>8))
			}
		}
		return string(b)
	}
	forms := map[string]string{
		"utf-8": needle, "utf-16le": utf(false), "utf-16be": utf(true),
		"hex": hex.EncodeToString([]byte(needle)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(needle))),
	}
	for align := range 3 {
		for suffix := range 3 {
			text := strings.Repeat("\xff", align) + needle + strings.Repeat("\xff", suffix)
			key := string(rune('0'+align)) + string(rune('0'+suffix))
			forms["std"+key] = base64.StdEncoding.EncodeToString([]byte(text))
			forms["url"+key] = base64.RawURLEncoding.EncodeToString([]byte(text))
		}
	}
	s := audittest.NewSearcher("absent", needle)
	for name, form := range forms {
		leaks := s.Search([]byte("some text before, " + form + ", and after"))
		if len(leaks) == 0 {
			t.Errorf("%s: not found", name)
			continue
		}
		if leaks[0].Needle != needle {
			t.Errorf("%s: found %v", name, leaks[0])
		}
	}
	if leaks := s.Search([]byte("Jane Roe and others: nothing here")); len(leaks) != 0 {
		t.Errorf("found %v where there is nothing", leaks)
	}
}

func TestSearcherShortNeedles(t *testing.T) {
	t.Parallel()
	for _, n := range []string{"a", "ab", "abc"} {
		if leaks := audittest.NewSearcher(n, "").Search([]byte("xx" + n)); len(leaks) == 0 || leaks[0].Offset != 2 {
			t.Errorf("%q: %v", n, leaks)
		}
	}
}
