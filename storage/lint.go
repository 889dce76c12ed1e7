// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/part164/part164/minimize"
)

// lintSearch says what is wrong with the search options of a sealed field, and
// how to mend it, empty where they are right.
func (f *field) lintSearch() string {
	if !f.indexed() {
		return ""
	}
	t := f.valueType()
	list := t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String
	texts := list || t.Kind() == reflect.String
	_, date := reflect.Zero(t).Interface().(interface{ MarshalText() ([]byte, error) }) // time.Time, Date
	switch {
	case list && f.tag.Unique:
		return "unique on a list: it is for single values"
	case !texts && (slices.Contains(f.tag.Search, minimize.SearchName) || slices.Contains(f.tag.Search, minimize.SearchWords)):
		return "search=name and search=words are for strings and lists of strings"
	case !texts && !date && (t.Kind() >= reflect.Complex64 || t.Kind() == reflect.Invalid):
		return "search on a " + t.String() + ", which has no one value to compare: search a field of its own"
	case t == reflect.TypeFor[time.Time]() && f.tag.Class != minimize.Date && f.tag.Class != minimize.DOB:
		return "search on a time of a class that is no date: it would compare nanoseconds: give it the class date"
	}
	if why := f.fewValues(t); why != "" && !f.tag.Guessable {
		return "search on " + why + ": whoever has a copy of phi_index can tell its values by how often each occurs (docs/threat-model.md): search something else and filter the records that are found, or, if that risk is taken, add the option guessable"
	}
	return ""
}

// fewValues says why the values of a searched field are few or unevenly spread,
// as far as its type, class and name tell.
func (f *field) fewValues(t reflect.Type) string {
	if t.Kind() == reflect.Bool {
		return "a yes or no"
	}
	if slices.Contains(f.tag.Search, minimize.SearchYear) {
		return "the year of a date"
	}
	for _, word := range strings.Split(f.DBName, "_") {
		switch word {
		case "sex", "gender", "pronouns", "state", "province", "country", "zip3", "race", "ethnicity", "religion", "language", "marital",
			"smoker", "deceased", "insurer", "payer", "blood", "status", "year":
			return "a field with few values, by its name"
		}
	}
	switch f.tag.Class {
	case minimize.City, minimize.County, minimize.ZIP, minimize.Geo, minimize.Age, minimize.Operational,
		minimize.Clinical, minimize.Allergy, minimize.Medication, minimize.Problem, minimize.Sensitive, minimize.Psychotherapy:
		if !slices.Equal(f.tag.Search, []string{minimize.SearchWords}) {
			return "the class " + string(f.tag.Class) + ", whose values are few or unevenly spread"
		}
	}
	return ""
}
