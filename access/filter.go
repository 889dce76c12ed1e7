// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"slices"
)

// A Filter says which rows of one resource type are in reach: those of Tenant
// that are about a patient whom AllSubjects, Subjects or one of In names, or
// about nobody where Nobody is set, that belong to each of Only and to none of
// NotIn, and whose record is in none of NotRecords; and those that one of Or
// reaches. storage turns it into SQL. The zero Filter matches no row.
type Filter struct {
	Tenant      string   // rows of this tenant; empty matches none
	AllSubjects bool     // every row of the tenant, also those about nobody
	Nobody      bool     // rows that are about no patient
	Subjects    []string // rows about these patients
	In          []Set    // rows about the patients of any of these sets

	Only       []Set // and of each of these; a row about nobody is in no set
	NotIn      []Set // and of none of these
	NotRecords []Set // of record IDs: and not these rows

	Or []Filter // of the same tenant, without an Or of their own
}

// A Set is a set of a tenant's patients, or records, at this moment: those whom
// somebody cares for, or those who restrict a use. One definition answers Has,
// which Check asks, and is turned into SQL for a [Filter]
// (storage.SetCondition), so that what is listed is what may be read.
// Implementations are safe for concurrent use; the conformance suite of those
// for SQL is storagetest.TestSet.
type Set interface {
	// Has reports for each of the IDs whether it belongs to the set. An empty
	// ID belongs to none.
	Has(ctx context.Context, tenant string, ids []string) ([]bool, error)
}

// Match reports for each record whether it is in reach, whatever its type. An
// error means that nobody can tell: none is.
func (f Filter) Match(ctx context.Context, rows ...Resource) ([]bool, error) {
	out := make([]bool, len(rows))
	if f.Tenant == "" {
		return out, nil
	}
	subjects, ids := make([]string, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		if r.Tenant == f.Tenant {
			subjects[i], ids[i] = r.Patient, r.ID
			out[i] = f.AllSubjects || r.Patient == "" && f.Nobody || r.Patient != "" && slices.Contains(f.Subjects, r.Patient)
		}
	}
	steps := []struct {
		sets []Set
		of   []string
		then func(now, in bool) bool
	}{
		{f.In, subjects, func(now, in bool) bool { return now || in }},
		{f.Only, subjects, func(now, in bool) bool { return now && in }},
		{f.NotIn, subjects, func(now, in bool) bool { return now && !in }},
		{f.NotRecords, ids, func(now, in bool) bool { return now && !in }},
	}
	for _, s := range steps {
		for _, set := range s.sets {
			in, err := has(ctx, set, f.Tenant, s.of)
			if err != nil {
				return make([]bool, len(rows)), err
			}
			for i := range out {
				out[i] = s.then(out[i], in[i])
			}
		}
	}
	for _, set := range f.NotRecords {
		if _, single := set.(AllBut); single { // what has no ID yet is none of those
			for i := range out {
				out[i] = out[i] && ids[i] != ""
			}
		}
	}
	for _, or := range f.Or {
		if or.Tenant != f.Tenant || len(or.Or) > 0 {
			return make([]bool, len(rows)), errors.New("access: filter: a part of Or has another tenant, or an Or of its own")
		}
		more, err := or.Match(ctx, rows...)
		if err != nil {
			return make([]bool, len(rows)), err
		}
		for i := range out {
			out[i] = out[i] || more[i]
		}
	}
	return out, nil
}

// has asks the set once for each ID, and checks the answer: an empty ID belongs
// to no set, and an answer of another length is an error.
func has(ctx context.Context, s Set, tenant string, ids []string) ([]bool, error) {
	if s == nil {
		return nil, errors.New("access: set: it is nil")
	}
	at := make(map[string]int, len(ids))
	asked := make([]string, 0, len(ids))
	for _, id := range ids {
		if _, seen := at[id]; id != "" && !seen {
			at[id] = len(asked)
			asked = append(asked, id)
		}
	}
	out := make([]bool, len(ids))
	if len(asked) == 0 {
		return out, nil
	}
	in, err := s.Has(ctx, tenant, asked)
	if err != nil {
		return nil, err
	}
	if len(in) != len(asked) {
		return nil, errors.New("access: set: the answer has another length than the question")
	}
	for i, id := range ids {
		if id != "" {
			out[i] = in[at[id]]
		}
	}
	return out, nil
}
