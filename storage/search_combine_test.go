// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// Searchable has a field of each kind of index.
type Searchable struct {
	storage.PatientRecord
	Name    storage.Sealed[string]       `phi:"name,search=name"`
	Maiden  storage.Sealed[string]       `phi:"name,search=name"`
	Aliases storage.Sealed[[]string]     `phi:"name,search=name"`
	MRN     storage.Sealed[string]       `phi:"mrn,search=exact,unique"`
	Born    storage.Sealed[storage.Date] `phi:"dob,search=exact,search=year,guessable"`
	Seen    storage.Sealed[time.Time]    `phi:"date,search=exact"`
	Phone   storage.Sealed[string]       `phi:"phone,search=exact"`
	Email   storage.Sealed[string]       `phi:"email,search=exact"`
	Count   storage.Sealed[int]          `phi:"uid,search=exact"`
	Note    storage.Sealed[string]       `phi:"text,search=words"`
	SSN     storage.Sealed[string]       `phi:"ssn,search=exact"`
	Active  bool                         `phi:"-"`
	Deleted gorm.DeletedAt               `phi:"-"`
}

func (Searchable) ResourceType() string { return "patient" }

// found returns what q finds, as the labels of the records, in order.
func found(t *testing.T, q *gorm.DB, labels map[string]string) string {
	t.Helper()
	var rows []Searchable
	if err := q.Find(&rows).Error; err != nil {
		t.Errorf("Find: %v", err)
	}
	var out []string
	for _, r := range rows {
		out = append(out, labels[r.ID])
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func searchables(t *testing.T, db *storagetest.DB, ctx context.Context) map[string]string {
	t.Helper()
	labels := map[string]string{}
	for label, p := range map[string]Searchable{
		"jane": {Name: storage.Seal("Jane Smith"), Maiden: storage.Seal("Roe"), MRN: storage.Seal("MRN-1"), Born: storage.Seal(storage.Date{Year: 1980, Month: 3, Day: 7}), Phone: storage.Seal("(415) 555-2671"),
			Email: storage.Seal("Jane.Roe+x@Example.org"), Count: storage.Seal(-15), Note: storage.Seal("Café visit; the patient's knee (left) hurts. Knee!"), Active: true, Seen: storage.Seal(time.Date(2025, 12, 31, 23, 59, 0, 0, time.FixedZone("", -5*3600)))},
		"jon":   {Name: storage.Seal("Jon Smyth"), Aliases: storage.Seal([]string{"Johnny Smoke", "J. Smithers"}), MRN: storage.Seal("MRN-2"), Born: storage.Seal(storage.Date{Year: 1980, Month: 7, Day: 3}), Phone: storage.Seal("+44 20 7946 0958"), Count: storage.Seal(15)},
		"mary":  {Name: storage.Seal("Mary Smith-Jones"), Maiden: storage.Seal("Smith"), MRN: storage.Seal("MRN-3"), Note: storage.Seal("right knee"), Active: true},
		"phu":   {Name: storage.Seal("Phuong Ng"), Aliases: storage.Seal([]string{}), MRN: storage.Seal("MRN-4"), Born: storage.Seal(storage.Date{Year: 1979, Month: 3, Day: 7})},
		"empty": {Name: storage.Seal(""), Active: true},
		"null":  {},
	} {
		if err := db.WithContext(ctx).Create(&p).Error; err != nil {
			t.Fatal(err)
		}
		labels[p.ID] = label
	}
	if err := storage.Settle(ctx, db.DB); err != nil {
		t.Fatal(err)
	}
	return labels
}

func TestSearchKinds(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Searchable{})
		ctx := physician(t)
		labels := searchables(t, db, ctx)
		for _, tt := range []struct {
			what clause.Expression
			want string
		}{
			{storage.Match("Name", "smi"), "jane mary"},
			{storage.SoundsLike("Name", "smith"), "jane jon mary"},
			{storage.SoundsLike("Name", "john schmidt"), "jane jon"},
			{storage.SoundsLike("Name", "ng"), "phu"},
			{storage.Match("Maiden", "smith"), "mary"},
			{storage.Match("Name, Maiden", "roe jane"), "jane"},
			{storage.Match("Name, Maiden, Aliases", "smi"), "jane jon mary"},
			{storage.Match("aliases", "smoke"), "jon"},
			{storage.Match("Aliases", "smithers johnny"), "jon"},
			{storage.SoundsLike("Name,Aliases", "smidders"), "jon"},
			{storage.Match("MRN", "mrn 2"), "jon"},
			{storage.Match("Born", "1980-03-07"), "jane"},
			{storage.Match("Born", "March 7, 1980"), "jane"},
			{storage.Match("Born", "3/7/1980"), "jane"},
			{storage.Match("Born", "1980"), "jane jon"},
			{storage.Match("Born", "1981"), ""},
			{storage.Match("Seen", "2025-12-31"), "jane"}, // the day that the time names
			{storage.Match("Seen", "2026-01-01"), ""},
			{storage.Match("Phone", "4155552671"), "jane"},
			{storage.Match("Phone", "+1 415-555-2671 ext 3"), "jane"},
			{storage.Match("Phone", "011 44 20 7946 0958"), "jon"},
			{storage.Match("Email", " jane.roe+X@example.ORG"), "jane"},
			{storage.Match("Email", "jane.roe@example.org"), ""},
			{storage.Match("Count", "15"), "jon"},
			{storage.Match("Count", "-15"), "jane"},
			{storage.Match("Note", "knee"), "jane mary"},
			{storage.Match("Note", "LEFT cafe"), "jane"},
			{storage.Match("Note", "patients"), "jane"},
			{storage.Match("Note", "kne"), ""},
		} {
			if got := found(t, db.WithContext(ctx).Where(tt.what), labels); got != tt.want {
				t.Errorf("%+v finds %q, want %q", tt.what, got, tt.want)
			}
		}
		for _, bad := range []clause.Expression{
			storage.Match("Name", ""), storage.Match("MRN", " - "), storage.Match("Note", "a"), storage.Match("Nickname", "x"), storage.Match("", "x"), storage.Match("Active", "true"), storage.Match("Name, MRN", "x"),
			storage.SoundsLike("MRN", "smith"), storage.SoundsLike("Note", "knee"), storage.Match("Note", manyWords(65)), storage.Match("Name", strings.Repeat("x", 1001)),
		} {
			var n int64
			if err := db.WithContext(ctx).Model(&Searchable{}).Where(bad).Count(&n).Error; !errors.Is(err, storage.ErrRefused) {
				t.Errorf("%+v counts %d, %v; want ErrRefused", bad, n, err)
			}
		}
		if err := db.WithContext(ctx).Where(storage.Match("SSN", "123-45-6789")).Find(&[]Searchable{}).Error; !errors.Is(err, storage.ErrFilterOnHidden) {
			t.Errorf("a search by a masked field: %v", err)
		}
		if err := db.WithContext(ctx).Where(storage.Match("MRN,SSN", "123-45-6789")).Find(&[]Searchable{}).Error; !errors.Is(err, storage.ErrFilterOnHidden) {
			t.Errorf("a search by a masked field beside another: %v", err)
		}
	})
}

func manyWords(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "word%d ", i)
	}
	return b.String()
}

// However Matches are combined with each other and with other conditions, by
// And, Or and Not, the answer is that of sets.
func TestMatchCombines(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) { c.SearchLimits = map[string]int{"": 1 << 30} }, &Searchable{})
		ctx := physician(t)
		labels := searchables(t, db, ctx)
		all := slices.Sorted(maps.Values(labels))
		atoms := []struct {
			expr any
			args []any
			set  []string
		}{
			{storage.Match("Name", "smi"), nil, []string{"jane", "mary"}},
			{storage.Match("Name", "ng"), nil, []string{"phu"}},
			{storage.Match("Name", "smith-jones"), nil, []string{"mary"}},
			{storage.Match("Name", "nobody at all"), nil, nil},
			{storage.SoundsLike("Name", "smith"), nil, []string{"jane", "jon", "mary"}},
			{storage.Match("Born", "1980"), nil, []string{"jane", "jon"}},
			{storage.Match("Name,Maiden", "smith jane"), nil, []string{"jane"}},
			{"active = ?", []any{true}, []string{"empty", "jane", "mary"}},
			{"active = ? AND id <> ''", []any{false}, []string{"jon", "null", "phu"}},
			{"active OR ?", []any{storage.Match("Name", "ng")}, []string{"empty", "jane", "mary", "phu"}},
		}
		rng := rand.New(rand.NewPCG(164, uint64(len(d.Name()))))
		var tree func(depth int) (q any, args []any, set []string, text string)
		group := func() *gorm.DB { return db.Session(&gorm.Session{NewDB: true}) }
		tree = func(depth int) (any, []any, []string, string) {
			if depth == 0 || rng.IntN(4) == 0 {
				a := atoms[rng.IntN(len(atoms))]
				return a.expr, a.args, a.set, fmt.Sprint(a.expr)
			}
			a, aArgs, x, left := tree(depth - 1)
			b, bArgs, y, right := tree(depth - 1)
			var set []string
			switch op := rng.IntN(3); op {
			case 0, 1:
				q := group().Where(a, aArgs...)
				if op == 0 {
					q = q.Where(b, bArgs...)
				} else {
					q = q.Or(b, bArgs...)
				}
				for _, l := range all {
					inX, inY := slices.Contains(x, l), slices.Contains(y, l)
					if inX && inY || op == 1 && (inX || inY) {
						set = append(set, l)
					}
				}
				return q, nil, set, "(" + left + [...]string{" AND ", " OR "}[op] + right + ")"
			}
			for _, l := range all {
				if !slices.Contains(x, l) {
					set = append(set, l)
				}
			}
			return group().Not(a, aArgs...), nil, set, "NOT " + left
		}
		n := 60
		if d.Name() == "sqlite" {
			n = 150
		}
		for range n {
			q, args, set, text := tree(3)
			got := found(t, db.WithContext(ctx).Where(q, args...), labels)
			if want := strings.Join(set, " "); got != want {
				t.Errorf("%s finds %q, want %q", text, got, want)
			}
		}
	})
}

// A chain that one principal began answers another by that one's own rights
// and tokens.
func TestMatchIsResolvedForEachPrincipal(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	created(t, db, ctx, jane())
	other := accesstest.AsIn(t, t.Context(), "t-other", "physician", access.Treatment)
	if err := db.WithContext(other).Create(&Patient{Name: storage.Seal("Jane Other"), BirthDate: storage.Seal("1980-02-03")}).Error; err != nil {
		t.Fatal(err)
	}
	q := db.WithContext(ctx).Model(&Patient{}).Where(storage.Match("BirthDate", "1980-02-03"))
	var n int64
	if err := q.Count(&n).Error; err != nil || n != 1 {
		t.Fatalf("Count = %d, %v", n, err)
	}
	officer := accesstest.As(t, t.Context(), "privacy-officer", access.Compliance) // sees no date of birth in full
	if err := q.WithContext(officer).Find(&[]Patient{}).Error; !errors.Is(err, storage.ErrFilterOnHidden) {
		t.Errorf("another's chain answers %v, want ErrFilterOnHidden", err)
	}
	var rows []Patient
	if err := q.WithContext(other).Find(&rows).Error; err != nil || len(rows) != 0 { // the chain is still scoped to the first
		t.Errorf("another tenant finds %d rows, %v; want none", len(rows), err)
	}
}

// Soft-deleted records are not found; their unique values stay taken, so that
// they can be restored.
func TestSearchAndSoftDelete(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Searchable{})
		ctx := physician(t)
		labels := searchables(t, db, ctx)
		var jane Searchable
		if err := db.WithContext(ctx).Where(storage.Match("MRN", "MRN-1")).First(&jane).Error; err != nil {
			t.Fatal(err)
		}
		if err := db.WithContext(ctx).Delete(&jane).Error; err != nil {
			t.Fatal(err)
		}
		if got := found(t, db.WithContext(ctx).Where(storage.Match("Name", "smi")), labels); got != "mary" {
			t.Errorf("with jane deleted softly it finds %q", got)
		}
		if got := found(t, db.WithContext(ctx).Unscoped().Where(storage.Match("Name", "smi")), labels); got != "jane mary" {
			t.Errorf("unscoped it finds %q", got)
		}
		if err := db.WithContext(ctx).Create(&Searchable{MRN: storage.Seal("mrn-1")}).Error; !errors.Is(err, storage.ErrDuplicate) {
			t.Errorf("the value of a record deleted softly: %v, want ErrDuplicate", err)
		}
		if err := db.WithContext(ctx).Unscoped().Model(&Searchable{}).Where("id = ?", jane.ID).Update("deleted", nil).Error; err != nil {
			t.Fatal(err)
		}
		if got := found(t, db.WithContext(ctx).Where(storage.Match("Name", "smi")), labels); got != "jane mary" {
			t.Errorf("after the restore it finds %q", got)
		}
		if err := db.WithContext(ctx).Unscoped().Delete(&Searchable{}, "id = ?", jane.ID).Error; err != nil {
			t.Fatal(err)
		}
		if err := db.WithContext(ctx).Create(&Searchable{MRN: storage.Seal("mrn-1")}).Error; err != nil {
			t.Errorf("the value of a record that is gone: %v", err)
		}
	})
}

// A rotation in three steps by hand, as the job does it: a second key is added,
// the old tokens are rebuilt, the old key goes. Searches and unique hold in
// each.
func TestSearchWhileIndexKeysRotate(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		kek, err := crypto.LocalKEK(filepath.Join(t.TempDir(), "kek.json"))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		var mu sync.Mutex
		clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		cfg := func(c *storage.Config) { c.KEK, c.Development, c.Now, c.Access = kek, true, clock, accesstest.Allow() }
		db := storagetest.Open(t, d, cfg, &Searchable{})
		ctx := physician(t)
		create := func(name, mrn string) error {
			return db.WithContext(ctx).Create(&Searchable{Name: storage.Seal(name), MRN: storage.Seal(mrn)}).Error
		}
		if err := create("Jane Old", "1"); err != nil {
			t.Fatal(err)
		}
		raw := admin(t, d)
		mark := "?"
		if d.Name() == "postgres" {
			mark = "$1"
		}
		edit := func(change func(m *keyset.Manager, old uint32)) {
			t.Helper()
			var wrapped []byte
			if err := raw.QueryRow("SELECT wrapped FROM phi_tenant_keys WHERE tenant_id = 't-test' AND purpose = 'index'").Scan(&wrapped); err != nil {
				t.Fatal(err)
			}
			aad := []byte("\x00\x00\x00\x15part164/tenant-keyset\x00\x00\x00\x06t-test\x00\x00\x00\x05index")
			h, err := keyset.ReadWithContext(ctx, keyset.NewBinaryReader(bytes.NewReader(wrapped)), kek, aad)
			if err != nil {
				t.Fatal(err)
			}
			old, err := h.Primary()
			if err != nil {
				t.Fatal(err)
			}
			m := keyset.NewManagerFromHandle(h)
			change(m, old.KeyID())
			if h, err = m.Handle(); err != nil {
				t.Fatal(err)
			}
			var buf bytes.Buffer
			if err := h.WriteWithContext(ctx, keyset.NewBinaryWriter(&buf), kek, aad); err != nil {
				t.Fatal(err)
			}
			if _, err := raw.Exec("UPDATE phi_tenant_keys SET wrapped = "+mark+" WHERE tenant_id = 't-test' AND purpose = 'index'", buf.Bytes()); err != nil {
				t.Fatal(err)
			}
			exec(t, raw, "UPDATE phi_meta SET generation = generation + 1")
		}
		names := func(query string) int {
			t.Helper()
			var n int64
			if err := db.WithContext(ctx).Model(&Searchable{}).Where(storage.Match("Name", query)).Count(&n).Error; err != nil {
				t.Error(err)
			}
			return int(n)
		}
		later := func() { mu.Lock(); now = now.Add(time.Minute); mu.Unlock() }

		if names("jane") != 1 { // and the key is cached
			t.Error("nothing is found before")
		}
		var oldID uint32
		edit(func(m *keyset.Manager, old uint32) {
			oldID = old
			params, err := hmacprf.NewParameters(32, hmacprf.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			id, err := m.AddNewKeyFromParameters(params)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.SetPrimary(id); err != nil {
				t.Fatal(err)
			}
		})
		// A write sees the new key at once, a search within the bound; both find.
		if err := create("Jane New", "2"); err != nil {
			t.Fatal(err)
		}
		if n := names("jane"); n != 2 {
			t.Errorf("a search that does not know the new key yet finds %d, want 2", n)
		}
		later()
		if n := names("jane"); n != 2 {
			t.Errorf("with both keys it finds %d, want 2", n)
		}
		for _, mrn := range []string{"1", "2"} {
			if err := create("Jane Twice", mrn); !errors.Is(err, storage.ErrDuplicate) {
				t.Errorf("with both keys MRN %s is free: %v", mrn, err)
			}
		}
		// Rebuilt: every write makes the tokens of both.
		var p Searchable
		if err := db.WithContext(ctx).Where(storage.Match("MRN", "1")).First(&p).Error; err != nil {
			t.Fatal(err)
		}
		p.Name, p.MRN = storage.Seal("Jane Old"), storage.Seal("1")
		if err := db.WithContext(ctx).Save(&p).Error; err != nil {
			t.Fatal(err)
		}
		edit(func(m *keyset.Manager, primary uint32) {
			if err := m.Delete(oldID); err != nil {
				t.Fatal(err)
			}
		})
		exec(t, raw, fmt.Sprintf("DELETE FROM phi_index WHERE key_version = %d", oldID))
		later()
		if n := names("jane"); n != 2 {
			t.Errorf("with the new key it finds %d, want 2", n)
		}
		for _, mrn := range []string{"1", "2"} {
			if err := create("Jane Twice", mrn); !errors.Is(err, storage.ErrDuplicate) {
				t.Errorf("with the new key MRN %s is free: %v", mrn, err)
			}
		}
	})
}

// In a transaction that rolls back, a search of a new tenant leaves no index
// key behind that nobody has.
func TestSearchInATransactionThatRollsBack(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	boom := errors.New("no")
	err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Create(&Patient{Name: storage.Seal("Jane Roe")}).Error; err != nil {
			t.Error(err)
		}
		var n int64
		if err := tx.Model(&Patient{}).Where(storage.Match("Name", "jane")).Count(&n).Error; err != nil || n != 1 {
			t.Errorf("in the transaction %d, %v", n, err)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	var n int64
	if err := db.WithContext(ctx).Model(&Patient{}).Where(storage.Match("Name", "jane")).Count(&n).Error; err != nil || n != 0 {
		t.Errorf("after the rollback %d, %v", n, err)
	}
	if err := db.WithContext(ctx).Create(&Patient{Name: storage.Seal("Jane Roe")}).Error; err != nil {
		t.Fatal(err)
	}
	if err := db.WithContext(ctx).Model(&Patient{}).Where(storage.Match("Name", "jane")).Count(&n).Error; err != nil || n != 1 {
		t.Errorf("after a new record %d, %v; want 1", n, err)
	}
}

func TestSearchLimit(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	db := storagetest.NewDBWith(t, func(c *storage.Config) {
		c.SearchLimits = map[string]int{"physician": 20, "nurse": 30, "billing": 0}
		c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	}, &Patient{})
	wait := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
	search := func(ctx context.Context) error {
		var n int64
		return db.WithContext(ctx).Model(&Patient{}).Where(storage.Match("Name", "jane")).Count(&n).Error
	}
	ctx := physician(t)
	created(t, db, ctx, jane())
	wait(2 * time.Minute)
	db.Trail.Reset()
	for i := range 20 {
		var err error
		switch i % 4 { // whatever way the search goes
		case 0:
			err = search(ctx)
		case 1:
			_, _, err = storage.List[Patient](ctx, db.Where(storage.Match("Name", "jane")), "Name", storage.Page{}) // one, not two
		case 2:
			err = db.WithContext(ctx).Model(&Patient{}).Where(storage.SoundsLike("Name", "bob")).Updates(map[string]any{"Active": true}).Error
		case 3:
			_, _, err = storage.List[Patient](ctx, db.DB, "Name", storage.Page{})
		}
		if err != nil {
			t.Fatalf("search %d of 20: %v", i+1, err)
		}
	}
	var plain, warned int
	for _, ev := range db.Trail.Events() {
		if ev.Type == audit.Searched && ev.Reason == audit.ReasonLimit {
			warned++
		} else if ev.Type == audit.Searched {
			plain++
		}
	}
	if plain != 15 || warned != 5 { // from 80 % on
		t.Errorf("%d searches are recorded plainly and %d with a warning, want 15 and 5", plain, warned)
	}
	// Over it each is refused; the trail is not flooded.
	db.Trail.Reset()
	for range 100 {
		if err := search(ctx); !errors.Is(err, storage.ErrSearchLimit) {
			t.Fatalf("the search over the limit = %v", err)
		}
	}
	var counts []int
	for _, ev := range db.Trail.Events() {
		if ev.Type != audit.Denied || ev.Reason != audit.ReasonLimit || ev.Action != access.Search {
			t.Errorf("%+v among the refusals", ev)
		}
		counts = append(counts, ev.Count)
	}
	if !slices.Equal(counts, []int{1, 2, 4, 8, 16, 32, 64}) {
		t.Errorf("100 refusals are recorded as %v", counts)
	}
	if _, _, err := storage.List[Patient](ctx, db.DB, "Name", storage.Page{}); !errors.Is(err, storage.ErrSearchLimit) {
		t.Errorf("a list over the limit = %v", err)
	}
	// What is no search goes on, and so does everybody else.
	if err := db.WithContext(ctx).Find(&[]Patient{}).Error; err != nil {
		t.Errorf("a read over the limit of searches = %v", err)
	}
	if err := search(accesstest.As(t, t.Context(), "nurse", access.Treatment)); err != nil {
		t.Errorf("a nurse's search = %v", err)
	}
	namesake := accesstest.Principal("t-other", "physician")
	namesake.ID = accesstest.Principal(accesstest.Tenant, "physician").ID
	if err := search(access.With(t.Context(), namesake, access.Treatment)); err != nil {
		t.Errorf("the search of another tenant's user of that name = %v", err)
	}
	if err := search(accesstest.As(t, t.Context(), "billing", access.Payment)); !errors.Is(err, storage.ErrSearchLimit) {
		t.Errorf("a search of a role that may make none = %v", err)
	}
	// A clock set back gives nothing; an hour later all is free again.
	wait(-30 * time.Minute)
	if err := search(ctx); !errors.Is(err, storage.ErrSearchLimit) {
		t.Errorf("with the clock set back = %v", err)
	}
	wait(30*time.Minute + 61*time.Minute)
	if err := search(ctx); err != nil {
		t.Errorf("an hour later = %v", err)
	}
}

// The limit counts before it lets through: many at once are no more than it.
func TestSearchLimitAtOnce(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.SearchLimits = map[string]int{"physician": 10} }, &Patient{})
	ctx := physician(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range 30 {
		wg.Go(func() {
			var n int64
			if db.WithContext(ctx).Model(&Patient{}).Where(storage.Match("Name", "jane")).Count(&n).Error == nil {
				mu.Lock()
				done++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if done != 10 {
		t.Errorf("%d of 30 searches at once go through, want 10", done)
	}
}

func TestSearchLimitByDefault(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	var n int64
	for i := range 301 {
		err := db.WithContext(ctx).Model(&Patient{}).Where(storage.Match("Name", "jane")).Count(&n).Error
		if i < 300 && err != nil || i == 300 && !errors.Is(err, storage.ErrSearchLimit) {
			t.Fatalf("search %d = %v", i+1, err)
		}
	}
	audittest.Want(t, db.Trail, audit.Event{Type: audit.Denied, Reason: audit.ReasonLimit, Count: 1})
}

// SQLite without statistics reads the records that a search has found, not all
// of the tenant.
func TestSearchReadsWhatItFinds(t *testing.T) {
	t.Parallel()
	d := openSQLite(t)
	db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{})
	created(t, db, physician(t), jane())
	ctx, raw := physician(t), admin(t, d)
	plan := func(q *gorm.DB) (out string) {
		t.Helper()
		stmt := q.Session(&gorm.Session{DryRun: true}).Find(&[]Patient{}).Statement
		rows, err := raw.Query("EXPLAIN QUERY PLAN "+stmt.SQL.String(), stmt.Vars...)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var a, b, c int
			var detail string
			if err := rows.Scan(&a, &b, &c, &detail); err != nil {
				t.Fatal(err)
			}
			out += detail + "; "
		}
		return out
	}
	jane := storage.Match("Name", "ja ro")
	for name, q := range map[string]*gorm.DB{"alone": db.Where(jane), "with another": db.Where("active = ?", true).Where(jane), "two": db.Where(jane).Where(storage.Match("MRN", "1")), "in a group": db.Where(db.Where(jane).Where("active"))} {
		if p := plan(q.WithContext(ctx)); !strings.Contains(p, "(id=?)") || strings.Contains(p, "patients_tenant_id") {
			t.Errorf("%s: %s", name, p)
		}
	}
	for name, q := range map[string]*gorm.DB{"none": db.Where("active = ?", true), "or": db.Where(jane).Or("active"), "not": db.Not(jane)} {
		if p := plan(q.WithContext(ctx)); !strings.Contains(p, "(tenant_id=?)") {
			t.Errorf("%s: %s", name, p)
		}
	}
}

// One statement with many a Match is many searches.
func TestEachMatchIsASearch(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.SearchLimits = map[string]int{"": 10} }, &Patient{})
	find := func(n int) error {
		q := db.WithContext(physician(t)).Where("1 = 0")
		for i := range n {
			q = q.Or(storage.Match("MRN", fmt.Sprint("MRN-", i)))
		}
		return q.Find(&[]Patient{}).Error
	}
	if err := find(8); err != nil {
		t.Errorf("8 of 10: %v", err)
	}
	if err := find(8); !errors.Is(err, storage.ErrSearchLimit) {
		t.Errorf("16 of 10: %v, want ErrSearchLimit", err)
	}
	wantRefused(t, "65 of them", find(65))
}
