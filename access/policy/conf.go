// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

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
