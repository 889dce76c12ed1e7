// SPDX-License-Identifier: Apache-2.0

package storagetest_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/part164/part164/storage/storagetest"
)

func ExamplePatients() {
	for p := range storagetest.Patients(164, 4) {
		fmt.Println(p.MRN, p.Name(), p.BirthDate, p.SSN, p.Phone)
	}
	// Output:
	// MRN-0000001 William Ng 1983-12-24 968-24-1912 +1 505 555 0191
	// MRN-0000002 Ý Oh 1939-09-30 932-33-9978 (251) 555-0185
	// MRN-0000003 Michael Ma 2008-12-22 963-07-5970 508.555.0175
	// MRN-0000004 Mei Robinson 2020-01-05 944-23-8318 +1 912 555 0101
}

func TestPatientsAreTheSameForASeed(t *testing.T) {
	t.Parallel()
	a, b := slices.Collect(storagetest.Patients(1, 500)), slices.Collect(storagetest.Patients(1, 500))
	c := slices.Collect(storagetest.Patients(2, 500))
	if !slices.Equal(a, b) {
		t.Error("one seed gives two lists")
	}
	if slices.Equal(a, c) {
		t.Error("two seeds give one list")
	}
	if !slices.Equal(a[:100], slices.Collect(storagetest.Patients(1, 100))) {
		t.Error("the first hundred of five hundred are others than a hundred")
	}
	for range storagetest.Patients(1, 10) {
		break // ends the iteration
	}
}

// TestPatientsAreNobody holds that each number is from a range that is not
// given out.
func TestPatientsAreNobody(t *testing.T) {
	t.Parallel()
	ssn := regexp.MustCompile(`^9\d\d-(0[1-9]|[1-4]\d)-\d{4}$`)
	phone := regexp.MustCompile(`555.01\d\d$`)
	email := regexp.MustCompile(`^([a-z.]+\d+@example\.(com|net|org))?$`)
	mrns, names, short, accents, old, formerly := map[string]bool{}, map[string]int{}, 0, 0, 0, 0
	all := slices.Collect(storagetest.Patients(164, 2000))
	for _, p := range all {
		if !ssn.MatchString(p.SSN) || strings.HasSuffix(p.SSN, "0000") || !phone.MatchString(p.Phone) || !email.MatchString(p.Email) {
			t.Errorf("it could be somebody's: %+v", p)
		}
		if mrns[p.MRN] {
			t.Errorf("MRN %s comes twice", p.MRN)
		}
		mrns[p.MRN] = true
		names[p.Name()]++
		if !p.BirthDate.Valid() || p.Given == "" || p.Family == "" || p.Street == "" || len(p.ZIP) != 5 || len(p.State) != 2 || p.City == "" || p.Sex == "" || p.Plan == "" {
			t.Errorf("it lacks something: %+v", p)
		}
		if len([]rune(p.Family)) == 2 {
			short++
		}
		if strings.ContainsFunc(p.Name(), func(r rune) bool { return r > unicode.MaxASCII }) {
			accents++
		}
		if p.BirthDate.Year < 1936 {
			old++
		}
		if p.Formerly != "" {
			formerly++
		}
	}
	shared := 0
	for _, n := range names {
		if n > 1 {
			shared += n
		}
	}
	for what, n := range map[string]int{"family names of two letters": short, "names with accents": accents, "people of 90 or more": old, "former names": formerly, "shared names": shared} {
		if n < 20 || n > 1900 {
			t.Errorf("of 2000 patients %d have %s", n, what)
		}
	}
}
