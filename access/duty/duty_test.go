// SPDX-License-Identifier: Apache-2.0

package duty_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/duty"
	"github.com/part164/part164/access/duty/dutytest"
	"github.com/part164/part164/access/pdp"
)

var _ pdp.Duties = (*duty.Separation)(nil)

func TestMemoryKeepsTheContract(t *testing.T) {
	t.Parallel()
	dutytest.TestActs(t, []string{"note", "claim"}, []string{"r-1", "r-2", "r-3"}, func(*testing.T) (duty.Acts, dutytest.Did) {
		m := new(duty.Memory)
		return m, func(_ *testing.T, tenant, principal string, action access.Action, resourceType, record string) {
			m.Did(tenant, principal, action, resourceType, record)
		}
	})
}

// world is who has which role.
type world struct {
	assigned, elevated map[string][]string
	err                error
}

func (w *world) config() duty.Config {
	return duty.Config{
		Exclusive: []duty.Exclusion{
			{Name: "policy", Roles: []string{"policy-author", "policy-approver"}},
			{Name: "money", Roles: []string{"billing", "posting", "refunds"}, Max: 2},
		},
		Sessions: []duty.Exclusion{{Name: "hats", Roles: []string{"physician", "coder"}}},
		Limits:   []duty.Limit{{Role: "security-officer", Max: 2}},
		Needs:    []duty.Prerequisite{{Role: "charge-nurse", Needs: []string{"nurse"}}},
		Records: []duty.Sequence{
			{Type: "claim", Action: "approve", After: []access.Action{access.Create, access.Update}},
			{Action: "countersign", After: []access.Action{"sign"}},
		},
		Acts:     new(duty.Memory),
		Assigned: func(_ context.Context, _, p string) ([]string, error) { return w.assigned[p], w.err },
		Elevated: func(_ context.Context, _, p string) ([]string, error) { return w.elevated[p], w.err },
		Holders: func(_ context.Context, _, role string) (out []string, err error) {
			for _, m := range []map[string][]string{w.assigned, w.elevated} {
				for p, roles := range m {
					for _, r := range roles {
						if r == role {
							out = append(out, p)
						}
					}
				}
			}
			return out, w.err
		},
	}
}

func separation(t *testing.T, cfg duty.Config) *duty.Separation {
	t.Helper()
	s, err := duty.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRolesThatNobodyHoldsTogether(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		assigned, elevated []string // of u-1, before
		assign, elevate    []string // one of them
		want               string   // the rule; empty where it is allowed
	}{
		"one of two":                       {assign: []string{"policy-author"}},
		"both by the policy":               {assign: []string{"policy-author", "policy-approver"}, want: "policy"},
		"one by a grant, one assigned":     {elevated: []string{"policy-author"}, assign: []string{"policy-approver"}, want: "policy"},
		"one assigned, one by a grant":     {assigned: []string{"policy-author"}, elevate: []string{"policy-approver"}, want: "policy"},
		"both by grants":                   {elevate: []string{"policy-author", "policy-approver"}, want: "policy"},
		"the same by both":                 {assigned: []string{"policy-author"}, elevate: []string{"policy-author"}},
		"two of three":                     {assigned: []string{"billing"}, elevate: []string{"posting"}},
		"three of three":                   {assigned: []string{"billing", "posting"}, elevate: []string{"refunds"}, want: "money"},
		"without what it needs":            {assign: []string{"charge-nurse"}, want: "charge-nurse"},
		"with what it needs":               {assigned: []string{"nurse"}, elevate: []string{"charge-nurse"}},
		"what it needs by a grant":         {elevated: []string{"nurse"}, assign: []string{"charge-nurse"}},
		"one more than may hold it":        {elevate: []string{"security-officer"}, want: "security-officer"},
		"who holds it already":             {assigned: []string{"security-officer"}, elevate: []string{"security-officer"}, want: "security-officer"},
		"what only a session keeps apart":  {assign: []string{"physician", "coder"}},
		"what nobody says anything of":     {assign: []string{"nurse", "physician"}, elevated: []string{"records-clerk"}},
		"another case is another role":     {assign: []string{"policy-author", "Policy-Approver"}},
		"nothing at all":                   {},
		"a role twice is one":              {assign: []string{"policy-author", "policy-author"}},
		"a limit is of those who hold it":  {assign: []string{"nurse"}},
		"an elevated one counts for limit": {assign: []string{"security-officer"}, want: "security-officer"},
	} {
		w := &world{assigned: map[string][]string{"u-1": tt.assigned, "u-8": {"security-officer"}}, elevated: map[string][]string{"u-1": tt.elevated, "u-9": {"security-officer"}}}
		s := separation(t, w.config())
		err := s.Elevate(t.Context(), "t-1", "u-1", tt.elevate)
		if tt.elevate == nil {
			err = s.Assign(t.Context(), "t-1", "u-1", tt.assign)
		}
		var conflict *duty.ConflictError
		if errors.As(err, &conflict) != (tt.want != "") || errors.Is(err, duty.ErrConflict) != (tt.want != "") || conflict != nil && conflict.Rule != tt.want {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		w.err = errors.New("down")
		if s.Assign(t.Context(), "t-1", "u-1", nil) == nil || s.Elevate(t.Context(), "t-1", "u-1", nil) == nil {
			t.Errorf("%s: given while nobody can tell", name)
		}
	}
	// Who holds it is not one more.
	w := &world{assigned: map[string][]string{"u-1": {"security-officer"}, "u-8": {"security-officer"}}}
	if err := separation(t, w.config()).Elevate(t.Context(), "t-1", "u-1", []string{"security-officer"}); err != nil {
		t.Error(err)
	}
}

func TestRolesOfOneSession(t *testing.T) {
	t.Parallel()
	s := separation(t, new(world).config())
	who := access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"physician", "coder", "nurse"}}
	now := time.Now()
	if all, _, err := s.Conflicting(t.Context(), who, access.Read, "claim", now); err != nil || !all {
		t.Errorf("in both at once: %v, %v", all, err)
	}
	for _, roles := range [][]string{{"physician", "nurse"}, {"coder"}, {}} {
		p, err := s.Activate(who, roles...)
		if err != nil || len(p.Roles) != len(roles) || p.ID != who.ID {
			t.Errorf("in %v: %v, %v", roles, p.Roles, err)
		}
		if all, _, err := s.Conflicting(t.Context(), p, access.Read, "claim", now); err != nil || all {
			t.Errorf("in %v: %v, %v", roles, all, err)
		}
	}
	for _, roles := range [][]string{{"physician", "coder"}, {"admin"}, {"physician", ""}} {
		if p, err := s.Activate(who, roles...); err == nil || p.ID != "" {
			t.Errorf("in %v: %+v", roles, p)
		}
	}
	// Roles that nobody may hold do not work either, however they came about.
	who.Roles = []string{"policy-author", "policy-approver"}
	if all, _, err := s.Conflicting(t.Context(), who, access.Read, "claim", now); err != nil || !all {
		t.Errorf("in roles that exclude each other: %v, %v", all, err)
	}
	if _, err := s.Activate(who, "policy-author", "policy-approver"); !errors.Is(err, duty.ErrConflict) {
		t.Error(err)
	}
}

func TestWhoMakesDoesNotCheck(t *testing.T) {
	t.Parallel()
	cfg := new(world).config()
	acts := cfg.Acts.(*duty.Memory)
	s := separation(t, cfg)
	acts.Did("t-1", "u-1", access.Create, "claim", "r-1")
	acts.Did("t-1", "u-2", access.Update, "claim", "r-1")
	acts.Did("t-1", "u-1", "sign", "note", "r-1")
	acts.Did("t-1", "u-1", access.Read, "claim", "r-2")
	for name, tt := range map[string]struct {
		who    access.Principal
		action access.Action
		typ    string
		want   []bool // of r-1 and r-2
	}{
		"who made it":             {access.Principal{ID: "u-1"}, "approve", "claim", []bool{true, false}},
		"who changed it":          {access.Principal{ID: "u-2"}, "approve", "claim", []bool{true, false}},
		"who did nothing to it":   {access.Principal{ID: "u-3"}, "approve", "claim", []bool{false, false}},
		"for who made it":         {access.Principal{ID: "u-3", OnBehalf: "u-1", OnBehalfKind: access.Human}, "approve", "claim", []bool{true, false}},
		"another action":          {access.Principal{ID: "u-1"}, access.Read, "claim", nil},
		"another type":            {access.Principal{ID: "u-1"}, "approve", "note", nil},
		"a rule of every type":    {access.Principal{ID: "u-1"}, "countersign", "note", []bool{true, false}},
		"of another type's sheet": {access.Principal{ID: "u-1"}, "countersign", "claim", []bool{false, false}},
	} {
		all, set, err := s.Conflicting(t.Context(), tt.who, tt.action, tt.typ, time.Now())
		if err != nil || all || (set != nil) != (tt.want != nil) {
			t.Errorf("%s: %v, %v, %v", name, all, set, err)
			continue
		}
		if set == nil {
			continue
		}
		got, err := set.Has(t.Context(), "t-1", []string{"r-1", "r-2"})
		if err != nil || got[0] != tt.want[0] || got[1] != tt.want[1] {
			t.Errorf("%s: %v, %v, want %v", name, got, err, tt.want)
		}
		if got, err := set.Has(t.Context(), "t-2", []string{"r-1", "r-2"}); err != nil || got[0] || got[1] {
			t.Errorf("%s: in another tenant: %v, %v", name, got, err)
		}
	}
}

func TestTheZeroSeparationDenies(t *testing.T) {
	t.Parallel()
	for _, s := range []*duty.Separation{nil, {}} {
		if s.Assign(t.Context(), "t-1", "u-1", nil) == nil || s.Elevate(t.Context(), "t-1", "u-1", nil) == nil {
			t.Error("it gives roles")
		}
		if all, _, err := s.Conflicting(t.Context(), access.Principal{}, access.Read, "note", time.Now()); err == nil || !all {
			t.Error("it lets somebody act")
		}
		if _, err := s.Activate(access.Principal{}); err == nil {
			t.Error("it activates")
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*duty.Config){
		"Config.Acts":                func(c *duty.Config) { c.Acts = nil },
		"Config.Assigned":            func(c *duty.Config) { c.Assigned = nil },
		"Config.Elevated":            func(c *duty.Config) { c.Elevated = nil },
		"Config.Holders":             func(c *duty.Config) { c.Holders = nil },
		"Config.Exclusive[0].Max":    func(c *duty.Config) { c.Exclusive[0].Max = 2 },
		"Config.Exclusive[1].Max":    func(c *duty.Config) { c.Exclusive[1].Max = -1 },
		"Config.Exclusive[0].Name":   func(c *duty.Config) { c.Exclusive[0].Name = "Jane's" },
		"Config.Exclusive[0].Roles":  func(c *duty.Config) { c.Exclusive[0].Roles = []string{"a", "a"} },
		"Config.Exclusive[1].Roles":  func(c *duty.Config) { c.Exclusive[1].Roles = []string{"a", "b", "Jane Roe"} },
		"Config.Sessions[0].Max":     func(c *duty.Config) { c.Sessions[0].Roles = []string{"physician"} },
		"Config.Limits[0].Max":       func(c *duty.Config) { c.Limits[0].Max = 0 },
		"Config.Limits[0].Role":      func(c *duty.Config) { c.Limits[0].Role = "" },
		"Config.Needs[0].Needs":      func(c *duty.Config) { c.Needs[0].Needs = nil },
		"Config.Needs[0]":            func(c *duty.Config) { c.Needs[0].Needs = []string{""} },
		"Config.Records[0].After":    func(c *duty.Config) { c.Records[0].After = nil },
		"Config.Records[0].Type":     func(c *duty.Config) { c.Records[0].Type = "a claim" },
		"Config.Records[1]":          func(c *duty.Config) { c.Records[1].Action = "" },
		"Config says of nothing":     func(c *duty.Config) { *c = duty.Config{} },
		"Config.Records[0] has an a": func(c *duty.Config) { c.Records[0].After = []access.Action{""} },
	} {
		cfg := new(world).config()
		change(&cfg)
		if _, err := duty.New(cfg); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Jane") {
			t.Errorf("%s: %v", want, err)
		}
	}
}
