// SPDX-License-Identifier: Apache-2.0

package storage

import "strings"

// words calls visit for each word of a SQL text in order: identifiers, quoted
// or not, numbers and keywords, in lower case, with their depth in
// parentheses. String literals and parameters are skipped. It reports whether
// the text is plain: balanced parentheses that never close what they did not
// open, no comment, no second statement, no quoting that databases read in
// different ways. A text that is not plain could end the brackets that storage
// puts around it.
func words(sql string, visit func(word string, depth int)) (plain bool) {
	return scan(sql, func(w string, depth, _ int) { visit(w, depth) })
}

// scan is words that also tells visit where the word ends.
func scan(sql string, visit func(word string, depth, end int)) (plain bool) {
	plain = true
	depth := 0
	for i := 0; i < len(sql); {
		c := sql[i]
		switch {
		case c == '\'':
			end := endQuote(sql, i)
			if end < 0 { // read on as if it were no quote: rather a word too many
				plain, end = false, i+1
			}
			i = end
		case c == '"' || c == '`':
			end := endQuote(sql, i)
			if end < 0 {
				plain = false
				i++
				continue
			}
			if c == '"' && i > 1 && sql[i-1] == '&' && sql[i-2]|0x20 == 'u' {
				plain = false // PostgreSQL's U&"..." can spell any name
				visit(escaped, depth, end)
			}
			visit(strings.ToLower(sql[i+1:end-1]), depth, end)
			i = end
		case c == '[': // an identifier in SQLite, a subscript in PostgreSQL
			i++
		case c == '(':
			depth++
			i++
		case c == ')':
			depth--
			if depth < 0 {
				plain = false
			}
			i++
		case c == ';', c == '-' && strings.HasPrefix(sql[i:], "--"), c == '/' && strings.HasPrefix(sql[i:], "/*"), c == '#':
			plain = false
			i++
		case c == '$' && dollarQuote(sql[i:]) != "":
			plain = false // a string in PostgreSQL, and no quote elsewhere; DO runs it
			i += len(dollarQuote(sql[i:]))
		case c == '$':
			for i++; i < len(sql) && sql[i] >= '0' && sql[i] <= '9'; i++ {
			}
		case isWord(c):
			j := i
			for j < len(sql) && isWord(sql[j]) {
				j++
			}
			visit(strings.ToLower(sql[i:j]), depth, j)
			i = j
		default:
			i++
		}
	}
	return plain && depth == 0
}

// escaped is visited in place of a name that is spelt with escapes.
const escaped = `u&""`

// endQuote returns the index behind the quoted text that starts at i, -1 if it
// does not end. A doubled quote stands for itself.
func endQuote(sql string, i int) int {
	q := sql[i]
	for j := i + 1; j < len(sql); j++ {
		switch {
		case sql[j] == '\\':
			return -1 // an escape in MariaDB and none in PostgreSQL: do not guess
		case sql[j] != q:
		case j+1 < len(sql) && sql[j+1] == q:
			j++
		default:
			return j + 1
		}
	}
	return -1
}

// dollarQuote returns PostgreSQL's opening $tag$, or "" ($1 is a parameter).
func dollarQuote(s string) string {
	for j := 1; j < len(s); j++ {
		if s[j] == '$' {
			return s[:j+1]
		}
		if !isWord(s[j]) || j == 1 && s[j] >= '0' && s[j] <= '9' {
			return ""
		}
	}
	return ""
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
