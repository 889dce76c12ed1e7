// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/part164/part164/minimize"
)

const (
	minPrefix = 2  // letters of a word that name search starts with; 1 of a script whose letters are words
	maxPrefix = 16 // longer beginnings find nothing more
	maxParts  = 32 // of a name, and words of a part
)

// Names have parts: "Mary Smith-Jones" has two, "Ada de la Cruz" too, since
// particles belong to what follows. A part of several words is indexed by each
// of them and by all of them joined.

// nameTerms are the terms of a name.
func nameTerms(name string) []term {
	var terms []term
	for i, part := range nameParts(name) {
		if full, ok := suffix(part, i); ok {
			terms = append(terms, term{minimize.SearchName, full})
			if full == part[0] {
				continue // whole only: "ii" is no beginning of "iii"
			}
		}
		for _, w := range wordsOf(part) {
			for _, v := range spellings(w) {
				runes := []rune(v)
				for n := minLetters(runes); n <= min(len(runes), maxPrefix); n++ {
					terms = append(terms, term{minimize.SearchName, string(runes[:n])})
				}
				for _, s := range soundsOf(v) {
					terms = append(terms, term{kindSound, s})
				}
			}
		}
	}
	return terms
}

// nameQuery says what the name of a record must have: for each part of the
// query words that begin with its words, or, with sound, sound like them. A
// word of one letter says nothing.
func nameQuery(query string, sound bool) node {
	var n node
	for i, part := range nameParts(query) {
		if full, ok := suffix(part, i); ok {
			leaf := node{terms: []term{{minimize.SearchName, full}}}
			if full != part[0] {
				leaf.terms = append(leaf.terms, wordTerms(part[0], false)...)
			}
			n.all = append(n.all, leaf)
			continue
		}
		var each node
		for _, w := range part {
			if terms := wordTerms(w, sound); len(terms) > 0 {
				each.all = append(each.all, node{terms: terms})
			}
		}
		joined := node{terms: wordTerms(strings.Join(part, ""), sound)}
		switch {
		case len(part) > 1 && len(each.all) > 0 && len(joined.terms) > 0:
			n.all = append(n.all, node{any: []node{each, joined}})
		case len(joined.terms) > 0:
			n.all = append(n.all, joined)
		}
	}
	return n
}

// wordTerms are the terms of which a record with the word has at least one.
func wordTerms(word string, sound bool) []term {
	var terms []term
	for _, v := range spellings(word) {
		runes := []rune(v)
		if len(runes) < minLetters(runes) {
			continue
		}
		terms = append(terms, term{minimize.SearchName, string(runes[:min(len(runes), maxPrefix)])})
		if sound {
			for _, s := range soundsOf(v) {
				terms = append(terms, term{kindSound, s})
			}
		}
	}
	return terms
}

// wordsOf are the words by which a part of a name is found.
func wordsOf(part []string) []string {
	if len(part) == 1 {
		return part
	}
	return append(slices.Clone(part), strings.Join(part, ""))
}

// minLetters is how many letters of a word a search needs: one tells enough in
// Han, Hangul and Kana.
func minLetters(word []rune) int {
	if len(word) > 0 && unicode.In(word[0], unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana) {
		return 1
	}
	return minPrefix
}

// suffix returns the usual form of a generational suffix, which is no part by
// itself and not the first.
func suffix(part []string, at int) (string, bool) {
	if len(part) != 1 || at == 0 {
		return "", false
	}
	switch w := part[0]; w {
	case "jr", "sr", "ii", "iii", "iv":
		return w, true
	case "junior", "jnr":
		return "jr", true
	case "senior", "snr":
		return "sr", true
	case "2nd":
		return "ii", true
	case "3rd":
		return "iii", true
	case "4th":
		return "iv", true
	}
	return "", false
}

// isParticle reports whether a word of a name belongs to what follows.
func isParticle(w string) bool {
	switch w {
	case "d", "l", "o", "de", "del", "della", "di", "da", "do", "dos", "das", "du", "des", "la", "le", "lo", "los", "las",
		"van", "von", "der", "den", "ten", "ter", "te", "zu", "zur", "af", "av",
		"al", "el", "bin", "ibn", "ben", "abu", "bint", "mac", "mc", "fitz", "ap", "st", "san", "santa":
		return true
	}
	return false
}

// nameParts splits a name into its parts, each of one or more words.
func nameParts(name string) [][]string {
	name = strings.ToLower(norm.NFKC.String(strings.Map(plainMark, name)))
	var parts [][]string
	for field := range strings.FieldsFuncSeq(name, func(r rune) bool { return !isName(r) && r != '-' && r != '\'' }) {
		if part := strings.FieldsFunc(field, func(r rune) bool { return !isName(r) }); len(part) > 0 {
			parts = append(parts, part[:min(len(part), maxParts)])
		}
		if len(parts) == maxParts {
			break
		}
	}
	for i := len(parts) - 2; i >= 0; i-- {
		if len(parts[i]) == 1 && isParticle(fold(parts[i][0])) && !isSuffix(parts[i+1], i+1) {
			parts[i] = append(parts[i], parts[i+1]...)
			parts = slices.Delete(parts, i+1, i+2)
		}
	}
	return parts
}

func isSuffix(part []string, at int) bool {
	_, ok := suffix(part, at)
	return ok
}

func isName(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) }

// plainMark turns every apostrophe and hyphen that people type into the plain
// one, and drops what is not seen.
func plainMark(r rune) rune {
	switch r {
	case '’', '‘', 'ʼ', 'ʻ', 'ʹ', '`', '´', '′', '＇':
		return '\''
	case '‐', '‑', '‒', '–', '—', '―', '−', '﹣', '－':
		return '-'
	}
	if unicode.Is(unicode.Cf, r) {
		return -1 // soft hyphens, joiners, marks of direction
	}
	return r
}

// fold returns a text in lower case and without the accents of letters.
func fold(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 0x0300 && r <= 0x036F || r >= 0x0591 && r <= 0x05C7 || r >= 0x064B && r <= 0x065F || r == 0x0670 {
			return -1 // accents, Hebrew points, Arabic vowel signs
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(s))
	return norm.NFKC.String(letters(s))
}

// letters writes the letters that no accent makes, as English does.
func letters(s string) string {
	return strings.NewReplacer("ß", "ss", "æ", "ae", "œ", "oe", "ø", "o", "đ", "d", "ð", "d", "ł", "l", "þ", "th", "ı", "i", "ħ", "h", "ŋ", "n").Replace(s)
}

// spellings are the folded word, and as German and the Nordic languages write it
// where a keyboard has no umlauts: Müller is found as muller and as mueller.
func spellings(word string) []string {
	plain := fold(word)
	long := fold(strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "ø", "oe", "å", "aa").Replace(norm.NFC.String(strings.ToLower(word))))
	if long == plain {
		return []string{plain}
	}
	return []string{plain, long}
}

// textWords are the words of a text, folded, each once.
func textWords(text string) []string {
	var out []string
	seen := map[string]bool{}
	for w := range strings.FieldsFuncSeq(strings.ReplaceAll(fold(strings.Map(plainMark, text)), "'", ""), func(r rune) bool { return !isName(r) }) {
		runes := []rune(w)
		if len(runes) >= minLetters(runes) && !seen[w] {
			seen[w] = true
			out = append(out, w)
		}
	}
	return out
}
