// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/part164/part164/storage"
)

// A Patient is somebody who does not exist, with what a registration desk asks
// for. Nothing of it can be anybody's: the numbers are from ranges that are not
// given out, and docs/data.md says which.
type Patient struct {
	MRN       string // such as "MRN-0000164": unique within one generator
	Given     string // with a second name, now and then
	Family    string
	Formerly  string // an earlier family name, mostly empty
	BirthDate storage.Date
	Sex       string // "female", "male" or "other"
	SSN       string // 900-01-0001 to 999-49-9999
	Phone     string // ten digits, as people write them
	Email     string // at a domain of RFC 2606; may be empty
	Street    string
	City      string
	State     string
	ZIP       string
	Plan      string // a member number
}

// Name is the given and the family name.
func (p Patient) Name() string { return p.Given + " " + p.Family }

// Patients yields n patients, the same for the same seed in each run. Names are
// as registers hold them: with accents and apostrophes, of two letters and of
// four words, some of them much more frequent than others, some shared. Of a
// hundred patients about three are 90 or older.
//
//	for p := range storagetest.Patients(164, 1000) {
//		db.WithContext(ctx).Create(&Chart{Name: storage.Seal(p.Name()), MRN: storage.Seal(p.MRN)})
//	}
func Patients(seed uint64, n int) iter.Seq[Patient] {
	return func(yield func(Patient) bool) {
		rng := rand.New(rand.NewPCG(seed, 0x164))
		for i := range n {
			if !yield(newPatient(rng, i)) {
				return
			}
		}
	}
}

func newPatient(rng *rand.Rand, i int) Patient {
	one := func(list []string) string { // the first of a list are the most frequent
		return list[int(float64(len(list))*rng.Float64()*rng.Float64())]
	}
	sexes := [...]string{"female", "male", "female", "male", "female", "male", "other"}
	p := Patient{MRN: fmt.Sprintf("MRN-%07d", i+1), Sex: sexes[rng.IntN(len(sexes))]}
	given := givenNames()
	p.Given = one(given)
	if rng.IntN(9) == 0 {
		p.Given += " " + one(given)
	}
	families := familyNames()
	p.Family = one(families)
	switch {
	case rng.IntN(12) == 0:
		p.Family += "-" + one(families)
	case rng.IntN(6) == 0:
		p.Formerly = one(families)
	}

	age := rng.IntN(90)
	if rng.IntN(32) == 0 {
		age = 90 + rng.IntN(15)
	}
	born := time.Date(2025-age, time.January, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rng.IntN(365))
	p.BirthDate.Year, p.BirthDate.Month, p.BirthDate.Day = born.Date()

	p.SSN = fmt.Sprintf("%03d-%02d-%04d", 900+rng.IntN(100), 1+rng.IntN(49), 1+rng.IntN(9999))
	area, line := areaCodes()[rng.IntN(len(areaCodes()))], rng.IntN(100)
	p.Phone = fmt.Sprintf([]string{"(%s) 555-01%02d", "%s-555-01%02d", "%s.555.01%02d", "+1 %s 555 01%02d"}[rng.IntN(4)], area, line)
	if rng.IntN(4) > 0 {
		p.Email = fmt.Sprintf("%s.%s%d@example.%s", ascii(p.Given), ascii(p.Family), rng.IntN(1000), []string{"com", "net", "org"}[rng.IntN(3)])
	}
	streets, kinds := streetNames(), [...]string{"St", "Ave", "Rd", "Lane", "Blvd"}
	p.Street = fmt.Sprintf("%d %s %s", 1+rng.IntN(9998), streets[rng.IntN(len(streets))], kinds[rng.IntN(len(kinds))])
	if rng.IntN(5) == 0 {
		p.Street += fmt.Sprintf(" Apt %d", 1+rng.IntN(40))
	}
	place := places()[rng.IntN(len(places()))]
	p.City, p.State, p.ZIP = place[0], place[1], fmt.Sprintf("%s%02d", place[2], 1+rng.IntN(40))
	p.Plan = fmt.Sprintf("XYZ%09d", rng.IntN(1_000_000_000))
	return p
}

// ascii is a name as it stands in an e-mail address.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r == 'đ' || r == 'Đ':
			return 'd'
		case r == 'ø':
			return 'o'
		case r == 'ł' || r == 'Ł':
			return 'l'
		}
		return -1
	}, norm.NFKD.String(s))
}

// The lists are ours, of names that are common in the United States and of
// names that are hard for software. See docs/data.md.

func givenNames() []string {
	return strings.Split("Maria,James,Mary,John,José,Linda,Michael,Sofía,David,Emma,William,Olivia,Robert,Ana,Daniel,Sarah,Luis,Grace,Noah,Fatima,"+
		"Ethan,Aaliyah,Carlos,Mei,Samuel,Priya,Juan,Hannah,Wei,Amara,Mohammed,Chloé,Isaac,Leilani,Andre,Zoë,Kwame,Björn,Renée,Tomás,"+
		"Ngozi,Anaïs,Jean-Luc,Mary Jo,Siobhán,D'Andre,Thị Ánh,Xiu Ying,Jo,Al,Bo,Ly,Ý,Åsa,Søren,Łucja,Nuñez,Ximena,Hōkūlani,Oleksandr,"+
		"Ruth,George,Dorothy,Harold,Mildred,Walter,Eleanor,Clarence,Esther,Vernon,Penelope,Ezra,Imogen,Tariq,Yusuf,Ingrid,Dmitri,Paloma,Keiko,Arjun", ",")
}

func familyNames() []string {
	return strings.Split("Smith,Johnson,García,Williams,Brown,Rodríguez,Jones,Miller,Martínez,Davis,Hernández,López,Nguyen,Lee,Wilson,Anderson,Thomas,Taylor,Moore,Kim,"+
		"Jackson,Martin,Pérez,Thompson,White,Sánchez,Harris,Clark,Ramírez,Lewis,Robinson,Walker,Young,Patel,Allen,King,Wright,Scott,Torres,Tran,"+
		"Ng,Wu,Li,Xu,Le,Oh,Vo,Ma,O'Brien,O'Neill,D'Angelo,M'Baye,McDonald,MacLeod,St. Clair,de la Cruz,van der Berg,von Trapp,Al-Hassan,Ben Ali,"+
		"Nuñez,Peña,Muñoz,Müller,Schröder,Jørgensen,Åkesson,Dvořák,Šimek,Łukasz,Kowalczyk,Çelik,Yılmaz,Đặng,Nguyễn,Ó Súilleabháin,Kealoha,Begay,Yazzie,Running Bear,"+
		"Abernathy,Featherstone,Zimmerman,Quackenbush,Oyelaran,Okonkwo,Mbeki,Haile,Rahman,Khan,Singh,Kaur,Sharma,Gupta,Tanaka,Yamamoto,Park,Choi,Ivanov,Petrova", ",")
}

func streetNames() []string {
	return strings.Split("Elm,Maple,Second,Oak,Mill,Church,Washington,Lake,Hillcrest,Sycamore,Prairie,Railroad,Chestnut,Sunset,Meadow,Juniper,Old Post,Ridge,Willow,Depot", ",")
}

// places are cities with their state and the first three digits of their ZIP.
func places() [][3]string {
	return [][3]string{
		{"Boise", "ID", "837"}, {"Albuquerque", "NM", "871"}, {"Duluth", "MN", "558"}, {"Savannah", "GA", "314"}, {"Des Moines", "IA", "503"},
		{"Spokane", "WA", "992"}, {"Worcester", "MA", "016"}, {"Toledo", "OH", "436"}, {"Reno", "NV", "895"}, {"Mobile", "AL", "366"},
		{"Lincoln", "NE", "685"}, {"Burlington", "VT", "054"}, {"Laredo", "TX", "780"}, {"Hilo", "HI", "967"}, {"Anchorage", "AK", "995"}, {"Casper", "WY", "826"},
	}
}

func areaCodes() []string {
	return strings.Split("208,505,218,912,515,509,508,419,775,251,402,802,956,808,907,307", ",")
}
