// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseTag(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Tag{
		"-":                                    {None: true},
		"subject":                              {Subject: true},
		"name":                                 {Class: Name},
		"name,search=name":                     {Class: Name, Search: []string{"name"}},
		"mrn,search=exact,unique":              {Class: MRN, Search: []string{"exact"}, Unique: true},
		"name,unique,search=name,search=exact": {Class: Name, Search: []string{"name", "exact"}, Unique: true},
		"date,clear":                           {Class: Date, Clear: true},
		"dob,search=exact,search=year":         {Class: DOB, Search: []string{"exact", "year"}},
		"text,search=words":                    {Class: Text, Search: []string{"words"}},
		"name,as=p.name,was=patients.name":     {Class: Name, As: "p.name", Was: "patients.name"},
		"zip,search=exact,guessable":           {Class: ZIP, Search: []string{"exact"}, Guessable: true},
		"ssn,as=patients.ssn,from=ssn_v1":      {Class: SSN, As: "patients.ssn", From: "ssn_v1"},
		"name,pad":                             {Class: Name, Pad: 64},
		"name,pad=16,search=name":              {Class: Name, Pad: 16, Search: []string{"name"}},
	} {
		got, err := ParseTag(s)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseTag(%q) = %+v, %v, want %+v", s, got, err, want)
		}
	}
	for s, mend := range map[string]string{
		"":                                     "begin with one",
		"nmae":                                 "unknown class",
		"Name":                                 "unknown class",
		" name":                                "unknown class",
		",clear":                               "no class",
		"-,clear":                              "takes no options",
		"subject,as=x":                         "takes no options",
		"name,":                                "unknown option",
		"name,clera":                           "unknown option",
		"name,clear=true":                      "takes no value",
		"name,clear,clear":                     "given twice",
		"name,as=a,as=b":                       "given twice",
		"name,from=a,from=a":                   "given twice",
		"name,search=exact,search=exact":       "given twice",
		"name,search=prefix":                   "take exact, name",
		"name,search=year":                     "classes date and dob",
		"name,guessable":                       "add search=",
		"zip,search=exact,guessable,guessable": "given twice",
		"zip,search=exact,guessable=yes":       "takes no value",
		"name,search":                          "take exact, name",
		"name,as=":                             "needs a name",
		"name,as=a b":                          "needs a name",
		"name,from=1":                          "needs a name",
		"name,unique":                          "add search=exact",
		"name,clear,search=exact":              "clear column",
		"name,clear,from=x":                    "from=",
		"name,clear,pad":                       "sealed values",
		"name,pad,pad=16":                      "given twice",
		"name,pad=":                            "16 to 65536",
		"name,pad=15":                          "16 to 65536",
		"name,pad=+64":                         "16 to 65536",
		"name,pad=65537":                       "16 to 65536",
		"name,from=" + strings.Repeat("a", 61): "at most 60",
	} {
		if got, err := ParseTag(s); err == nil || !strings.Contains(err.Error(), mend) || !reflect.DeepEqual(got, Tag{}) {
			t.Errorf("ParseTag(%q) = %+v, %v, want an error saying %q", s, got, err, mend)
		}
	}
}

func FuzzParseTag(f *testing.F) {
	for _, s := range []string{"-", "subject", "mrn,search=exact,unique", "name,as=a.b,from=c", "date,clear", "name,,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tag, err := ParseTag(s)
		kinds := 0
		for _, is := range []bool{tag.Class != "", tag.Subject, tag.None} {
			if is {
				kinds++
			}
		}
		if (err == nil) != (kinds == 1) || tag.Class != "" && !tag.Class.Valid() {
			t.Errorf("ParseTag(%q) = %+v, %v", s, tag, err)
		}
	})
}
