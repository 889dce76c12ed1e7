// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/part164/part164/access"
)

// A set of IDs of the tenant t-1.
type set []string

func (s set) Has(_ context.Context, tenant string, ids []string) ([]bool, error) {
	out := make([]bool, len(ids))
	for i, id := range ids {
		out[i] = tenant == "t-1" && slices.Contains(s, id)
	}
	return out, nil
}

type brokenSet struct{ answer []bool }

func (s brokenSet) Has(context.Context, string, []string) ([]bool, error) {
	if s.answer != nil {
		return s.answer, nil
	}
	return []bool{true}, errors.New("no")
}

func TestFilterMatch(t *testing.T) {
	t.Parallel()
	sets := func(s ...access.Set) []access.Set { return s }
	all := access.Filter{Tenant: "t-1", AllSubjects: true}
	with := func(f access.Filter, change func(*access.Filter)) access.Filter {
		change(&f)
		return f
	}
	for _, tt := range []struct {
		name            string
		f               access.Filter
		tenant, subject string
		want            bool
	}{
		{"zero", access.Filter{}, "", "", false},
		{"zero, a row", access.Filter{}, "t-1", "p-1", false},
		{"no tenant, all subjects", access.Filter{AllSubjects: true}, "", "p-1", false},
		{"all subjects", all, "t-1", "p-1", true},
		{"all subjects, about nobody", all, "t-1", "", true},
		{"another tenant", all, "t-2", "p-1", false},
		{"a row without tenant", all, "", "p-1", false},
		{"no subjects", access.Filter{Tenant: "t-1"}, "t-1", "p-1", false},
		{"nobody", access.Filter{Tenant: "t-1", Nobody: true}, "t-1", "", true},
		{"nobody of another tenant", access.Filter{Tenant: "t-1", Nobody: true}, "t-2", "", false},
		{"somebody where nobody is in reach", access.Filter{Tenant: "t-1", Nobody: true}, "t-1", "p-1", false},
		{"one of the subjects", access.Filter{Tenant: "t-1", Subjects: []string{"p-0", "p-1"}}, "t-1", "p-1", true},
		{"not one of them", access.Filter{Tenant: "t-1", Subjects: []string{"p-0", "p-1"}}, "t-1", "p-2", false},
		{"an empty subject matches nobody", access.Filter{Tenant: "t-1", Subjects: []string{""}}, "t-1", "", false},
		{"a subject of another tenant", access.Filter{Tenant: "t-1", Subjects: []string{"p-1"}}, "t-2", "p-1", false},
		{"in the second set", access.Filter{Tenant: "t-1", In: sets(set{"p-2"}, set{"p-1"})}, "t-1", "p-1", true},
		{"in no set", access.Filter{Tenant: "t-1", In: sets(set{"p-2"})}, "t-1", "p-1", false},
		{"nobody is in no set", access.Filter{Tenant: "t-1", In: sets(set{""})}, "t-1", "", false},
		{"in a set of another tenant", access.Filter{Tenant: "t-2", In: sets(set{"p-1"})}, "t-2", "p-1", false},
		{"in each of the sets", with(all, func(f *access.Filter) { f.Only = sets(set{"p-1"}, set{"p-1", "p-2"}) }), "t-1", "p-1", true},
		{"in one of the sets only", with(all, func(f *access.Filter) { f.Only = sets(set{"p-1"}, set{"p-1", "p-2"}) }), "t-1", "p-2", false},
		{"nobody is in none of the sets that it must be in", with(all, func(f *access.Filter) { f.Only = sets(set{"p-1"}) }), "t-1", "", false},
		{"left out", with(all, func(f *access.Filter) { f.NotIn = sets(set{"p-2"}, set{"p-1"}) }), "t-1", "p-1", false},
		{"another is left out", with(all, func(f *access.Filter) { f.NotIn = sets(set{"p-2"}) }), "t-1", "p-1", true},
		{"a record is left out", with(all, func(f *access.Filter) { f.NotRecords = sets(set{"r-1"}) }), "t-1", "p-1", false},
		{"another record is left out", with(all, func(f *access.Filter) { f.NotRecords = sets(set{"p-1"}) }), "t-1", "p-1", true},
		{"or", access.Filter{Tenant: "t-1", Or: []access.Filter{{Tenant: "t-1", Subjects: []string{"p-1"}}}}, "t-1", "p-1", true},
		{"or, where the first part leaves it out", with(all, func(f *access.Filter) {
			f.NotIn = sets(set{"p-1"})
			f.Or = []access.Filter{{Tenant: "t-1", Subjects: []string{"p-1"}}}
		}), "t-1", "p-1", true},
		{"or of which a part leaves it out", access.Filter{Tenant: "t-1", Or: []access.Filter{{Tenant: "t-1", AllSubjects: true, NotIn: sets(set{"p-1"})}}}, "t-1", "p-1", false},
	} {
		got, err := tt.f.Match(t.Context(), access.Resource{Tenant: tt.tenant, ID: "r-1", Patient: tt.subject})
		if err != nil || len(got) != 1 || got[0] != tt.want {
			t.Errorf("%s: Match = %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
}

func TestFilterMatchOfMany(t *testing.T) {
	t.Parallel()
	f := access.Filter{Tenant: "t-1", Nobody: true, In: []access.Set{set{"p-1", "p-3"}}}
	rows := []access.Resource{{Tenant: "t-1", Patient: "p-3"}, {Tenant: "t-1", Patient: "p-2"}, {Tenant: "t-2", Patient: "p-1"}, {Tenant: "t-1", Patient: "p-3"}, {Tenant: "t-1"}, {}}
	got, err := f.Match(t.Context(), rows...)
	if want := []bool{true, false, false, true, true, false}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Match = %v, %v; want %v", got, err, want)
	}
	if got, err := f.Match(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("Match of nothing = %v, %v", got, err)
	}
}

// What cannot be told is out of reach, wherever it stands.
func TestFilterMatchFailsClosed(t *testing.T) {
	t.Parallel()
	row := access.Resource{Tenant: "t-1", ID: "r-1", Patient: "p-1"}
	for name, s := range map[string]access.Set{"an error": brokenSet{}, "nil": nil, "no answer": brokenSet{[]bool{}}, "too long an answer": brokenSet{[]bool{true, true}}} {
		for where, change := range map[string]func(*access.Filter){
			"In":         func(f *access.Filter) { f.In = []access.Set{s} },
			"Only":       func(f *access.Filter) { f.Only = []access.Set{s} },
			"NotIn":      func(f *access.Filter) { f.NotIn = []access.Set{s} },
			"NotRecords": func(f *access.Filter) { f.NotRecords = []access.Set{s} },
			"Or":         func(f *access.Filter) { f.Or = []access.Filter{{Tenant: "t-1", In: []access.Set{s}}} },
		} {
			f := access.Filter{Tenant: "t-1", AllSubjects: true}
			change(&f)
			if got, err := f.Match(t.Context(), row); err == nil || len(got) != 1 || got[0] {
				t.Errorf("%s in %s: Match = %v, %v", name, where, got, err)
			}
		}
	}
	for name, or := range map[string]access.Filter{
		"another tenant":   {Tenant: "t-2", AllSubjects: true},
		"an Or of its own": {Tenant: "t-1", Or: []access.Filter{{Tenant: "t-1", AllSubjects: true}}},
	} {
		f := access.Filter{Tenant: "t-1", AllSubjects: true, Or: []access.Filter{or}}
		if got, err := f.Match(t.Context(), row); err == nil || got[0] {
			t.Errorf("%s in Or: Match = %v, %v", name, got, err)
		}
	}
}
