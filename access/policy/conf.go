// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// byteOrderMark is what some editors begin a file with. Casbin takes it for a part
// of the first word.
const byteOrderMark = "\ufeff"

var errMark = errors.New("line 1 begins with a byte order mark, which Casbin reads as a part of the first word: save the file as UTF-8 without it")

// unparsed says what Casbin's parser could not read, without the text.
func unparsed(err error) error {
	line, ok := strings.CutPrefix(err.Error(), "parse the content error : line ")
	if !ok {
		return err
	}
	line, _, _ = strings.Cut(line, " ")
	return fmt.Errorf("line %s is neither a section, such as [matchers], nor a definition, such as r = sub, obj, act: is it a model.conf?", line)
}

// inMatcher says what govaluate could not read of a matcher.
func inMatcher(err error) error {
	switch name, ok := strings.CutPrefix(err.Error(), "Undefined function "); {
	case ok:
		return fmt.Errorf("matcher: the function %s is none of Casbin's: one that a program adds cannot be read from a file", name)
	case err.Error() == "Invalid token: '='":
		return errors.New("matcher: a single = compares nothing: write ==")
	}
	return fmt.Errorf("matcher: %w", err)
}

// named lists the fields of a definition of rows.
func (m *model) named(key string) string {
	if key != "p" {
		return ""
	}
	return ": " + strings.Join(m.policy, ", ")
}

// A Model is what a model.conf says, as Casbin reads it.
type Model struct {
	Sections map[string][]string // the definitions of each section: "g": g, g2
	Request  []string            // the fields of request_definition: sub, obj, act
	Policy   []string            // the fields of policy_definition
	Links    map[string]string   // each role_definition: "g": "_, _"
	Effect   string              // policy_effect: "some(where (p.eft == allow))"
	Terms    []string            // the matcher, parted at the && outside brackets
}

// ReadModel reads a model.conf with Casbin's own parser. It judges nothing:
// [Compile] does.
func ReadModel(text string) (Model, error) {
	m, err := readModel(text)
	if err != nil {
		return Model{}, fmt.Errorf("policy: read model: %w", err)
	}
	out := Model{
		Sections: maps.Clone(m.sections),
		Request:  slices.Clone(m.request),
		Policy:   slices.Clone(m.policy),
		Links:    maps.Clone(m.links),
		Effect:   strings.ReplaceAll(string(m.effect), "p_", "p."),
	}
	for _, t := range m.terms {
		out.Terms = append(out.Terms, t.text)
	}
	return out, nil
}
