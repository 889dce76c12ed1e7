// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
	"github.com/part164/part164/storage/storagetest"
)

// order is an authority that overrides everything.
var order = storage.Authority{Basis: storage.CourtOrder, Approver: "u-judge", Reference: "order-17"}

func officer(t testing.TB) context.Context {
	return accesstest.As(t, t.Context(), "privacy-officer", access.Operations)
}

func maintainer(t testing.TB) context.Context {
	p := accesstest.Principal(accesstest.Tenant, "maintenance")
	p.Kind, p.Session = access.Service, ""
	ctx, end := access.Job(t.Context(), p, access.SystemAdmin)
	t.Cleanup(end)
	return ctx
}

// A clock that a test sets.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// newPatient makes one with an encounter.
func newPatient(t testing.TB, db *gorm.DB, name string) *Patient {
	t.Helper()
	ctx := physician(t)
	p := &Patient{Name: storage.Seal(name), MRN: storage.Seal("MRN-" + name), NextVisit: time.Date(2026, 5, 6, 0, 0, 0, 0, time.UTC)}
	if err := db.WithContext(ctx).Create(p).Error; err != nil {
		t.Fatal(err)
	}
	if err := db.WithContext(ctx).Create(&Encounter{PatientID: p.ID, Reason: storage.Seal("cough")}).Error; err != nil {
		t.Fatal(err)
	}
	return p
}

// open reads and reveals a patient's name.
func open(t testing.TB, db *gorm.DB, id string) (string, error) {
	t.Helper()
	ctx := physician(t)
	var p Patient
	if err := db.WithContext(ctx).First(&p, "id = ?", id).Error; err != nil {
		return "", err
	}
	if err := storage.Reveal(ctx, &p); err != nil {
		return "", err
	}
	return p.Name.Get(ctx)
}

func wantOpen(t testing.TB, db *gorm.DB, p *Patient, name string) {
	t.Helper()
	if got, err := open(t, db, p.ID); err != nil || got != name {
		t.Errorf("opening %s = %q, %v", name, got, err)
	}
}

// plain returns a connection to the same database that knows nothing of
// storage.
func plain(t testing.TB, db *gorm.DB) *sql.DB {
	t.Helper()
	c, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run executes SQL past storage, with ? for parameters.
func run(t testing.TB, db *gorm.DB, query string, args ...any) {
	t.Helper()
	if _, err := plain(t, db).Exec(dialectMarks(db, query), args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func count(t testing.TB, db *gorm.DB, query string, args ...any) (n int64) {
	t.Helper()
	if err := plain(t, db).QueryRow(dialectMarks(db, query), args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func dialectMarks(db *gorm.DB, query string) string {
	if db.Name() != "postgres" {
		return query
	}
	for i := 1; strings.Contains(query, "?"); i++ {
		query = strings.Replace(query, "?", fmt.Sprintf("$%d", i), 1)
	}
	return query
}

func TestShred(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		c := newClock()
		db := storagetest.Open(t, d, func(cfg *storage.Config) {
			cfg.Now, cfg.KeyBackups = c.now, 30*24*time.Hour
		}, &Patient{}, &Encounter{})
		gone, kept := newPatient(t, db.DB, "Roe"), newPatient(t, db.DB, "Doe")
		wantOpen(t, db.DB, gone, "Roe") // the key is cached
		var stale Patient
		if err := db.WithContext(physician(t)).First(&stale, "id = ?", gone.ID).Error; err != nil {
			t.Fatal(err)
		}
		tokens := count(t, db.DB, "SELECT count(*) FROM phi_index WHERE subject_id = ?", gone.ID)
		db.Trail.Reset()
		certificate, err := storage.Shred(officer(t), db.DB, gone.ID, order)
		if err != nil {
			t.Fatal(err)
		}
		if certificate.State != storage.Pending || !certificate.Until.Equal(c.now().Add(30*24*time.Hour)) || certificate.Keys != 1 ||
			certificate.Tokens != tokens || tokens == 0 || certificate.Subject != gone.ID || !slices.Equal(certificate.Clear, []string{"patients.next_visit"}) ||
			!certificate.Dropped.Equal(c.now().Add(5*time.Second)) || certificate.By == "" || certificate.Authority != order {
			t.Errorf("certificate %+v (%d tokens)", certificate, tokens)
		}
		audittest.Want(t, db.Trail, audit.Event{Type: audit.WriteAttempt, Action: access.Shred}, audit.Event{Type: audit.Shredded, Reason: audit.ReasonPending})

		c.advance(5 * time.Second)
		for name, try := range map[string]func(context.Context) error{
			"reveal":       func(context.Context) error { _, err := open(t, db.DB, gone.ID); return err },
			"reveal stale": func(ctx context.Context) error { return storage.Reveal(ctx, &stale) },
			"create": func(ctx context.Context) error {
				return db.WithContext(ctx).Create(&Encounter{PatientID: gone.ID, Reason: storage.Seal("x")}).Error
			},
			"update": func(ctx context.Context) error {
				return db.WithContext(ctx).Model(&Patient{}).Where("id = ?", gone.ID).Update("name", storage.Seal("x")).Error
			},
		} {
			if err := try(physician(t)); !errors.Is(err, crypto.ErrShredded) {
				t.Errorf("%s = %v, want ErrShredded", name, err)
			}
		}
		wantOpen(t, db.DB, kept, "Doe")
		if err := db.WithContext(physician(t)).Create(&Encounter{PatientID: kept.ID, Reason: storage.Seal("x")}).Error; err != nil {
			t.Error(err)
		}
		if n := count(t, db.DB, "SELECT count(*) FROM phi_index WHERE subject_id = ?", gone.ID); n != 0 {
			t.Errorf("%d tokens are left", n)
		}
		if n := count(t, db.DB, "SELECT count(*) FROM phi_index WHERE subject_id = ?", kept.ID); n != tokens {
			t.Errorf("%d of %d tokens of the other patient are left", n, tokens)
		}
		if n := count(t, db.DB, "SELECT count(*) FROM phi_subject_keys WHERE subject_id = ? AND wrapped IS NOT NULL", gone.ID); n != 0 {
			t.Errorf("%d wrapped keys are left", n)
		}
		failed := eventsOf(db.Trail, audit.RevealFailed)
		if len(failed) == 0 || failed[0].Reason != audit.ReasonShredded {
			t.Errorf("opening a shredded patient is recorded as %+v", failed)
		}

		// Again: nothing more is destroyed, and it is certified again.
		again, err := storage.Shred(officer(t), db.DB, gone.ID, order)
		if err != nil || again.Keys != 0 || again.Shredded.Sub(certificate.Shredded).Abs() > time.Second {
			t.Errorf("Shred again = %+v, %v", again, err)
		}
		if n := count(t, db.DB, "SELECT tombstones FROM phi_meta"); n != 1 {
			t.Errorf("phi_meta counts %d tombstones, want 1", n)
		}

		// The certificate, kept as JSON.
		text, err := json.Marshal(certificate)
		if err != nil {
			t.Fatal(err)
		}
		var kc storage.Certificate
		if err := json.Unmarshal(text, &kc); err != nil {
			t.Fatal(err)
		}
		if now, err := kc.Confirm(officer(t), db.DB); err != nil || now.State != storage.Pending {
			t.Errorf("Confirm before the date = %s, %v", now.State, err)
		}
		c.advance(30*24*time.Hour - 5*time.Second - 1)
		if now, err := kc.Confirm(officer(t), db.DB); err != nil || now.State != storage.Pending {
			t.Errorf("Confirm 1 ns before the date = %s, %v", now.State, err)
		}
		c.advance(1)
		db.Trail.Reset()
		done, err := kc.Confirm(officer(t), db.DB)
		if err != nil || done.State != storage.Complete {
			t.Fatalf("Confirm at the date = %s, %v", done.State, err)
		}
		audittest.Want(t, db.Trail, audit.Event{Type: audit.Shredded})
		if _, err := done.Confirm(officer(t), db.DB); err != nil {
			t.Error(err)
		}
		for name, change := range map[string]func(*storage.Certificate){
			"state":   func(c *storage.Certificate) { c.State = storage.Complete },
			"until":   func(c *storage.Certificate) { c.Until = c.Shredded },
			"subject": func(c *storage.Certificate) { c.Subject = kept.ID },
			"basis":   func(c *storage.Certificate) { c.Authority.Basis = storage.PatientRight },
			"zero":    func(c *storage.Certificate) { *c = storage.Certificate{} },
		} {
			forged := kc
			change(&forged)
			if _, err := forged.Confirm(officer(t), db.DB); err == nil {
				t.Errorf("a certificate with another %s is confirmed", name)
			}
		}
	})
}

func TestACertificateIsNotCompleteBeforeTheBound(t *testing.T) {
	t.Parallel()
	for backups, want := range map[time.Duration]time.Duration{-1: 5 * time.Second, time.Second: 5 * time.Second, time.Hour: time.Hour, 0: 0} {
		c := newClock()
		db := storagetest.NewDBWith(t, func(cfg *storage.Config) { cfg.Now, cfg.KeyBackups = c.now, backups }, &Patient{}, &Encounter{})
		certificate, err := storage.Shred(officer(t), db.DB, newPatient(t, db.DB, "Roe").ID, order)
		if err != nil {
			t.Fatal(err)
		}
		if want == 0 {
			c.advance(100 * 365 * 24 * time.Hour)
			if certificate, err = certificate.Confirm(officer(t), db.DB); err != nil || certificate.State != storage.Pending || !certificate.Until.IsZero() {
				t.Errorf("KeyBackups 0: %s until %v, %v; want pending without a date", certificate.State, certificate.Until, err)
			}
			continue
		}
		c.advance(want - 1)
		if now, err := certificate.Confirm(officer(t), db.DB); err != nil || now.State != storage.Pending {
			t.Errorf("KeyBackups %v: %s before %v (%v)", backups, now.State, want, err)
		}
		c.advance(1)
		if now, err := certificate.Confirm(officer(t), db.DB); err != nil || now.State != storage.Complete {
			t.Errorf("KeyBackups %v: %s at %v (%v)", backups, now.State, want, err)
		}
	}
}

func TestWhoMayShred(t *testing.T) {
	t.Parallel()
	hold := &storagetest.Holds{}
	db := storagetest.NewDBWith(t, func(cfg *storage.Config) { cfg.Holds = []storage.Hold{hold} }, &Patient{}, &Encounter{})
	p := newPatient(t, db.DB, "Roe")
	refused := func(name string, ctx context.Context, subject string, a storage.Authority, want error, reason audit.Reason) {
		t.Helper()
		db.Trail.Reset()
		c, err := storage.Shred(ctx, db.DB, subject, a)
		if err == nil || want != nil && !errors.Is(err, want) || c.State != "" {
			t.Errorf("%s: Shred = %+v, %v; want %v", name, c, err, want)
		}
		wantOpen(t, db.DB, p, "Roe")
		denied := eventsOf(db.Trail, audit.Denied)
		if reason != "" && (len(denied) != 1 || denied[0].Reason != reason || denied[0].Action != access.Shred) {
			t.Errorf("%s: recorded %+v", name, denied)
		}
	}
	with := func(change func(*storage.Authority)) storage.Authority {
		a := order
		change(&a)
		return a
	}
	who, _ := access.PrincipalFrom(officer(t))
	refused("no principal", t.Context(), p.ID, order, access.ErrNoPrincipal, "")
	refused("a physician", physician(t), p.ID, order, access.ErrDenied, audit.ReasonPolicy)
	refused("the maintenance role", maintainer(t), p.ID, order, access.ErrDenied, audit.ReasonPolicy)
	refused("no authority", officer(t), p.ID, storage.Authority{}, nil, "")
	refused("an unknown basis", officer(t), p.ID, with(func(a *storage.Authority) { a.Basis = "because" }), nil, "")
	refused("no approver", officer(t), p.ID, with(func(a *storage.Authority) { a.Approver = "" }), nil, "")
	refused("approved by who shreds", officer(t), p.ID, with(func(a *storage.Authority) { a.Approver = who.ID }), nil, "")
	refused("no reference", officer(t), p.ID, with(func(a *storage.Authority) { a.Reference = "" }), nil, "")
	refused("free text as reference", officer(t), p.ID, with(func(a *storage.Authority) { a.Reference = "Jane Roe asked" }), nil, "")
	refused("no ID", officer(t), "", order, nil, "")
	refused("a name as ID", officer(t), "Jane Roe", order, nil, "")
	refused("nobody's ID", officer(t), "0190f2d4-7c1e-7000-8000-000000000000", order, crypto.ErrNoKey, "")
	refused("of another tenant", accesstest.AsIn(t, t.Context(), "t-other", "privacy-officer", access.Operations), p.ID, order, crypto.ErrNoKey, "")

	// The retention period.
	refused("inside the retention period", officer(t), p.ID, with(func(a *storage.Authority) { a.Basis = storage.RetentionOver }), storage.ErrRetained, audit.ReasonRetention)

	// Holds.
	hold.Hold(accesstest.Tenant, p.ID)
	for _, basis := range []string{storage.RetentionOver, storage.PatientRight, storage.ContractEnd} {
		refused("held, "+basis, officer(t), p.ID, with(func(a *storage.Authority) { a.Basis = basis }), storage.ErrHeld, audit.ReasonHold)
	}
	hold.Release(accesstest.Tenant, p.ID)
	hold.Fail(errors.New("down"))
	refused("nobody can tell", officer(t), p.ID, with(func(a *storage.Authority) { a.Basis = storage.PatientRight }), storage.ErrHeld, audit.ReasonHold)
	hold.Fail(nil)

	if n := count(t, db.DB, "SELECT count(*) FROM phi_subject_keys WHERE shredded"); n != 0 {
		t.Errorf("%d tombstones were left by refused calls", n)
	}
	for _, basis := range []string{storage.PatientRight, storage.ContractEnd, storage.CourtOrder} {
		p := newPatient(t, db.DB, "X"+basis)
		if basis == storage.CourtOrder {
			hold.Hold(accesstest.Tenant, p.ID)
		}
		if _, err := storage.Shred(officer(t), db.DB, p.ID, with(func(a *storage.Authority) { a.Basis = basis })); err != nil {
			t.Errorf("%s: %v", basis, err)
		}
	}
}

// What is left of a duplicate that was merged into the patient goes along, and
// a hold on it holds.
func TestShredTakesMergedDuplicatesAlong(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		hold := &storagetest.Holds{}
		db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Access, cfg.Holds = accesstest.Allow(), []storage.Hold{hold} }, &Patient{}, &Encounter{})
		first, second, stays := newPatient(t, db.DB, "Roe"), newPatient(t, db.DB, "Doe"), newPatient(t, db.DB, "Poe")
		for _, m := range [][2]*Patient{{first, second}, {second, stays}} {
			if _, err := storage.RunJob(maintainer(t), db.DB, storage.Job{Kind: storage.MergePatients, Subject: m[0].ID, Into: m[1].ID}); err != nil {
				t.Fatal(err)
			}
		}
		request := storage.Authority{Basis: storage.PatientRight, Approver: "u-2", Reference: "r-1"}
		hold.Hold(accesstest.Tenant, first.ID)
		if _, err := storage.Shred(officer(t), db.DB, stays.ID, request); !errors.Is(err, storage.ErrHeld) {
			t.Errorf("Shred with a held duplicate = %v, want ErrHeld", err)
		}
		hold.Release(accesstest.Tenant, first.ID)
		c, err := storage.Shred(officer(t), db.DB, stays.ID, request)
		if err != nil || len(c.Merged) != 2 || c.Keys != 3 {
			t.Fatalf("Shred = %+v, %v", c, err)
		}
		other := reopen(t, db, d)
		for _, p := range []*Patient{first, second, stays} {
			if _, err := open(t, other, p.ID); !errors.Is(err, crypto.ErrShredded) {
				t.Errorf("opening = %v, want ErrShredded", err)
			}
			if n := count(t, db.DB, "SELECT count(*) FROM phi_index WHERE record_id = ?", p.ID); n != 0 {
				t.Errorf("%d tokens are left", n)
			}
		}
		if _, err := c.Confirm(officer(t), db.DB); err != nil {
			t.Error(err)
		}
		if r, err := storage.Check(maintainer(t), db.DB, nil); err != nil || len(r.Findings) != 0 {
			t.Errorf("Check = %v, %v", r.Findings, err)
		}
	})
}

// A report over several journals follows merges by the IDs that storage knows.
func TestMergedNamesTheDuplicates(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Access = accesstest.Allow() }, &Patient{}, &Encounter{})
		first, second, stays := newPatient(t, db.DB, "Roe"), newPatient(t, db.DB, "Doe"), newPatient(t, db.DB, "Poe")
		for _, m := range [][2]*Patient{{first, second}, {second, stays}} {
			if _, err := storage.RunJob(maintainer(t), db.DB, storage.Job{Kind: storage.MergePatients, Subject: m[0].ID, Into: m[1].ID}); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{first.ID, second.ID}
		slices.Sort(want)
		got, err := storage.Merged(physician(t), db.DB, accesstest.Tenant, stays.ID)
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("Merged = %v, %v; want both duplicates", got, err)
		}
		if got, err = storage.Merged(physician(t), db.DB, accesstest.Tenant, first.ID); err != nil || len(got) != 0 {
			t.Errorf("Merged of a duplicate = %v, %v", got, err)
		}
		if got, err = storage.Merged(physician(t), db.DB, "t-other", stays.ID); !errors.Is(err, access.ErrDenied) || len(got) > 0 {
			t.Errorf("Merged of another tenant's = %v, %v", got, err)
		}
		if _, err = storage.Merged(t.Context(), db.DB, accesstest.Tenant, stays.ID); !errors.Is(err, access.ErrNoPrincipal) {
			t.Errorf("Merged by nobody: %v", err)
		}
	})
}

func TestRetentionCountsFromTheNewestRecord(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		c := newClock()
		const keep = 24 * time.Hour
		db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Now, cfg.Retention = c.now, keep }, &Patient{}, &Encounter{})
		over := storage.Authority{Basis: storage.RetentionOver, Approver: "u-2", Reference: "r-1"}
		p := newPatient(t, db.DB, "Roe")
		c.advance(keep - time.Hour)
		if err := db.WithContext(physician(t)).Create(&Encounter{PatientID: p.ID, Reason: storage.Seal("late")}).Error; err != nil {
			t.Fatal(err)
		}
		c.advance(keep - time.Second)
		if _, err := storage.Shred(officer(t), db.DB, p.ID, over); !errors.Is(err, storage.ErrRetained) {
			t.Errorf("Shred = %v, want ErrRetained: an encounter is younger", err)
		}
		c.advance(time.Second)
		if _, err := storage.Shred(officer(t), db.DB, p.ID, over); err != nil {
			t.Errorf("Shred after the period = %v", err)
		}
	})
}

// Rows of an old table may not say when they were written: the period begins
// when they are adopted, and until then nobody can tell that it is over.
func TestRetentionOfAdoptedRows(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		ids := oldClients(t, d, 3)
		c := newClock()
		const keep = 24 * time.Hour
		db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Access, cfg.Now, cfg.Retention = accesstest.Allow(), c.now, keep }, &Client{})
		raw := admin(t, d)
		exec(t, raw, "UPDATE clients SET created_at = '2001-02-03 04:05:06', updated_at = '2001-02-03 04:05:06' WHERE id = '"+ids[1]+"'")
		runJob(t, db, storage.Job{Kind: storage.SealColumns, Adopt: true})
		var all []Client
		if err := db.WithContext(physician(t)).Order("id").Find(&all).Error; err != nil || len(all) != 3 {
			t.Fatal(len(all), err)
		}
		for i, x := range all {
			want := c.now()
			if i == 1 {
				want = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC) // or in the server's zone
			}
			if d := x.CreatedAt.Sub(want).Abs(); d > 15*time.Hour {
				t.Errorf("row %d was created %v, want %v", i, x.CreatedAt, want)
			}
		}
		over := storage.Authority{Basis: storage.RetentionOver, Approver: "u-2", Reference: "r-1"}
		c.advance(keep - time.Hour)
		_, err := storage.Shred(officer(t), db.DB, ids[0], over)
		if !errors.Is(err, storage.ErrRetained) || errors.Is(err, storage.ErrRefused) {
			t.Errorf("Shred within the period from the adoption = %v, want ErrRetained", err)
		}
		c.advance(time.Hour)
		if _, err := storage.Shred(officer(t), db.DB, ids[0], over); err != nil {
			t.Errorf("Shred after it = %v", err)
		}

		// What somebody else adopted.
		exec(t, raw, "UPDATE clients SET updated_at = NULL WHERE id = '"+ids[1]+"'")
		_, err = storage.Shred(officer(t), db.DB, ids[1], over)
		var why *storage.RefusedError
		if !errors.Is(err, storage.ErrRetained) || !errors.As(err, &why) || why.Table != "clients" || !strings.Contains(why.Why, "updated_at") || strings.Contains(err.Error(), "sql:") {
			t.Errorf("Shred of a row without a time = %v, want ErrRetained that names the table", err)
		}
		over.Basis = storage.CourtOrder
		if _, err := storage.Shred(officer(t), db.DB, ids[1], over); err != nil {
			t.Errorf("Shred by a court's order = %v", err)
		}
	})
}

func TestHoldsKeepTheContract(t *testing.T) {
	t.Parallel()
	storagetest.TestHold(t, func(t *testing.T) (storage.Hold, func(tenant, subject string), func(tenant, subject string)) {
		h := &storagetest.Holds{}
		return h, h.Hold, h.Release
	})
}

// A writer of the same patient either commits before the shred, and its cells
// are unreadable after, or gets ErrShredded. No cell is ever under a new key.
func TestShredRacesWithWriters(t *testing.T) {
	t.Parallel()
	rounds := 3
	if os.Getenv("PART164_TEST_LONG") != "" {
		rounds = 50
	}
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &Encounter{})
		for round := range rounds {
			p := newPatient(t, db.DB, fmt.Sprintf("Roe%d", round))
			var wg sync.WaitGroup
			start := make(chan struct{})
			var committed, refused atomic.Int64
			for w := range 6 {
				wg.Go(func() {
					<-start
					for i := range 8 {
						e := Encounter{PatientID: p.ID, Reason: storage.Seal(fmt.Sprintf("%d/%d", w, i))}
						switch err := redo(func() error { return db.WithContext(physician(t)).Create(&e).Error }); {
						case err == nil:
							committed.Add(1)
						case errors.Is(err, crypto.ErrShredded):
							refused.Add(1)
							return
						default:
							t.Errorf("Create = %v, want nil or ErrShredded", err)
							return
						}
					}
				})
			}
			var shredErr error
			wg.Go(func() {
				<-start
				time.Sleep(time.Duration(round*7%20) * time.Millisecond) // no synchronisation: where it falls is chance
				_, shredErr = storage.Shred(officer(t), db.DB, p.ID, order)
			})
			close(start)
			wg.Wait()
			if shredErr != nil {
				t.Fatalf("Shred = %v", shredErr)
			}
			if n := count(t, db.DB, "SELECT count(*) FROM encounters WHERE patient_id = ?", p.ID); n != committed.Load()+1 {
				t.Errorf("%d encounters are stored, %d were acknowledged", n, committed.Load()+1)
			}
			if n := count(t, db.DB, "SELECT count(*) FROM phi_subject_keys WHERE subject_id = ?", p.ID); n != 1 {
				t.Errorf("the key table has %d rows, want the tombstone alone", n)
			}
			if n := count(t, db.DB, "SELECT count(*) FROM phi_index WHERE subject_id = ?", p.ID); n != 0 {
				t.Errorf("%d tokens are left", n)
			}
			// Another process, whose cache is empty, opens nothing.
			other := reopen(t, db, d)
			var all []Encounter
			ctx := physician(t)
			if err := other.WithContext(ctx).Where("patient_id = ?", p.ID).Find(&all).Error; err != nil {
				t.Fatal(err)
			}
			var rerr *storage.RevealError
			if err := storage.Reveal(ctx, &all); !errors.As(err, &rerr) || len(rerr.Shredded) != len(all) {
				t.Errorf("Reveal = %v, want every one of %d shredded", err, len(all))
			}
		}
	})
}

// reopen opens the database once more, as another process would.
func reopen(t testing.TB, db *storagetest.DB, d gorm.Dialector) *gorm.DB {
	t.Helper()
	other, err := reopenWith(t, db, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return other
}

func reopenWith(t testing.TB, db *storagetest.DB, d gorm.Dialector, change func(*storage.Config)) (*gorm.DB, error) {
	t.Helper()
	other, err := db.Reopen(d, change)
	if other != nil {
		t.Cleanup(func() { _ = storage.Close(other) })
		if merr := storage.Migrate(t.Context(), other, &Patient{}, &Encounter{}); merr != nil {
			t.Fatal(merr)
		}
	}
	return other, err
}

func eventsOf(tr *audittest.Trail, typ audit.Type) (out []audit.Stored) {
	for _, ev := range tr.Events() {
		if ev.Type == typ {
			out = append(out, ev)
		}
	}
	return out
}

// After the shred the file of a SQLite database holds no wrapped key any more,
// in no page and in no log.
func TestShredScrubsSQLite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := storagetest.Open(t, sqlite.Open(filepath.Join(dir, "test.db")), func(*storage.Config) {}, &Patient{}, &Encounter{})
	for i := range 40 {
		newPatient(t, db.DB, fmt.Sprintf("Doe%d", i))
	}
	p := newPatient(t, db.DB, "Roe")
	var wrapped []byte
	if err := plain(t, db.DB).QueryRow("SELECT wrapped FROM phi_subject_keys WHERE subject_id = ?", p.ID).Scan(&wrapped); err != nil {
		t.Fatal(err)
	}
	holds := func() bool {
		files, err := filepath.Glob(filepath.Join(dir, "test.db*"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(data, wrapped[8:]) {
				return true
			}
		}
		return false
	}
	if !holds() {
		t.Fatal("the wrapped key is not found before the shred: the test looks in the wrong place")
	}
	if _, err := storage.Shred(officer(t), db.DB, p.ID, order); err != nil {
		t.Fatal(err)
	}
	if holds() {
		t.Error("the wrapped key is still in the database's files")
	}
}
