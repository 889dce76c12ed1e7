// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"
	"strings"
)

// maxSounds is how many codes of one word are indexed; only words with four
// places or more that can be read in two ways have more.
const maxSounds = 8

// soundsOf returns the Daitch-Mokotoff codes of a folded word: six digits each,
// several where letters can be read in two ways, none for a word without Latin
// letters. (Gary Mokotoff and Randy Daitch, 1985; the coding chart is published
// by JewishGen and Avotaynu.) It was chosen over Soundex, which keeps the first
// letter and knows English only, and over Double Metaphone, whose Go libraries
// are abandoned. It must stay as it is: a change would orphan the tokens that
// are stored.
func soundsOf(word string) []string {
	word = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, word)
	if word == "" {
		return nil
	}
	word = word[:min(len(word), 2*maxPrefix)] // six digits are full by then
	type reading struct{ code, last string }
	readings := []reading{{}}
	for at := 0; at < len(word); {
		rule, n := soundRule(word[at:])
		code := rule[2]
		switch next := at + n; {
		case at == 0:
			code = rule[0]
		case next < len(word) && strings.IndexByte("aeiou", word[next]) >= 0:
			code = rule[1]
		}
		var after []reading
		for _, r := range readings {
			for c := range strings.SplitSeq(code, "|") {
				longer := reading{r.code, c}
				if c != "" && !strings.HasSuffix(r.last, c) { // neighbours of one code are one sound
					longer.code += c
				}
				longer.code = longer.code[:min(len(longer.code), 6)]
				if !slices.Contains(after, longer) {
					after = append(after, longer)
				}
			}
		}
		readings = after
		at += n
	}
	var codes []string
	for _, r := range readings {
		if code := (r.code + "000000")[:6]; !slices.Contains(codes, code) && len(codes) < maxSounds {
			codes = append(codes, code)
		}
	}
	return codes
}

// soundRule returns the rule for the longest beginning of s that has one: the
// code at the start of a word, before a vowel, and elsewhere; and how many
// letters it is for. A bar separates two readings.
func soundRule(s string) (rule [3]string, letters int) {
	all := func(code string) [3]string { return [3]string{code, code, code} }
	for n := min(len(s), len("schtsch")); n > 0; n-- {
		switch s[:n] {
		case "schtsch", "schtsh", "schtch", "shtch", "shtsh", "stsch", "zhdzh", "shch", "stch", "strz", "strs", "stsh", "szcz", "szcs", "zdzh", "zdz", "sc":
			return [3]string{"2", "4", "4"}, n
		case "scht", "schd", "sht", "szt", "shd", "szd", "zhd", "st", "sd", "zd":
			return [3]string{"2", "43", "43"}, n
		case "ttsch", "ttch", "tsch", "ttsz", "zsch", "csz", "czs", "drz", "drs", "dsh", "dsz", "dzh", "dzs", "sch", "tch", "trz", "trs", "tsh", "tts", "ttz", "tzs", "tsz", "zsh",
			"cz", "cs", "ds", "dz", "sh", "sz", "ts", "tc", "tz", "zh", "zs", "s", "z":
			return all("4"), n
		case "chs", "ks", "x":
			return [3]string{"5", "54", "54"}, n
		case "ai", "aj", "ay", "ei", "ej", "ey", "oi", "oj", "oy", "ui", "uj", "uy", "ue":
			return [3]string{"0", "1", ""}, n
		case "au":
			return [3]string{"0", "7", ""}, n
		case "eu":
			return [3]string{"1", "1", ""}, n
		case "ia", "ie", "io", "iu", "y":
			return [3]string{"1", "", ""}, n
		case "a", "e", "i", "o", "u":
			return [3]string{"0", "", ""}, n
		case "dt", "th", "d", "t":
			return all("3"), n
		case "kh", "g", "k", "q":
			return all("5"), n
		case "h":
			return [3]string{"5", "5", ""}, n
		case "mn", "nm":
			return all("66"), n
		case "m", "n":
			return all("6"), n
		case "fb", "pf", "ph", "b", "f", "p", "v", "w":
			return all("7"), n
		case "l":
			return all("8"), n
		case "r":
			return all("9"), n
		case "rs", "rz":
			return all("4|94"), n
		case "ch", "c":
			return all("4|5"), n
		case "ck":
			return all("5|45"), n
		case "j":
			return [3]string{"1|4", "|4", "|4"}, n
		}
	}
	return rule, 1 // none: there is a rule for each letter
}
