// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/minimize/minimizetest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

type (
	mrn   string
	photo []byte
	visit struct {
		Ward string
		Days []int
		Seen *storage.Date
	}
)

// allKinds has a Sealed of each kind of T, padded and not.
type allKinds struct {
	storage.PatientRecord
	S  storage.Sealed[string]         `phi:"text,pad"`
	N  storage.Sealed[mrn]            `phi:"mrn,search=exact"`
	B  storage.Sealed[[]byte]         `phi:"photo"`
	P  storage.Sealed[photo]          `phi:"photo,pad=16"`
	I  storage.Sealed[int64]          `phi:"clinical"`
	U  storage.Sealed[uint8]          `phi:"clinical,pad"`
	F  storage.Sealed[float64]        `phi:"clinical"`
	O  storage.Sealed[bool]           `phi:"clinical"`
	T  storage.Sealed[time.Time]      `phi:"date"`
	D  storage.Sealed[storage.Date]   `phi:"dob,search=exact,pad"`
	V  storage.Sealed[visit]          `phi:"clinical"`
	VP storage.Sealed[*visit]         `phi:"clinical"`
	L  storage.Sealed[[]string]       `phi:"clinical"`
	M  storage.Sealed[map[string]int] `phi:"clinical"`
	C  storage.Date                   `phi:"date,clear"`
}

func TestEveryKindOfValueOnEveryDatabase(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access = accesstest.Allow() }, &allKinds{})
		ctx := physician(t)
		dob := storage.Date{Year: 1980, Month: time.March, Day: 4}
		when := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
		x := allKinds{
			S: storage.Seal("ü\x00\xff"), N: storage.Seal(mrn("MRN-7")), B: storage.Seal([]byte{0, 0xF8, 0xFF}), P: storage.Seal(photo{0xF8, 0x80, 0}),
			I: storage.Seal(int64(math.MinInt64)), U: storage.Seal(uint8(0)), F: storage.Seal(math.Copysign(0, -1)), O: storage.Seal(false),
			T: storage.Seal(when), D: storage.Seal(dob), V: storage.Seal(visit{"ICU", []int{1}, &dob}), VP: storage.Seal((*visit)(nil)),
			L: storage.Seal([]string(nil)), M: storage.Seal(map[string]int{}), C: dob,
		}
		if err := db.WithContext(ctx).Create(&x).Error; err != nil {
			t.Fatal(err)
		}
		var y allKinds
		if err := db.WithContext(ctx).Where(storage.Match("D", "1980-03-04")).Where(storage.Match("N", "mrn7")).Take(&y).Error; err != nil {
			t.Fatal(err)
		}
		if err := storage.Reveal(ctx, &y); err != nil {
			t.Fatal(err)
		}
		holds(t, ctx, y.S, "ü\x00\xff")
		holds(t, ctx, y.N, "MRN-7")
		holds(t, ctx, y.B, []byte{0, 0xF8, 0xFF})
		holds(t, ctx, y.P, photo{0xF8, 0x80, 0})
		holds(t, ctx, y.I, math.MinInt64)
		holds(t, ctx, y.U, 0)
		holds(t, ctx, y.O, false)
		holds(t, ctx, y.D, dob)
		holds(t, ctx, y.V, visit{"ICU", []int{1}, &dob})
		holds(t, ctx, y.VP, nil)
		holds(t, ctx, y.L, nil)
		holds(t, ctx, y.M, map[string]int{})
		if f, err := y.F.Get(ctx); err != nil || f != 0 || !math.Signbit(f) {
			t.Errorf("negative zero = %v, %v", f, err)
		}
		if w, err := y.T.Get(ctx); err != nil || !w.Equal(when) || w.Format(time.RFC3339Nano) != when.Format(time.RFC3339Nano) {
			t.Errorf("time = %v, %v", w, err)
		}
		if y.C != dob {
			t.Errorf("the date in clear = %v", y.C)
		}
		if got := y.D.Text(ctx); got != "1980-03-04" {
			t.Errorf("text of the date = %q", got)
		}
		none, read := allKinds{}, allKinds{}
		if err := errors.Join(db.WithContext(ctx).Create(&none).Error, db.WithContext(ctx).Take(&read, "id = ?", none.ID).Error); err != nil || !read.C.IsZero() || !read.D.IsNull() {
			t.Errorf("a row of NULLs = %v, %v, %v", read.C, read.D.IsNull(), err)
		}
	})
}

func holds[T any](t *testing.T, ctx context.Context, s storage.Sealed[T], want T) {
	t.Helper()
	if got, err := s.Get(ctx); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%#v, %v; want %#v", got, err, want)
	}
}

// What is sealed is the value of the moment: the app's later changes, and those
// of what Get returned, do not reach it.
func TestASealedValueIsItsOwn(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &allKinds{})
	ctx := physician(t)
	days := []int{1, 2}
	raw := photo{1, 2}
	x := allKinds{V: storage.Seal(visit{Days: days}), P: storage.Seal(raw)}
	days[0], raw[0] = 9, 9
	if err := db.WithContext(ctx).Create(&x).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(ctx, &x); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		v, err := x.V.Get(ctx)
		p, perr := x.P.Get(ctx)
		if err != nil || perr != nil || v.Days[0] != 1 || p[0] != 1 {
			t.Fatalf("%v, %v, %v, %v", v, err, p, perr)
		}
		v.Days[0], p[0] = 9, 9
	}
}

func TestAValueWithoutAnEncodingIsNotWritten(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &allKinds{})
	ctx := physician(t)
	for field, x := range map[string]allKinds{
		"F": {F: storage.Seal(math.NaN())},
		"T": {T: storage.Seal(time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC))},
		"D": {D: storage.Seal(storage.Date{Year: 2026, Month: 2, Day: 30})},
	} {
		if err := db.WithContext(ctx).Create(&x).Error; err == nil || !strings.Contains(err.Error(), "field "+field) {
			t.Errorf("%s: Create = %v", field, err)
		}
	}
	var n int64
	if err := db.WithContext(ctx).Model(&allKinds{}).Count(&n).Error; err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func TestMigrateRefusesATypeThatCannotBeReadBack(t *testing.T) {
	t.Parallel()
	type odd struct {
		storage.PatientRecord
		Callback storage.Sealed[func()] `phi:"text"`
	}
	type loose struct {
		storage.PatientRecord
		Thing storage.Sealed[map[string]struct{ in string }] `phi:"text"`
	}
	db := storagetest.NewDB(t)
	for field, m := range map[string]any{"Callback": &odd{}, "Thing": &loose{}} {
		if err := storage.Migrate(t.Context(), db.DB, m); err == nil || !strings.Contains(err.Error(), "field "+field) {
			t.Errorf("Migrate = %v, want an error that names %s", err, field)
		}
	}
}

// A date of birth that was a text may become a Date, and go back.
func TestATextDateAndADateReadEachOther(t *testing.T) {
	t.Parallel()
	type asText struct {
		storage.PatientRecord
		BirthDate storage.Sealed[string] `phi:"dob,as=people.dob"`
	}
	type asDate struct {
		storage.PatientRecord
		BirthDate storage.Sealed[storage.Date] `phi:"dob,as=people.dob,pad"`
	}
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &asText{}, &asDate{})
	ctx := physician(t)
	raw, err := db.DB.DB()
	if err != nil {
		t.Fatal(err)
	}
	text := asText{BirthDate: storage.Seal("1980-03-04")}
	if err := db.WithContext(ctx).Create(&text).Error; err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Exec("INSERT INTO as_dates SELECT * FROM as_texts"); err != nil {
		t.Fatal(err)
	}
	var date asDate
	if err := db.WithContext(ctx).Take(&date).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(ctx, &date); err != nil {
		t.Fatal(err)
	}
	holds(t, ctx, date.BirthDate, storage.Date{Year: 1980, Month: 3, Day: 4})
	if err := db.WithContext(ctx).Model(&date).Update("BirthDate", storage.Seal(storage.Date{Year: 1981, Month: 3, Day: 4})).Error; err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Exec("UPDATE as_texts SET birth_date = (SELECT birth_date FROM as_dates)"); err != nil {
		t.Fatal(err)
	}
	if err := db.WithContext(ctx).Take(&text).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(ctx, &text); err != nil {
		t.Fatal(err)
	}
	holds(t, ctx, text.BirthDate, "1981-03-04")
}

type (
	padded struct {
		storage.PatientRecord
		V storage.Sealed[string] `phi:"name,pad=32,search=exact"`
	}
	unpadded struct {
		storage.PatientRecord
		V storage.Sealed[string] `phi:"name,search=exact"`
	}
	repadded struct {
		storage.PatientRecord
		V storage.Sealed[string] `phi:"name,pad=100,search=exact"`
	}
)

func (padded) TableName() string   { return "lengths" }
func (unpadded) TableName() string { return "lengths" }
func (repadded) TableName() string { return "lengths" }

func TestPaddingHidesTheLength(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &padded{})
	ctx := physician(t)
	for text, want := range map[string]int{"": 32, "a": 32, strings.Repeat("a", 30): 32, strings.Repeat("a", 31): 64, strings.Repeat("é", 50): 128} {
		x := padded{V: storage.Seal(text)}
		if err := db.WithContext(ctx).Create(&x).Error; err != nil {
			t.Fatal(err)
		}
		if n := len(storagetest.RawColumn(t, db.DB, "lengths", "v", x.ID)) - crypto.CellOverhead; n != want {
			t.Errorf("%d bytes are stored as %d, want %d", len(text), n, want)
		}
		if err := storage.Reveal(ctx, &x); err != nil {
			t.Fatal(err)
		}
		shows(t, ctx, x.V, text)
	}
	var found padded
	if err := db.WithContext(ctx).Where(storage.Match("V", "A")).Take(&found).Error; err != nil {
		t.Errorf("a padded value is not found: %v", err)
	}
}

// pad may come, change and go: each cell says by itself how it was padded.
func TestPaddingChangesOverCellsThatAreThere(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		kek := oneKEK()
		ids := map[string]int{} // record to the length of its cell
		ctx := physician(t)
		first := storagetest.Open(t, d, kek, &unpadded{})
		a := unpadded{V: storage.Seal("Jane Roe")}
		if err := first.WithContext(ctx).Create(&a).Error; err != nil {
			t.Fatal(err)
		}
		ids[a.ID] = 8
		second := storagetest.Open(t, d, kek, &padded{})
		b := padded{V: storage.Seal("Jane Roe")}
		if err := second.WithContext(ctx).Create(&b).Error; err != nil {
			t.Fatal(err)
		}
		ids[b.ID] = 32
		third := storagetest.Open(t, d, kek, &repadded{})
		c := repadded{V: storage.Seal("Jane Roe")}
		if err := third.WithContext(ctx).Create(&c).Error; err != nil {
			t.Fatal(err)
		}
		ids[c.ID] = 100
		for id, want := range ids {
			if n := len(storagetest.RawColumn(t, third.DB, "lengths", "v", id)) - crypto.CellOverhead; n != want {
				t.Errorf("a cell of %d bytes, want %d", n, want)
			}
		}
		read := func(db *storagetest.DB) {
			t.Helper()
			var x []unpadded
			var y []padded
			var z []repadded
			var err error
			switch db {
			case first:
				err = errors.Join(db.WithContext(ctx).Find(&x).Error, storage.Reveal(ctx, &x))
			case second:
				err = errors.Join(db.WithContext(ctx).Find(&y).Error, storage.Reveal(ctx, &y))
			default:
				err = errors.Join(db.WithContext(ctx).Find(&z).Error, storage.Reveal(ctx, &z))
			}
			if err != nil || len(x)+len(y)+len(z) != 3 {
				t.Fatalf("%d rows, %v", len(x)+len(y)+len(z), err)
			}
			for _, r := range x {
				shows(t, ctx, r.V, "Jane Roe")
			}
			for _, r := range y {
				shows(t, ctx, r.V, "Jane Roe")
			}
			for _, r := range z {
				shows(t, ctx, r.V, "Jane Roe")
			}
		}
		read(first)
		read(second)
		read(third)
	})
}

// oneKEK makes several databases open with one key.
func oneKEK() func(*storage.Config) {
	kek := cryptotest.NewKEK()
	return func(c *storage.Config) { c.KEK, c.NewID, c.Access = kek, nil, accesstest.Allow() }
}

// A stored mask of a padded or typed value is still no input.
func TestWhatWasShownOfATypedValueIsNoInput(t *testing.T) {
	t.Parallel()
	type thing struct {
		storage.PatientRecord
		Code storage.Sealed[mrn] `phi:"mrn,pad"`
	}
	pol := minimizetest.Policy(t, "nurse", access.Treatment, minimize.Mask, minimize.Change, minimize.MRN)
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Minimize, c.Access = pol, accesstest.Allow() }, &thing{})
	nurse := accesstest.As(t, t.Context(), "nurse", access.Treatment)
	x := thing{Code: storage.Seal(mrn("MRN-1234567"))}
	if err := db.WithContext(nurse).Create(&x).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(nurse, &x); err != nil {
		t.Fatal(err)
	}
	shown := x.Code.Text(nurse)
	if shown != "***567" {
		t.Fatalf("mask = %q", shown)
	}
	err := db.WithContext(nurse).Model(&x).Update("Code", storage.Seal(mrn(shown))).Error
	if !errors.Is(err, storage.ErrNotPermitted) {
		t.Errorf("a mask as input = %v", err)
	}
	var in struct {
		A storage.Sealed[storage.Date]
		B storage.Sealed[int]
		C storage.Sealed[[]string]
	}
	for _, body := range []string{`{"A":"[PHI:dob]"}`, `{"B":"[PHI]"}`, `{"C":"[PHI:text]"}`} {
		if err := json.Unmarshal([]byte(body), &in); !errors.Is(err, storage.ErrNotPermitted) {
			t.Errorf("%s = %v", body, err)
		}
	}
	for _, body := range []string{`{"A":"1980-02-30"}`, `{"A":19800304}`, `{"B":"Zebediah"}`, `{"B":1.5}`} {
		if err := json.Unmarshal([]byte(body), &in); err == nil || strings.Contains(err.Error(), "Zebediah") || strings.Contains(err.Error(), "02-30") {
			t.Errorf("%s = %v", body, err)
		}
	}
	if err := json.Unmarshal([]byte(`{"A":"1980-03-04","B":null,"C":["x"]}`), &in); err != nil || !in.B.IsNull() || !in.A.Equal(storage.Seal(storage.Date{Year: 1980, Month: 3, Day: 4})) {
		t.Errorf("good input = %v", err)
	}
}

// Equal opens nothing: what a caller may see of a cell does not change what it
// equals.
func TestEqualTellsNothingOfWhatIsHidden(t *testing.T) {
	t.Parallel()
	pol := minimizetest.Policy(t, "nurse", access.Treatment, minimize.Withhold, minimize.Change, minimize.Name)
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Minimize, c.Access = pol, accesstest.Allow() }, &valueName{})
	nurse := accesstest.As(t, t.Context(), "nurse", access.Treatment)
	read := func(id string, columns ...string) storage.Sealed[string] {
		t.Helper()
		var x valueName
		q := db.WithContext(nurse)
		if len(columns) > 0 {
			q = q.Select(columns)
		}
		if err := q.Take(&x, "id = ?", id).Error; err != nil {
			t.Fatal(err)
		}
		return x.V
	}
	revealed := func(id string) storage.Sealed[string] {
		t.Helper()
		var x valueName
		if err := errors.Join(db.WithContext(nurse).Take(&x, "id = ?", id).Error, storage.Reveal(nurse, &x)); err != nil {
			t.Fatal(err)
		}
		return x.V
	}
	var ids []string
	for _, v := range []storage.Sealed[string]{storage.Seal("Jane Roe"), storage.Seal("Jane Roe"), {}, {}} {
		x := valueName{V: v}
		if err := db.WithContext(nurse).Create(&x).Error; err != nil {
			t.Fatal(err)
		}
		ids = append(ids, x.ID)
	}
	unread := []string{"id", "tenant_id", "version"}
	for name, c := range map[string]struct {
		a, b storage.Sealed[string]
		want bool
	}{
		"sealed and withheld":           {read(ids[0]), revealed(ids[0]), true},
		"withheld twice":                {revealed(ids[0]), revealed(ids[0]), true},
		"withheld, same text elsewhere": {revealed(ids[0]), revealed(ids[1]), false},
		"withheld and its text":         {revealed(ids[0]), storage.Seal("Jane Roe"), false},
		"withheld NULL twice":           {revealed(ids[2]), revealed(ids[2]), true},
		"withheld NULLs of two records": {revealed(ids[2]), revealed(ids[3]), false},
		"withheld and withheld NULL":    {revealed(ids[0]), revealed(ids[2]), false},
		"withheld NULL and empty":       {revealed(ids[2]), storage.Seal(""), false},
		"not selected twice":            {read(ids[0], unread...), read(ids[0], unread...), true},
		"not selected of two records":   {read(ids[0], unread...), read(ids[1], unread...), false},
		"not selected and withheld":     {read(ids[2], unread...), revealed(ids[2]), false},
		"not selected and sealed":       {read(ids[0], unread...), read(ids[0]), false},
	} {
		if c.a.Equal(c.b) != c.want || c.b.Equal(c.a) != c.want {
			t.Errorf("%s: Equal is not %v", name, c.want)
		}
	}
	bad := storage.Seal(math.NaN())
	if bad.Equal(storage.Seal(math.NaN())) || !bad.Equal(bad) {
		t.Error("a value without an encoding equals another")
	}
}

// BenchmarkSealedMemory measures what one field of one row read through storage
// takes beside its stored bytes, sealed and revealed. It fills memory once,
// whatever b.N.
func BenchmarkSealedMemory(b *testing.B) {
	const rows, fields = 1000, 5 // of Patient
	db := storagetest.NewDBWith(b, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Patient{})
	ctx := accesstest.As(b, b.Context(), "physician", access.Treatment)
	batch := make([]Patient, rows)
	for i := range batch {
		text := storage.Seal(fmt.Sprintf("%032d", i))
		batch[i] = Patient{MRN: text, Name: text, SSN: text, BirthDate: text, Notes: text}
	}
	if err := db.WithContext(ctx).Select("MRN", "Name", "SSN", "BirthDate").Create(&batch).Error; err != nil {
		b.Fatal(err)
	}
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	if err := db.WithContext(ctx).Find(&[]Patient{}).Error; err != nil { // fills the caches
		b.Fatal(err)
	}
	before := heap()
	var read []Patient
	if err := db.WithContext(ctx).Find(&read).Error; err != nil {
		b.Fatal(err)
	}
	sealed := heap()
	if err := storage.Reveal(ctx, &read); err != nil {
		b.Fatal(err)
	}
	revealed := heap()
	runtime.KeepAlive(read)
	runtime.KeepAlive(batch)
	b.ReportMetric((sealed-before)/rows/(fields-1), "sealed-B/field")
	b.ReportMetric((revealed-before)/rows/(fields-1), "revealed-B/field")
	b.ReportMetric(0, "ns/op")
}
