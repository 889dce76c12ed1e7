// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/casbin/casbin/v2/util"
)

// matchers are Casbin's functions that compare a request's field with a
// pattern in a row's.
var matchers = map[string]func(value, pattern string) (bool, error){
	"keyMatch":   func(v, p string) (bool, error) { return util.KeyMatch(v, p), nil },
	"keyMatch2":  func(v, p string) (bool, error) { return util.KeyMatch2(v, p), nil },
	"keyMatch3":  func(v, p string) (bool, error) { return util.KeyMatch3(v, p), nil },
	"keyMatch4":  func(v, p string) (bool, error) { return util.KeyMatch4(v, p), nil },
	"keyMatch5":  func(v, p string) (bool, error) { return util.KeyMatch5(v, p), nil },
	"regexMatch": func(v, p string) (bool, error) { return util.RegexMatch(v, p), nil },
	"ipMatch":    func(v, p string) (bool, error) { return util.IPMatch(v, p), nil },
	"globMatch":  util.GlobMatch,
}

// refusePattern says how a pattern could match more than it seems to.
func refusePattern(function, p string) (kind, why string) {
	switch function {
	case "regexMatch":
		re, err := syntax.Parse(p, syntax.Perl)
		if err != nil {
			return "pattern", "is no regular expression of Go's regexp/syntax"
		}
		if !anchored(re) {
			return "unanchored", "is not anchored, so it matches a part of a value too: write ^(?:...)$ around the whole"
		}
	case "ipMatch":
		if !readable(function, p) {
			return "pattern", "is neither an address nor a range such as 10.1.0.0/16"
		}
		if ip, n, err := net.ParseCIDR(p); err == nil && !ip.Equal(n.IP) {
			return "pattern", "is a range with bits set behind its prefix, and Casbin takes the whole range: write " + n.String()
		}
	case "keyMatch":
		if i := strings.IndexByte(p, '*'); i >= 0 && i != len(p)-1 {
			return "mid-pattern", "has characters after the *, which keyMatch does not compare: keep one * at the end, or use keyMatch2 with :id"
		} else if i > 0 && p[i-1] != '/' && strings.Contains(p, "/") {
			return "mid-pattern", "has a * in the middle of a name, so /patients* matches /patientsX too: write /patients and /patients/*"
		}
	case "globMatch":
		if !readable(function, p) {
			return "pattern", "is no glob pattern"
		}
	case "keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5":
		return refuseSegments(function, p)
	}
	return "", ""
}

// anchored reports whether re matches whole values only.
func anchored(re *syntax.Regexp) bool {
	return re.Op == syntax.OpConcat && len(re.Sub) >= 2 && re.Sub[0].Op == syntax.OpBeginText && re.Sub[len(re.Sub)-1].Op == syntax.OpEndText
}

// refuseSegments takes paths whose segments are names, one :id or {id}, and one
// * at the end. Casbin makes a regular expression of the text, in which a dot
// matches any character, :id.pdf any name, and * any number of segments.
func refuseSegments(function, p string) (kind, why string) {
	segments := strings.Split(p, "/")
	for i, s := range segments {
		if s == "*" {
			if i != len(segments)-1 || i == 0 {
				return "mid-pattern", "has a segment * that is not the last, and matches any number of segments: write a named segment"
			}
			continue
		}
		name, named := strings.CutPrefix(s, ":")
		if function != "keyMatch2" {
			if name, named = strings.CutPrefix(s, "{"); named {
				name, named = strings.CutSuffix(name, "}")
			}
		}
		if named && name == "" || strings.IndexFunc(name, func(c rune) bool {
			return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
		}) >= 0 {
			return "pattern", "has a segment that " + function + " reads as a regular expression, so that . matches any character: use letters, digits, - and _, a whole named segment, or * as the last"
		}
	}
	return "", ""
}

// readable reports whether Casbin can read a pattern.
func readable(function, p string) bool {
	switch function {
	case "ipMatch":
		_, _, err := net.ParseCIDR(p)
		return err == nil || net.ParseIP(p) != nil
	case "globMatch":
		_, err := util.GlobMatch("", p)
		return err == nil
	case "keyMatch":
		return true
	}
	re, err := regexp.Compile(expressionOf(function, p))
	return err == nil && (function != "keyMatch4" || re.NumSubexp() == strings.Count(expressionOf(function, p), "([^/]+)"))
}

var (
	colonName = regexp.MustCompile(`:[^/]+`)
	braceName = regexp.MustCompile(`\{[^/]+\}`)
)

// expressionOf is the regular expression that a pattern stands for in Casbin.
func expressionOf(function, pattern string) string {
	if function == "regexMatch" {
		return pattern
	}
	name, with := braceName, "[^/]+"
	switch function {
	case "keyMatch2":
		name = colonName
	case "keyMatch4":
		with = "([^/]+)"
	}
	return "^" + name.ReplaceAllLiteralString(strings.ReplaceAll(pattern, "/*", "/.*"), with) + "$"
}
