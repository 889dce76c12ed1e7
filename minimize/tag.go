// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// TagKey is the key of the struct tag that [ParseTag] reads.
const TagKey = "phi"

// A Tag says what a struct field holds. Exactly one of Class, Subject and None
// is given.
type Tag struct {
	Class   Class    // the class of PHI
	Subject bool     // `phi:"subject"`: the foreign key to the patient that the row is about
	None    bool     // `phi:"-"`: not about a person
	Clear   bool     // stored in clear so that it sorts and ranges: still PHI, still minimised
	Unique  bool     // no two rows of a tenant have the same value; needs search=exact
	As      string   // the field's logical name, kept when the column is renamed; empty means its own
	Was     string   // the logical name that it had, or will have, which opens too; empty means none
	From    string   // the old column that is being sealed into this one; empty means none
	Pad     int      // the stored length is hidden: values are padded to this many bytes, doubled until they fit; 0 = not padded
	Search  []string // kinds of index, among [SearchExact], [SearchName], [SearchWords] and [SearchYear]

	// Guessable allows a search index of a field whose values are so few, or
	// so unevenly spread, that whoever has a copy of the index can tell many of
	// them by how often each occurs.
	Guessable bool
}

// The kinds of search index.
const (
	SearchExact = "exact" // the whole value
	SearchName  = "name"  // the beginning of each word, and how it sounds
	SearchWords = "words" // each word of a text
	SearchYear  = "year"  // the year of a date
)

// defaultPad is what pad alone pads to: most names, numbers and addresses then
// have one length.
const defaultPad = 64

// ParseTag reads the value of a phi tag:
//
//	class[,as=name][,was=name][,search=exact|name|words|year]...[,unique][,clear][,from=column][,pad[=bytes]][,guessable]
//	subject
//	-
//
// pad hides how long a sealed value is: it is padded to the given number of
// bytes, 16 to 65536, or to twice that, four times and so on until it fits,
// two bytes included that the padding itself takes. pad alone is pad=64. It may
// be added, changed and removed at any time; a value has the padding of its
// last write.
//
// as is the field's logical name, to which what is sealed is bound; was is one
// more that opens and is searched, while a job moves what is bound to it.
//
// guessable allows a search index of a field with few or unevenly spread
// values, which whoever has a copy of the index can tell by how often each
// occurs.
//
// An unknown class or option, an option given twice, and options that
// contradict each other are errors that say the mend. search may be given once
// for each kind.
func ParseTag(s string) (Tag, error) {
	head, rest, more := strings.Cut(s, ",")
	switch head {
	case "":
		return Tag{}, errors.New(`minimize: parse tag: no class: begin with one, such as phi:"name", or write phi:"-" for what is not about a person`)
	case "-", "subject":
		if more {
			return Tag{}, fmt.Errorf("minimize: parse tag: %q takes no options: remove them", head)
		}
		return Tag{None: head == "-", Subject: head == "subject"}, nil
	}
	t := Tag{Class: Class(head)}
	if !t.Class.Valid() {
		return Tag{}, fmt.Errorf("minimize: parse tag: unknown class %q: take one of the Class constants of package minimize", head)
	}
	for more {
		var opt string
		opt, rest, more = strings.Cut(rest, ",")
		if err := t.option(opt); err != nil {
			return Tag{}, fmt.Errorf("minimize: parse tag: class %s: %w", head, err)
		}
	}
	switch {
	case t.Clear && (len(t.Search) > 0 || t.Unique):
		return Tag{}, fmt.Errorf("minimize: parse tag: class %s: a clear column has its own index: remove search= and unique, or clear", head)
	case t.Clear && t.Pad != 0:
		return Tag{}, fmt.Errorf("minimize: parse tag: class %s: pad is for sealed values: remove it, or clear", head)
	case t.Clear && t.Was != "":
		return Tag{}, fmt.Errorf("minimize: parse tag: class %s: was= is for sealed values: remove it, or clear", head)
	case t.Clear && t.From != "":
		return Tag{}, fmt.Errorf("minimize: parse tag: class %s: from= seals a column: remove it, or clear", head)
	case t.Guessable && len(t.Search) == 0:
		return Tag{}, fmt.Errorf("minimize: parse tag: class %s: guessable is about a search index: add search=, or remove it", head)
	case slices.Contains(t.Search, SearchYear) && t.Class != Date && t.Class != DOB:
		return Tag{}, fmt.Errorf("minimize: parse tag: class %s: search=year is for the classes date and dob: remove it", head)
	case t.Unique && !slices.Contains(t.Search, SearchExact):
		return Tag{}, fmt.Errorf("minimize: parse tag: class %s: unique is kept by the exact index: add search=exact", head)
	}
	return t, nil
}

func (t *Tag) option(opt string) error {
	key, val, hasVal := strings.Cut(opt, "=")
	twice := false
	switch key {
	case "clear", "unique", "guessable":
		flag := map[string]*bool{"clear": &t.Clear, "unique": &t.Unique, "guessable": &t.Guessable}[key]
		if hasVal {
			return fmt.Errorf("option %s takes no value: write %s", key, key)
		}
		twice, *flag = *flag, true
	case "as", "was", "from":
		name := map[string]*string{"as": &t.As, "was": &t.Was, "from": &t.From}[key]
		if !isIdent(val) {
			return fmt.Errorf("option %s needs a name of letters, digits, _ and . that begins with a letter, at most 60 long", key)
		}
		twice, *name = *name != "", val
	case "pad":
		n := defaultPad
		if hasVal {
			var err error
			if n, err = strconv.Atoi(val); err != nil || n < 16 || n > 65536 || val != strconv.Itoa(n) {
				return errors.New("option pad needs a number of bytes from 16 to 65536, or none for 64")
			}
		}
		twice, t.Pad = t.Pad != 0, n
	case "search":
		if !slices.Contains([]string{SearchExact, SearchName, SearchWords, SearchYear}, val) {
			return fmt.Errorf("unknown search kind %q: take exact, name, words or year", val)
		}
		twice = slices.Contains(t.Search, val)
		t.Search = append(t.Search, val)
	default:
		return fmt.Errorf("unknown option %q: take as=, was=, search=, unique, clear, from=, pad= or guessable", opt)
	}
	if twice {
		return fmt.Errorf("option %q is given twice: remove one", opt)
	}
	return nil
}

// isIdent reports whether s can name a column or a field of one.
func isIdent(s string) bool {
	if s == "" || len(s) > 60 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '_' && c != '.' && (c < '0' || c > '9')) {
			return false
		}
	}
	return true
}

// FieldTag returns the phi tag of a struct field, and whether it has one.
func FieldTag(f reflect.StructField) (Tag, bool, error) {
	s, ok := f.Tag.Lookup(TagKey)
	if !ok {
		return Tag{}, false, nil
	}
	t, err := ParseTag(s)
	return t, true, err
}
