// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/quick"
	"unicode/utf8"

	"github.com/part164/part164/minimize"
)

// finds evaluates a query on what is indexed, as SQL does on tokens.
func (n node) finds(stored []term) bool {
	switch {
	case len(n.terms) > 0:
		return slices.ContainsFunc(n.terms, func(t term) bool { return slices.Contains(stored, t) })
	case len(n.any) > 0:
		return slices.ContainsFunc(n.any, func(k node) bool { return k.finds(stored) })
	}
	return len(n.all) > 0 && !slices.ContainsFunc(n.all, func(k node) bool { return !k.finds(stored) })
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		found, no []string // queries
	}{
		{"Jane Smith", []string{"smi ja", "SMITH, JANE", "ja", "jane smith", "smith j", "Jane Q. Smith Q"}, []string{"smithe", "mith", "jane smyth", "jane jones"}},
		{"Phuong Ng", []string{"Ng", "ng ph", "NG, PHUONG"}, []string{"nguyen", "n p"}},
		{"Mary Smith-Jones", []string{"smith", "jones", "smithjones", "smith-jones", "smith‑jones", "smith–jo", "mary jones-smith", "smith jones", "smithj"}, []string{"smithsmith", "jonessmith"}},
		{"Mary Smithjones", []string{"smith-jones", "smith"}, []string{"jones"}},
		{"Siobhán O'Brien", []string{"o'brien", "O’Brien", "OBrien", "o brien", "brien", "obr sio", "Siobhan", "o-brien", "Oʼbrien"}, []string{"bren"}},
		{"Siobhan OBrien", []string{"o'brien", "o brien", "obrien"}, []string{"brien"}},
		{"D'Angelo Russell", []string{"dangelo", "d'angelo", "angelo", "d angelo"}, nil},
		{"José Müller", []string{"jose muller", "José Müller", "Jose\u0301 Mu\u0308ller", "mueller", "muel", "MÜLLER"}, []string{"moller", "miller"}},
		{"Hans Mueller", []string{"Müller", "mueller", "Muel"}, []string{"muller"}},
		{"Michael Roe", []string{"michael"}, []string{"michal"}},
		{"Åsa Ångström", []string{"asa ang", "Åsa", "aasa", "aangstroem", "angstrom", "A\u030Asa"}, nil},
		{"Søren Kierkegård", []string{"soren", "soeren", "kierkegard", "kierkegaard"}, nil},
		{"Łukasz Żółć", []string{"lukasz zolc", "Łukasz"}, nil},
		{"Jörg Weiß", []string{"weiss", "joerg", "jorg", "WEISS", "Weiß"}, nil},
		{"Ada de la Cruz", []string{"de la cruz", "cruz ada", "delacruz", "De La Cr", "la cruz", "dela cruz"}, []string{"cruzada", "delarosa"}},
		{"Ada Delacruz", []string{"de la cruz", "delacruz"}, []string{"cruz"}},
		{"Ludwig van der Berg", []string{"van der berg", "vanderberg", "berg", "berg lud"}, []string{"vandenberg"}},
		{"Ronald McDonald", []string{"mcdonald", "mc donald", "Mc-Donald"}, []string{"donald mac"}},
		{"Ronald Mc Donald", []string{"mcdonald", "donald", "mc donald"}, nil},
		{"Omar al-Masri", []string{"almasri", "al masri", "al-masri", "masri"}, nil},
		{"Al Smith", []string{"al smith", "al", "smith", "smith al"}, nil},
		{"Van", []string{"van"}, nil},
		{"John Smith Jr.", []string{"john smith", "john smith jr", "smith jr., john", "john smith junior", "smith jnr"}, []string{"john smith sr", "john smith iii"}},
		{"John Smith III", []string{"smith iii", "smith 3rd", "smith"}, []string{"smith ii", "smith jr"}},
		{"John Smith Junior", []string{"smith jr", "smith junior"}, nil},
		{"Junior Seau", []string{"junior", "jun seau"}, nil},
		{"Jr", []string{"jr"}, nil},
		{"李小龍", []string{"李", "李小", "李小龍"}, []string{"小", "龍李"}},
		{"홍길동", []string{"홍", "홍길"}, []string{"길"}},
		{"やまだ たろう", []string{"や", "たろ", "やまだ たろう"}, []string{"ろう"}},
		{"Γιώργος Παπαδόπουλος", []string{"γιωργος", "ΠΑΠΑ"}, nil},
		{"Владимир Ильич", []string{"влад", "ИЛЬИЧ"}, nil},
		{"مُحَمَّد", []string{"محمد"}, nil},
		{"דָּוִד", []string{"דוד"}, nil},
		{"Jean\u00ADPaul\u200B Sartre", []string{"jeanpaul", "sartre"}, nil},
		{"Ｊａｎｅ　Ｒｏｅ", []string{"jane roe"}, nil},
		{"ﬁona", []string{"fiona"}, nil},
		{"J.R. Smith", []string{"smith"}, nil},
		{"Wolfeschlegelsteinhausenbergerdorff", []string{"wolfeschlegelsteinhausen", "wolfe"}, []string{"wolfez"}},
	} {
		stored := nameTerms(tt.name)
		for _, q := range tt.found {
			if !nameQuery(q, false).finds(stored) {
				t.Errorf("%q does not find %q", q, tt.name)
			}
			if !nameQuery(q, true).finds(stored) {
				t.Errorf("%q does not find %q by sound, and what Match finds SoundsLike finds", q, tt.name)
			}
		}
		for _, q := range tt.no {
			if nameQuery(q, false).finds(stored) {
				t.Errorf("%q finds %q", q, tt.name)
			}
		}
	}
	for _, q := range []string{"", " ", "%", "s", "a b c", "'", "-", "--'", "\x00", "🙂"} {
		if n := nameQuery(q, false); len(n.all) > 0 {
			t.Errorf("the query %q asks for %v", q, n)
		}
	}
}

// Whatever a name is, it is found by itself, and by the beginnings of its words.
func TestANameIsFoundByItself(t *testing.T) {
	t.Parallel()
	check := func(name string) bool {
		q := nameQuery(name, false)
		return len(q.all) == 0 || q.finds(nameTerms(name)) && nameQuery(name, true).finds(nameTerms(name))
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
	words := []string{"de", "la", "O'", "o", "Smith", "-", "Jones", "jr", "III", "Jr.", "van", "der", "Müller", "Ng", "李", ",", "al-", "x", "Ørsted", "mc", "2nd"}
	for i := range words {
		for j := range words {
			for k := range words {
				for _, sep := range []string{" ", ""} {
					if name := strings.Join([]string{words[i], words[j], words[k]}, sep); !check(name) {
						t.Errorf("%q is not found by itself", name)
					}
				}
			}
		}
	}
}

// The published examples: JewishGen's and Avotaynu's pages on the system, and
// Wikipedia's.
func TestSounds(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"golden": "583600", "alpert": "087930", "breuer": "791900", "haber": "579000", "mannheim": "665600", "mintz": "664000", "topf": "370000", "kleinmann": "586660",
		"auerbach": "097400 097500", "ohrbach": "097400 097500", "lipshitz": "874400", "lippszyc": "874400 874500", "lewinsky": "876450", "levinski": "876450",
		"szlamawicz": "486740", "shlamovitz": "486740", "ceniow": "467000 567000", "tsenyuv": "467000", "holubica": "587400 587500", "golubitsa": "587400",
		"przemysl": "746480 794648", "pshemeshil": "746480", "rosokhovatsets": "945744",
		"rosochowaciec": "944744 944745 944754 944755 945744 945745 945754 945755",
		"peters":        "734000 739400", "peterson": "734600 739460", "moskowitz": "645740", "moskovitz": "645740", "jackson": "145460 154600 445460 454600",
		"akssol": "054800", "gerschfeld": "545783 547830 594578 594783", "kingsmith": "565463", "washington": "746536", "strasburg": "294795",
		"":    "",
		"李小龍": "",
		"3rd": "930000",
	} {
		got := soundsOf(word)
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("soundsOf(%q) = %q, want %q", word, got, want)
		}
	}
	for _, pair := range [][2]string{{"smith", "smyth"}, {"smith", "schmidt"}, {"catherine", "kathryn"}, {"steven", "stephen"}, {"jon", "john"}, {"meier", "mayer"}, {"philip", "filip"},
		{"gonzalez", "gonsales"}, {"muhammad", "mohamed"}, {"brian", "bryan"}, {"reed", "reid"}, {"clark", "clarke"}, {"allan", "ellen"}, {"sarah", "sara"}, {"rodriguez", "rodrigues"}, {"mueller", "miller"}} {
		if !nameQuery(pair[0], true).finds(nameTerms("Pat "+pair[1])) || !nameQuery(pair[1], true).finds(nameTerms(pair[0]+" Pat")) {
			t.Errorf("%q does not sound like %q", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"smith", "jones"}, {"jane", "mary"}, {"ng", "li"}} {
		if nameQuery(pair[0], true).finds(nameTerms(pair[1])) {
			t.Errorf("%q sounds like %q", pair[0], pair[1])
		}
	}
}

func TestNormalForms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		class minimize.Class
		want  string
		same  []string
	}{
		{minimize.MRN, "mrn000003", []string{"MRN-000003", "mrn 000003", " mrn000003\t", "ＭＲＮ－000003", "M.R.N./000003"}},
		{minimize.MRN, "000123", []string{"000123", "000-123"}}, // zeros count
		{minimize.MRN, "", []string{"", " - ", "\u200B"}},
		{minimize.Phone, "+14155552671", []string{"(415) 555-2671", "415.555.2671", "4155552671", "1-415-555-2671", "+1 415 555 2671", "tel:+1-415-555-2671", "011 1 415 555 2671", "001 415 555 2671",
			"415-555-2671 x12", "(415) 555-2671 ext. 5", "415-555-2671;ext=9", "４１５－５５５－２６７１", "415–555–2671", "415 555 2671 extension 1234", "415/555-2671 #7"}},
		{minimize.Phone, "+18003569377", []string{"1-800-FLOWERS", "1 800 flowers", "800-356-9377"}},
		{minimize.Phone, "+442079460958", []string{"+44 20 7946 0958", "+44 (0)20 7946 0958", "011 44 20 7946 0958", "0044 20 7946 0958"}},
		{minimize.Phone, "5552671", []string{"555-2671", "555 2671"}},
		{minimize.Phone, "unknown", []string{"unknown", "Unknown"}},
		{minimize.Phone, "", []string{"", "()", "+"}},
		{minimize.Fax, "+14155552671", []string{"(415) 555-2671"}},
		{minimize.Email, "jane.roe+tag@example.org", []string{"Jane.Roe+tag@Example.ORG", " jane.roe+tag@example.org "}},
		{minimize.Email, "jüri@bücher.example", []string{"Jüri@BÜCHER.example", "ju\u0308ri@bu\u0308cher.example"}},
		{minimize.Email, "roe@xn--bcher-kva.example", []string{"ROE@XN--BCHER-KVA.example"}},
		{minimize.DOB, "1980-03-07", []string{"1980-03-07", "1980-3-7", "3/7/1980", "03/07/1980", "03-07-1980", "19800307", "1980/03/07", "Mar 7, 1980", "March 7 1980", "7 Mar 1980", "7-MAR-1980", "7mar1980",
			"1980-03-07T00:00:00Z", "1980-03-07T23:59:59.999-05:00", "1980-03-07 10:00:00", "\"1980-03-07\"", "Friday, March 7, 1980", "１９８０－０３－０７"}},
		{minimize.DOB, "1980-03", []string{"1980-03", "3/1980", "March 1980", "1980-3"}},
		{minimize.DOB, "1980", []string{"1980", " 1980 "}},
		{minimize.DOB, "13071980", []string{"13/07/1980", "13.07.1980"}}, // no month: not guessed
		{minimize.DOB, "20010229", []string{"2001-02-29"}},
		{minimize.Date, "2024-02-29", []string{"2/29/2024", "2024-02-29"}},
		{minimize.SSN, "012345678", []string{"012-34-5678", "012 34 5678", "012345678"}},
		{minimize.SSN, "12345678", []string{"12345678", "1234-5678"}},
		{minimize.ZIP, "02138", []string{"02138", "02138-1234", "021381234"}},
		{minimize.ZIP, "k1a0b1", []string{"K1A 0B1", "k1a-0b1"}},
		{minimize.IP, "192.0.2.1", []string{"192.0.2.1", "::ffff:192.0.2.1"}},
		{minimize.IP, "2001:db8::1", []string{"2001:0DB8:0:0:0:0:0:1", "2001:db8::1"}},
		{minimize.URL, "https://example.org/a?b=c", []string{"HTTPS://Example.org/a?b=c"}},
		{minimize.Name, "janeroe", []string{"Jane Roe", "JANE-ROE", "Jané Roe"}},
	} {
		for _, s := range tt.same {
			if got := normalOf(tt.class, s); got != tt.want {
				t.Errorf("the normal form of the %s %q is %q, want %q", tt.class, s, got, tt.want)
			}
		}
	}
	for _, pair := range [][3]string{
		{"phone", "415-555-2671", "415-555-2672"}, {"phone", "+44 20 7946 0958", "20 7946 0958"}, {"email", "a.b@example.org", "ab@example.org"}, {"email", "a+b@example.org", "a@example.org"},
		{"dob", "1980-03-07", "1980-07-03"}, {"mrn", "0123", "123"}, {"ip", "10.0.0.1", "100.0.1"},
	} {
		if normalOf(minimize.Class(pair[0]), pair[1]) == normalOf(minimize.Class(pair[0]), pair[2]) {
			t.Errorf("the %s %q equals %q", pair[0], pair[1], pair[2])
		}
	}
}

// A normal form is its own, and nothing panics.
func FuzzNormalForms(f *testing.F) {
	for _, s := range []string{"", "Jane O'Brien-Smith Jr.", "(415) 555-2671 x12", "1-800-FLOWERS", "+44 (0)20", "3/7/1980", "7 Mar 1980", "İstanbul", "ﬃ", "ẞ", "\u1E9E\u0307", "@4155552671", "::ffff:1.2.3.4", "de la", "Å", "\xff", "e\u0301\u0301", "ᾼ", "㎭"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 1000 {
			return
		}
		for _, class := range minimize.Classes() {
			if once := normalOf(class, s); normalOf(class, once) != once {
				t.Errorf("%s: %q becomes %q, then %q", class, s, once, normalOf(class, once))
			}
		}
		stored := nameTerms(s)
		if q := nameQuery(s, false); len(q.all) > 0 && !q.finds(stored) {
			t.Errorf("the name %q is not found by itself", s)
		}
		for _, term := range stored {
			if term.value == "" || !utf8.ValidString(term.value) && utf8.ValidString(s) {
				t.Errorf("the name %q has the term %q", s, term)
			}
		}
		for _, w := range textWords(s) {
			if !slices.Contains(textWords(fmt.Sprintf("x %s y", w)), w) {
				t.Errorf("the word %q of %q is not found by itself", w, s)
			}
		}
	})
}
