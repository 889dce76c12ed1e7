// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &Encounter{})
		ctx := physician(t)
		people := map[string]string{}
		for i, name := range []string{"Jane Smith", "James Smithson", "John Smith-Jones", "Phuong Ng", "Siobhán O'Brien", "José Müller", "Ada  de la Cruz", "李小龍", "Åsa Ångström", "Bo"} {
			p := created(t, db, ctx, Patient{Name: storage.Seal(name), MRN: storage.Seal(fmt.Sprintf("MRN-%06d", i)), BirthDate: storage.Seal(fmt.Sprintf("1980-01-%02d", i+1))})
			people[p.ID] = name
		}
		search := func(field, query string) string {
			t.Helper()
			var list []Patient
			if err := db.WithContext(ctx).Where(storage.Match(field, query)).Find(&list).Error; err != nil {
				t.Errorf("Match(%s, %q): %v", field, query, err)
			}
			var names []string
			for _, p := range list {
				names = append(names, people[p.ID])
			}
			slices.Sort(names)
			return strings.Join(names, ", ")
		}
		for query, want := range map[string]string{
			"smi ja":                 "James Smithson, Jane Smith",
			"JANE SMITH":             "Jane Smith",
			"smith, jane":            "Jane Smith",
			"smithson":               "James Smithson",
			"jones":                  "John Smith-Jones",
			"Ng":                     "Phuong Ng",
			"o'brien":                "Siobhán O'Brien",
			"obr sio":                "Siobhán O'Brien",
			"O’Brien":                "Siobhán O'Brien",
			"jose muller":            "José Müller",
			"José Müller":            "José Müller",
			"de la cruz":             "Ada  de la Cruz",
			"cruz ada":               "Ada  de la Cruz",
			"李小":                     "李小龍",
			"asa ang":                "Åsa Ångström",
			"Bo":                     "Bo",
			"smi x":                  "James Smithson, Jane Smith, John Smith-Jones", // a word of one letter says nothing
			"mith":                   "",
			"smithsonianinstitution": "",
			"nobody":                 "",
			"%":                      "!",
			"s":                      "!",
			"":                       "!",
		} {
			if want == "!" {
				if err := db.WithContext(ctx).Where(storage.Match("Name", query)).Find(&[]Patient{}).Error; !errors.Is(err, storage.ErrRefused) {
					t.Errorf("Match(Name, %q) = %v, want ErrRefused", query, err)
				}
				continue
			}
			if got := search("Name", query); got != want {
				t.Errorf("Match(Name, %q) found %q, want %q", query, got, want)
			}
		}
		for _, query := range []string{"MRN-000003", "mrn 000003", " mrn000003 ", "ＭＲＮ－000003"} {
			if got := search("MRN", query); got != "Phuong Ng" {
				t.Errorf("Match(MRN, %q) found %q", query, got)
			}
		}
		for _, query := range []string{"MRN-00000", "000003", "MRN-0000033"} {
			if got := search("MRN", query); got != "" {
				t.Errorf("Match(MRN, %q) found %q", query, got)
			}
		}
		if got := search("BirthDate", "1980-01-04"); got != "Phuong Ng" {
			t.Errorf("Match(BirthDate) found %q", got)
		}

		// Recorded as a search, with the patients it found.
		db.Trail.Reset()
		search("Name", "ng")
		var id string
		for k, v := range people {
			if v == "Phuong Ng" {
				id = k
			}
		}
		audittest.Want(t, db.Trail, audit.Event{Type: audit.Searched, Action: access.Search, Count: 1, Objects: []audit.Object{{Record: id, Patient: id, Fields: []string{"Name", "NextVisit"}}}})
		audittest.NoPHI(t, fmt.Appendf(nil, "%+v", db.Trail.Events()), "Phuong", "phuong")

		// Another tenant finds nothing, and somebody who may not search neither.
		other := accesstest.AsIn(t, t.Context(), "t-other", "physician", access.Treatment)
		var none []Patient
		if err := db.WithContext(other).Where(storage.Match("Name", "smith")).Find(&none).Error; err != nil || len(none) != 0 {
			t.Errorf("another tenant finds %d, %v", len(none), err)
		}
		if err := db.WithContext(accesstest.As(t, t.Context(), "admin", access.SystemAdmin)).Where(storage.Match("Name", "smith")).Find(&none).Error; err == nil {
			t.Error("an admin may search names")
		}
	})
}

// tokens returns what the index holds of one record's field.
func tokens(t *testing.T, d gorm.Dialector, field, id string) (all [][]byte) {
	t.Helper()
	rows, err := admin(t, d).Query("SELECT token, unique_token FROM phi_index WHERE field = '" + field + "' AND record_id = '" + id + "'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var a, b []byte
		if err := rows.Scan(&a, &b); err != nil {
			t.Fatal(err)
		}
		if len(a) != 32 || b != nil && len(b) != 32 {
			t.Errorf("tokens of %d and %d bytes", len(a), len(b))
		}
		all = append(all, a)
		if b != nil {
			all = append(all, b)
		}
	}
	return all
}

func TestTokensTellNothing(t *testing.T) {
	t.Parallel()
	d := openSQLite(t)
	db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{})
	ctx := physician(t)
	mine := func(p Patient) string { return created(t, db, ctx, p).ID }
	for name, want := range map[string]int{
		"Bo": 8, "Ng Li": 8, "Jane Roe": 8, "Jane Smith": 16, "Jonathan Smith": 16, "Alexandria Smithson": 32,
		"Alexandria Catherine Smithson-Montgomery":                                64,
		"Maximiliana Alexandria Catherine Wilhelmina Smithson-Montgomery Pereira": 128,
		"": 8,
	} {
		id := mine(Patient{Name: storage.Seal(name)})
		got := tokens(t, d, "patients.name", id)
		if len(got) != want {
			t.Errorf("%d tokens for a name of %d letters, want %d", len(got), len(name), want)
		}
	}
	if got := tokens(t, d, "patients.name", mine(Patient{MRN: storage.Seal("MRN-000001")})); len(got) != 0 {
		t.Errorf("%d tokens for a NULL", len(got))
	}
	// Equal values have equal tokens in a tenant, other ones in another; kinds
	// and fields differ; the random ones are new each time.
	a, b := mine(Patient{Name: storage.Seal("Jane Roe"), BirthDate: storage.Seal("2001-01-01")}), mine(Patient{Name: storage.Seal("Jane Roe"), BirthDate: storage.Seal("2001-01-01")})
	other := accesstest.AsIn(t, t.Context(), "t-other", "physician", access.Treatment)
	c := created(t, db, other, Patient{Name: storage.Seal("Jane Roe"), BirthDate: storage.Seal("2001-01-01")}).ID
	shared := func(x, y [][]byte) (n int) {
		for _, v := range x {
			if slices.ContainsFunc(y, func(w []byte) bool { return bytes.Equal(v, w) }) {
				n++
			}
		}
		return n
	}
	if n := shared(tokens(t, d, "patients.name", a), tokens(t, d, "patients.name", b)); n != 8 { // ja jan jane ro roe, and how they sound: j can be read in two ways
		t.Errorf("two Jane Roes share %d tokens, want 8", n)
	}
	if n := shared(tokens(t, d, "patients.birth_date", a), tokens(t, d, "patients.birth_date", b)); n != 1 {
		t.Errorf("two equal dates share %d tokens, want 1", n)
	}
	if n := shared(tokens(t, d, "patients.name", a), tokens(t, d, "patients.name", c)); n != 0 {
		t.Errorf("two tenants share %d tokens", n)
	}
	// Nothing in the table is or holds plaintext.
	var dump []byte
	rows, err := admin(t, d).Query("SELECT * FROM phi_index")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		v := make([]any, 7)
		p := make([]any, 7)
		for i := range v {
			p[i] = &v[i]
		}
		if err := rows.Scan(p...); err != nil {
			t.Fatal(err)
		}
		dump = fmt.Appendf(dump, "%s|%v|%x\n", v, v, v)
	}
	audittest.NoPHI(t, dump, "Jane", "jane", "Smith", "smith", "2001-01-01", "20010101", "Alexandria", "alexandria")
}

func TestShuffledTokensKeepTheirOrderSecret(t *testing.T) {
	t.Parallel()
	d := openSQLite(t)
	db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{})
	ctx := physician(t)
	raw := admin(t, d)
	// rowid is the order of insertion. With eight tokens the shortest prefix
	// stands first in one of eight records by chance.
	firsts := map[string]int{}
	for range 16 {
		id := created(t, db, ctx, Patient{Name: storage.Seal("Jane Roe")}).ID
		var token []byte
		if err := raw.QueryRow("SELECT token FROM phi_index WHERE field = 'patients.name' AND record_id = ? ORDER BY rowid LIMIT 1", id).Scan(&token); err != nil {
			t.Fatal(err)
		}
		firsts[string(token)]++
	}
	for _, n := range firsts {
		if n == 16 {
			t.Error("the same token stands first in each record: they are not shuffled")
		}
	}
}

func TestUnique(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Patient{}, &Encounter{})
		ctx := physician(t)
		a := created(t, db, ctx, jane())
		b := created(t, db, ctx, Patient{MRN: storage.Seal("MRN-777777"), Name: storage.Seal("Second Person")})
		created(t, db, ctx, Patient{})
		created(t, db, ctx, Patient{}) // NULLs are not equal
		says := func(name string, err error) {
			t.Helper()
			if !errors.Is(err, storage.ErrDuplicate) {
				t.Errorf("%s = %v, want ErrDuplicate", name, err)
				return
			}
			for _, s := range []string{a.ID, a.ID[:8], "MRN", "123456", "phi_index", "t-test"} {
				if strings.Contains(err.Error(), s) {
					t.Errorf("%s: the error names %q: %v", name, s, err)
				}
			}
		}
		dup := Patient{MRN: storage.Seal("mrn 123456")}
		says("Create", db.WithContext(ctx).Create(&dup).Error)
		says("Create of a batch", db.WithContext(ctx).Create(&[]Patient{{MRN: storage.Seal("MRN-5")}, {MRN: storage.Seal("MRN-5")}}).Error)
		b.MRN = storage.Seal("MRN-123456")
		says("Save", db.WithContext(ctx).Save(&b).Error)
		says("Update", db.WithContext(ctx).Model(&Patient{}).Where("id = ?", b.ID).Update("MRN", storage.Seal("MRN-123456")).Error)
		var n int64
		if err := db.WithContext(ctx).Model(&Patient{}).Count(&n).Error; err != nil || n != 4 {
			t.Errorf("%d rows, %v; want 4", n, err)
		}
		other := accesstest.AsIn(t, t.Context(), "t-other", "physician", access.Treatment)
		created(t, db, other, jane())
		// A value that was given up can be taken.
		a.MRN = storage.Seal("MRN-999999")
		if err := db.WithContext(ctx).Save(&a).Error; err != nil {
			t.Fatal(err)
		}
		if err := db.WithContext(ctx).Save(&b).Error; err != nil {
			t.Errorf("Save of a value that is free = %v", err)
		}
		if err := db.WithContext(ctx).Delete(&a).Error; err != nil {
			t.Fatal(err)
		}
		if err := db.WithContext(ctx).Create(&Patient{MRN: storage.Seal("MRN-999999")}).Error; err != nil {
			t.Errorf("Create of a deleted record's value = %v", err)
		}
	})
}

func TestTokensFollowTheData(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Patient{}, &Encounter{})
		ctx := physician(t)
		p := created(t, db, ctx, jane())
		before := tokens(t, d, "patients.mrn", p.ID)
		finds := func(field, query string, want int) {
			t.Helper()
			var n int64
			if err := db.WithContext(ctx).Model(&Patient{}).Where(storage.Match(field, query)).Count(&n).Error; err != nil || n != int64(want) {
				t.Errorf("Match(%s, %q) counts %d, %v; want %d", field, query, n, err, want)
			}
		}
		p.Name = storage.Seal("Maria Roe")
		if err := db.WithContext(ctx).Save(&p).Error; err != nil {
			t.Fatal(err)
		}
		finds("Name", "jane", 0)
		finds("Name", "maria", 1)
		finds("MRN", "MRN-123456", 1)
		if got := tokens(t, d, "patients.mrn", p.ID); len(got) != len(before) || !slices.EqualFunc(got, before, bytes.Equal) {
			t.Error("tokens of a field that was not written changed")
		}
		_ = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Model(&Patient{}).Where("id = ?", p.ID).Update("Name", storage.Seal("Petra Roe")).Error; err != nil {
				t.Error(err)
			}
			if err := tx.Create(&Patient{Name: storage.Seal("Petra Two")}).Error; err != nil {
				t.Error(err)
			}
			var n int64
			if err := tx.Model(&Patient{}).Where(storage.Match("Name", "petra")).Count(&n).Error; err != nil || n != 2 {
				t.Errorf("in the transaction %d, %v; want 2", n, err)
			}
			return errors.New("no")
		})
		finds("Name", "petra", 0)
		finds("Name", "maria", 1)
		if err := db.WithContext(ctx).Model(&Patient{}).Where("id = ?", p.ID).Update("Name", nil).Error; err != nil {
			t.Fatal(err)
		}
		finds("Name", "maria", 0)
		finds("MRN", "MRN-123456", 1)
		if err := db.WithContext(ctx).Delete(&Patient{}, "id = ?", p.ID).Error; err != nil {
			t.Fatal(err)
		}
		finds("MRN", "MRN-123456", 0)
		if got := tokens(t, d, "patients.mrn", p.ID); len(got) != 0 {
			t.Errorf("%d tokens of a deleted record", len(got))
		}
	})
}
