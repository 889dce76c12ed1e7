// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/minimize/minimizetest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
	"github.com/part164/part164/storage/storagetest"
)

func config(t testing.TB) storage.Config {
	t.Helper()
	return storage.Config{KEK: cryptotest.NewKEK(), Audit: audittest.New(t), Access: rbac.Starter(), Minimize: minimize.Starter()}
}

func TestNewNamesTheBadField(t *testing.T) {
	t.Parallel()
	file, err := crypto.LocalKEK(filepath.Join(t.TempDir(), "kek.json"))
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*storage.Config){
		"Config.KEK is nil":            func(c *storage.Config) { c.KEK = nil },
		"Config.Audit is nil":          func(c *storage.Config) { c.Audit = nil },
		"Config.Access is nil":         func(c *storage.Config) { c.Access = nil },
		"Config.Minimize is nil":       func(c *storage.Config) { c.Minimize = nil },
		"Config.RevealTTL is negative": func(c *storage.Config) { c.RevealTTL = -1 },
		"Config.KeyBound is negative":  func(c *storage.Config) { c.KeyBound = -1 },
		"Config.Deviations[0]":         func(c *storage.Config) { c.Deviations = []access.Deviation{{Citation: "x"}} },
		"Config.KEK is a file":         func(c *storage.Config) { c.KEK = file },
		"Config.KEK is a file: use":    func(c *storage.Config) { c.KEK = crypto.RotatingKEK(c.KEK, file) },
	} {
		cfg := config(t)
		change(&cfg)
		if _, err := storage.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want %q", err, want)
		}
		if _, err := storage.Open(openSQLite(t), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v, want %q", err, want)
		}
	}
}

func TestAFileKEKWithADeviation(t *testing.T) {
	t.Parallel()
	file, err := crypto.LocalKEK(filepath.Join(t.TempDir(), "kek.json"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	trail := audittest.New(t)
	cfg.KEK, cfg.Audit = file, trail
	cfg.Deviations = []access.Deviation{{Citation: "164.312(a)(2)(iv)", Reason: "no KMS on the ward", Alternative: "the key is on a smart card reader's volume", Owner: "security", ReviewBy: time.Now().AddDate(1, 0, 0)}}
	if _, err := storage.Open(openSQLite(t), cfg); !errors.Is(err, crypto.ErrNoKeyFile) {
		t.Errorf("Open without its file = %v, want ErrNoKeyFile: production makes no keys", err)
	}
	if err := file.Generate(); err != nil {
		t.Fatal(err)
	}
	db, err := storage.Open(openSQLite(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, db)
	audittest.Want(t, trail, audit.Event{Type: audit.Deviation, Reason: audit.ReasonKeyLocation, Citation: "164.312(a)(2)(iv)"})
}

func closed(t testing.TB, db *gorm.DB) {
	t.Helper()
	if err := storage.Close(db); err != nil {
		t.Errorf("Close = %v", err)
	}
}

func TestAKeyFileThatIsMissingOrWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "keys", "kek.json")
	d := sqlite.Open(filepath.Join(dir, "app.db"))
	ctx := physician(t)
	open := func(path string) (*gorm.DB, error) {
		kek, err := crypto.LocalKEK(path)
		if err != nil {
			t.Fatal(err)
		}
		cfg := config(t)
		cfg.KEK, cfg.Development = kek, true
		return storage.Open(d, cfg)
	}
	db, err := open(path) // a new development database makes it
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
	if err := storage.Migrate(ctx, db, &Patient{}); err != nil {
		t.Fatal(err)
	}
	p := jane()
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		t.Fatal(err)
	}
	closed(t, db)
	// Another key.
	if _, err := open(filepath.Join(dir, "keys", "other.json")); err == nil || !errors.Is(err, crypto.ErrNoKeyFile) {
		t.Errorf("Open with a missing key file over existing data = %v, want ErrNoKeyFile", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "keys", "other.json")); err == nil {
		t.Error("it made a key file beside existing data")
	}
	wrong, err := crypto.LocalKEK(filepath.Join(dir, "keys", "wrong.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := wrong.Generate(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(wrong.Path()); !errors.Is(err, crypto.ErrUnwrap) || !strings.Contains(err.Error(), "Config.KEK") {
		t.Errorf("Open with another key file = %v, want ErrUnwrap that names Config.KEK", err)
	}
	cfg := config(t)
	if _, err := storage.Open(d, cfg); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("Open with another KEK = %v, want ErrUnwrap", err)
	}
	// The right one again.
	db, err = open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, db)
	var q Patient
	if err := storage.Migrate(ctx, db, &Patient{}); err != nil {
		t.Fatal(err)
	}
	if err := db.WithContext(ctx).Take(&q).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(ctx, &q); err != nil {
		t.Error(err)
	}
	shows(t, ctx, q.Name, "Jane Roe")
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte(strings.Repeat("this is no database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]gorm.Dialector{
		"no path":         sqlite.Open(""),
		"memory":          sqlite.Open(":memory:"),
		"memory by URI":   sqlite.Open("file::memory:?cache=shared"),
		"memory by mode":  sqlite.Open("x.db?mode=memory"),
		"a folder":        sqlite.Open(dir),
		"no database":     sqlite.Open(filepath.Join(dir, "text")),
		"below a file":    sqlite.Open(filepath.Join(dir, "text", "x.db")),
		"one connection":  oneConnection{openSQLite(t)},
		"failing dialect": failing{},
	} {
		db, err := storage.Open(d, config(t))
		if err == nil {
			t.Errorf("%s: Open succeeds", name)
			closed(t, db)
		}
		if name == "one connection" && (!errors.Is(err, storage.ErrRefused) || !strings.Contains(err.Error(), "MaxOpenConns")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	down := audittest.New(t)
	down.Fail(errors.New("disk full"))
	cfg := config(t)
	cfg.Audit, cfg.Development = down, true
	if _, err := storage.Open(openSQLite(t), cfg); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Open with a trail that cannot record its deviations = %v", err)
	}
	for name, db := range map[string]*gorm.DB{"nil": nil, "zero": {}, "plain": plainDB(t)} {
		if err := storage.Close(db); err == nil {
			t.Errorf("Close of a %s database succeeds", name)
		}
		if err := storage.Migrate(t.Context(), db, &Patient{}); err == nil {
			t.Errorf("Migrate of a %s database succeeds", name)
		}
		if err := storage.Settle(t.Context(), db); err == nil {
			t.Errorf("Settle of a %s database succeeds", name)
		}
		if _, err := storage.Sealer(db); err == nil {
			t.Errorf("Sealer of a %s database succeeds", name)
		}
	}
}

func plainDB(t *testing.T) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(openSQLite(t), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c, err := db.DB(); err == nil {
			_ = c.Close()
		}
	})
	return db
}

type oneConnection struct{ gorm.Dialector }

func (o oneConnection) Initialize(db *gorm.DB) error {
	if err := o.Dialector.Initialize(db); err != nil {
		return err
	}
	c, err := db.DB()
	if err != nil {
		return err
	}
	c.SetMaxOpenConns(1)
	return nil
}

type failing struct{ gorm.Dialector }

func (failing) Initialize(*gorm.DB) error { return errors.New("no network") }
func (failing) Name() string              { return "failing" }
func (failing) Explain(sql string, _ ...any) string {
	return sql
}

func TestDevelopmentIsRecorded(t *testing.T) {
	t.Parallel()
	trail := audittest.New(t)
	cfg := config(t)
	cfg.Audit, cfg.Development = trail, true
	db, err := storage.Open(openSQLite(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, db)
	audittest.Want(t, trail, audit.Event{Type: audit.Deviation, Reason: audit.ReasonDevelopment})
}

// TestEachDeviationIsRecordedAsWhatItIs: by its citation, and no other than
// development mode as development mode.
func TestEachDeviationIsRecordedAsWhatItIs(t *testing.T) {
	t.Parallel()
	trail := audittest.New(t)
	cfg := config(t)
	cfg.Audit = trail
	before := len(trail.Events())
	cfg.Deviations = append(cfg.Deviations, access.Deviation{Citation: "164.312(a)(2)(ii)", Reason: "no emergency access", Alternative: "the ward's paper procedure",
		Owner: "security official", ReviewBy: time.Now().AddDate(1, 0, 0)})
	db, err := storage.Open(openSQLite(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, db)
	got := map[string]audit.Reason{}
	for _, ev := range trail.Events()[before:] {
		if ev.Type == audit.Deviation {
			got[ev.Citation] = ev.Reason
		}
	}
	if reason, ok := got["164.312(a)(2)(ii)"]; !ok || reason != audit.ReasonNone {
		t.Errorf("recorded %v", got)
	}
}

func TestAnUnmigratedDatabaseFailsClearly(t *testing.T) {
	t.Parallel()
	db, err := storage.Open(openSQLite(t), config(t))
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, db)
	ctx := physician(t)
	p := jane()
	if err := db.WithContext(ctx).Create(&p).Error; err == nil || strings.Contains(err.Error(), "Jane") {
		t.Errorf("Create = %v", err)
	}
	if err := db.WithContext(ctx).Find(&[]Patient{}).Error; err == nil {
		t.Error("Find succeeds")
	}
}

// A statement whose context ends leaves nothing, and is recorded.
func TestACancelledRequestLeavesNothing(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	cctx, cancel := context.WithCancel(t.Context())
	ctx := accesstest.As(t, cctx, "physician", access.Treatment)
	p := jane()
	err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Create(&p).Error; err != nil {
			return err
		}
		cancel()
		return nil
	})
	if err == nil {
		t.Error("it committed after the request was cancelled")
	}
	var n int64
	if err := db.WithContext(physician(t)).Model(&Patient{}).Count(&n).Error; err != nil || n != 0 {
		t.Errorf("%d rows, %v; want none", n, err)
	}
	if err := storage.Settle(t.Context(), db.DB); err != nil {
		t.Error(err)
	}
	audittest.WantNone(t, db.Trail, audit.Event{Type: audit.Committed})
}

func TestSealer(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		kek := cryptotest.NewKEK()
		cfg := func(c *storage.Config) { c.KEK = kek }
		db := storagetest.Open(t, d, cfg)
		s, err := storage.Sealer(db.DB)
		if err != nil {
			t.Fatal(err)
		}
		b := crypto.Binding{Tenant: "t-1", Field: "totp", Record: "u-1"}
		cell, err := s.Seal(t.Context(), b, []byte("seed of a second factor"))
		if err != nil || bytes.Contains(cell, []byte("seed")) {
			t.Fatalf("Seal = %v", err)
		}
		cold, err := storage.Sealer(storagetest.Open(t, d, cfg).DB)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []crypto.Sealer{s, cold} {
			if p, err := x.Open(t.Context(), b, cell); err != nil || string(p) != "seed of a second factor" {
				t.Errorf("Open = %q, %v", p, err)
			}
			for name, o := range map[string]crypto.Binding{
				"tenant": {Tenant: "t-2", Field: "totp", Record: "u-1"}, "field": {Tenant: "t-1", Field: "x", Record: "u-1"},
				"record": {Tenant: "t-1", Field: "totp", Record: "u-2"}, "subject": {Tenant: "t-1", Field: "totp", Record: "u-1", Subject: "p"}, "nothing": {},
			} {
				if p, err := x.Open(t.Context(), o, cell); err == nil || p != nil {
					t.Errorf("it opens under another %s", name)
				}
				if _, err := x.Seal(t.Context(), crypto.Binding{Tenant: o.Tenant, Subject: "p"}, nil); err == nil {
					t.Error("it seals for a subject")
				}
			}
			for _, bad := range [][]byte{nil, {0}, cell[:10], append([]byte{0xFA}, cell[1:]...)} {
				if _, err := x.Open(t.Context(), b, bad); err == nil {
					t.Errorf("%d bytes open", len(bad))
				}
			}
		}
	})
}

func TestSealedKeepsTheContractOfValue(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &valueName{}, &valueSSN{})
	raw, err := db.DB.DB()
	if err != nil {
		t.Fatal(err)
	}
	stored := func(t *testing.T, ctx context.Context, c minimize.Class, s storage.Sealed[string], broken bool) func() *storage.Sealed[string] {
		t.Helper()
		if c == minimize.SSN {
			x := valueSSN{V: s}
			if err := db.WithContext(ctx).Create(&x).Error; err != nil {
				t.Fatal(err)
			}
			return func() *storage.Sealed[string] {
				y := valueSSN{}
				if err := db.WithContext(ctx).Take(&y, "id = ?", x.ID).Error; err != nil {
					t.Fatal(err)
				}
				return &y.V
			}
		}
		x := valueName{V: s}
		if err := db.WithContext(ctx).Create(&x).Error; err != nil {
			t.Fatal(err)
		}
		if broken {
			if _, err := raw.Exec("UPDATE value_names SET v = ? WHERE id = ?", append([]byte{0xF9, 1, 0, 0, 0, 1}, make([]byte, 40)...), x.ID); err != nil {
				t.Fatal(err)
			}
		}
		return func() *storage.Sealed[string] {
			y := valueName{}
			if err := db.WithContext(ctx).Take(&y, "id = ?", x.ID).Error; err != nil {
				t.Fatal(err)
			}
			return &y.V
		}
	}
	minimizetest.TestValue(t, minimizetest.Subject{
		Seal: func(t *testing.T, ctx context.Context, c minimize.Class, text string) (minimize.Value, func(context.Context) minimize.Value) {
			read := stored(t, ctx, c, storage.Seal(text), false)
			s := read()
			return *s, func(ctx context.Context) minimize.Value {
				v := *s
				if err := storage.Reveal(ctx, &v); err != nil {
					t.Fatal(err)
				}
				return v
			}
		},
		Null: func(t *testing.T, ctx context.Context, c minimize.Class) minimize.Value {
			return *stored(t, ctx, c, storage.Sealed[string]{}, false)()
		},
		Broken: func(t *testing.T, ctx context.Context, c minimize.Class) minimize.Value {
			s := stored(t, ctx, c, storage.Seal("x"), true)()
			var re *storage.RevealError
			if err := storage.Reveal(ctx, s); !errors.As(err, &re) {
				t.Fatalf("Reveal = %v", err)
			}
			return *s
		},
	})
}

type (
	valueName struct {
		storage.PatientRecord
		V storage.Sealed[string] `phi:"name"`
	}
	valueSSN struct {
		storage.PatientRecord
		V storage.Sealed[string] `phi:"ssn"`
	}
)

func TestSealedTypes(t *testing.T) {
	t.Parallel()
	type Visit struct {
		Ward string
		Days []int
	}
	type Many struct {
		storage.PatientRecord
		S storage.Sealed[string]         `phi:"text"`
		B storage.Sealed[[]byte]         `phi:"photo"`
		I storage.Sealed[int64]          `phi:"clinical"`
		F storage.Sealed[float64]        `phi:"clinical"`
		O storage.Sealed[bool]           `phi:"clinical"`
		T storage.Sealed[time.Time]      `phi:"date"`
		V storage.Sealed[Visit]          `phi:"clinical"`
		L storage.Sealed[[]string]       `phi:"clinical"`
		M storage.Sealed[map[string]int] `phi:"clinical"`
	}
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Many{})
	ctx := physician(t)
	when := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	raw := []byte{0, 1, 0xFF}
	m := Many{
		S: storage.Seal("ü\x00 '"), B: storage.Seal(raw), I: storage.Seal(int64(-1 << 60)), F: storage.Seal(0.1), O: storage.Seal(false),
		T: storage.Seal(when), V: storage.Seal(Visit{"ICU", []int{1, 2}}), L: storage.Seal([]string{"a"}), M: storage.Seal(map[string]int{"k": 1}),
	}
	if err := db.WithContext(ctx).Create(&m).Error; err != nil {
		t.Fatal(err)
	}
	var q Many
	if err := db.WithContext(ctx).Take(&q).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(ctx, &q); err != nil {
		t.Fatal(err)
	}
	shows(t, ctx, q.S, "ü\x00 '")
	if b, err := q.B.Get(ctx); err != nil || !bytes.Equal(b, []byte{0, 1, 0xFF}) {
		t.Errorf("B = %v, %v", b, err)
	} else {
		b[0] = 9 // the caller's copy
		if again, _ := q.B.Get(ctx); again[0] != 0 {
			t.Error("what Get returned is the cell's own bytes")
		}
	}
	if i, err := q.I.Get(ctx); err != nil || i != -1<<60 {
		t.Errorf("I = %v, %v", i, err)
	}
	if f, err := q.F.Get(ctx); err != nil || f != 0.1 {
		t.Errorf("F = %v, %v", f, err)
	}
	if o, err := q.O.Get(ctx); err != nil || o || q.O.IsNull() {
		t.Errorf("O = %v, %v", o, err)
	}
	if v, err := q.T.Get(ctx); err != nil || !v.Equal(when) {
		t.Errorf("T = %v, %v", v, err)
	}
	if v, err := q.V.Get(ctx); err != nil || v.Ward != "ICU" || len(v.Days) != 2 {
		t.Errorf("V = %v, %v", v, err)
	}
	if l, err := q.L.Get(ctx); err != nil || len(l) != 1 {
		t.Errorf("L = %v, %v", l, err)
	}
	if x, err := q.M.Get(ctx); err != nil || x["k"] != 1 {
		t.Errorf("M = %v, %v", x, err)
	}
	bad := Many{}
	type unmarshalable = func()
	_ = unmarshalable(nil)
	if err := db.WithContext(ctx).Create(&bad).Error; err != nil {
		t.Error(err)
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	a := created(t, db, ctx, jane())
	b := reread(t, db, ctx, a.ID)
	null := storage.Sealed[string]{}
	for name, x := range map[string]struct {
		a, b storage.Sealed[string]
		want bool
	}{
		"NULLs":              {null, null, true},
		"NULL and a value":   {null, a.Name, false},
		"the same cell":      {a.Name, a.Name, true},
		"the same bytes":     {a.Name, b.Name, true},
		"other cells":        {a.Name, a.SSN, false},
		"values not sealed":  {storage.Seal("a"), storage.Seal("a"), true},
		"others not sealed":  {storage.Seal("a"), storage.Seal("b"), false},
		"a value and a cell": {storage.Seal("Jane Roe"), a.Name, false},
	} {
		if x.a.Equal(x.b) != x.want || x.b.Equal(x.a) != x.want {
			t.Errorf("%s: Equal is not %v", name, x.want)
		}
	}
}
