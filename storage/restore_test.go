// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
	"github.com/part164/part164/storage/tombstone"
)

var allTables = []string{"encounters", "patients", "phi_index", "phi_subject_keys", "phi_tenant_keys", "phi_meta"}

// backup copies tables aside, and returns what puts the copies back.
func backup(t testing.TB, db *gorm.DB) (restore func(tables ...string)) {
	t.Helper()
	for _, table := range allTables {
		run(t, db, "CREATE TABLE bak_"+table+" AS SELECT * FROM "+table)
	}
	return func(tables ...string) {
		t.Helper()
		for _, table := range tables {
			run(t, db, "DELETE FROM "+table)
		}
		for _, table := range slices.Backward(tables) {
			run(t, db, "INSERT INTO "+table+" SELECT * FROM bak_"+table)
		}
	}
}

func TestAnOlderCopyOfTheDataStaysUnreadable(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &Encounter{})
		gone, kept := newPatient(t, db.DB, "Roe"), newPatient(t, db.DB, "Doe")
		restore := backup(t, db.DB)
		if _, err := storage.Shred(officer(t), db.DB, gone.ID, order); err != nil {
			t.Fatal(err)
		}
		restore("encounters", "patients")
		for _, db := range []*gorm.DB{db.DB, reopen(t, db, d)} {
			if _, err := open(t, db, gone.ID); !errors.Is(err, crypto.ErrShredded) {
				t.Errorf("opening the older copy = %v, want ErrShredded", err)
			}
			wantOpen(t, db, kept, "Doe")
		}
	})
}

// refuses checks that nothing at all is done with a database that is too old.
func refuses(t testing.TB, db *gorm.DB, p *Patient) {
	t.Helper()
	ctx := physician(t)
	s, err := storage.Sealer(db)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"find":   func() error { return db.WithContext(ctx).First(&Patient{}, "id = ?", p.ID).Error },
		"create": func() error { return db.WithContext(ctx).Create(&Patient{Name: storage.Seal("x")}).Error },
		"update": func() error {
			return db.WithContext(ctx).Model(&Patient{}).Where("id = ?", p.ID).Update("active", true).Error
		},
		"shred": func() error { _, err := storage.Shred(officer(t), db, p.ID, order); return err },
		"seal": func() error {
			_, err := s.Seal(ctx, crypto.Binding{Tenant: "t-1", Field: "f", Record: "r"}, []byte("x"))
			return err
		},
	} {
		if err := try(); !errors.Is(err, storage.ErrRestored) {
			t.Errorf("%s = %v, want ErrRestored", name, err)
		}
	}
}

// TestAnOlderCopyWithItsKeys puts an older copy in the place of the database,
// as a whole and its key table alone, and looks from a process that runs on, a
// new one, and one with another trail.
func TestAnOlderCopyWithItsKeys(t *testing.T) {
	t.Parallel()
	for name, tables := range map[string][]string{"whole": allTables, "the key table alone": {"phi_subject_keys"}} {
		for _, source := range []string{"trail", "log"} {
			t.Run(name+", known from the "+source, func(t *testing.T) {
				t.Parallel()
				onEach(t, func(t *testing.T, d gorm.Dialector) {
					c := newClock()
					log := tombstone.File(filepath.Join(t.TempDir(), "tombstones"))
					db := storagetest.Open(t, d, func(cfg *storage.Config) {
						cfg.Now = c.now
						if source == "log" {
							cfg.Tombstones = log
						}
					}, &Patient{}, &Encounter{})
					first, gone, kept := newPatient(t, db.DB, "Poe"), newPatient(t, db.DB, "Roe"), newPatient(t, db.DB, "Doe")
					if _, err := storage.Shred(officer(t), db.DB, first.ID, order); err != nil { // before the copy
						t.Fatal(err)
					}
					restore := backup(t, db.DB)
					late := newPatient(t, db.DB, "Moe") // whom the copy does not know
					for _, p := range []*Patient{gone, late} {
						if _, err := storage.Shred(officer(t), db.DB, p.ID, order); err != nil {
							t.Fatal(err)
						}
					}
					c.advance(5 * time.Second)
					if _, err := open(t, db.DB, gone.ID); !errors.Is(err, crypto.ErrShredded) {
						t.Fatal(err)
					}

					restore(tables...)
					whole := len(tables) > 1
					if whole { // the process that runs on
						if err := db.WithContext(physician(t)).Create(&Patient{Name: storage.Seal("x")}).Error; !errors.Is(err, storage.ErrRestored) {
							t.Errorf("sealing in the older copy = %v, want ErrRestored", err)
						}
						c.advance(5 * time.Second)
						if _, err := open(t, db.DB, kept.ID); !errors.Is(err, storage.ErrRestored) {
							t.Errorf("opening in the older copy = %v, want ErrRestored", err)
						}
						refuses(t, db.DB, kept)
					}
					other, err := reopenWith(t, db, d, nil)
					if !errors.Is(err, storage.ErrRestored) || other == nil {
						t.Fatalf("Open = %v, want ErrRestored and the database", err)
					}
					refuses(t, other, kept)
					if got := eventsOf(db.Trail, audit.Restored); len(got) != 1 || got[0].Outcome != audit.Failure || got[0].Count == 0 {
						t.Errorf("recorded %+v", got)
					}

					for who, ctx := range map[string]context.Context{"a physician": physician(t), "an officer": officer(t)} {
						if _, err := storage.Reapply(ctx, other); !errors.Is(err, access.ErrDenied) {
							t.Errorf("Reapply by %s = %v, want ErrDenied", who, err)
						}
					}
					n, err := storage.Reapply(maintainer(t), other)
					if err != nil || n != 1 {
						t.Fatalf("Reapply = %d, %v", n, err)
					}
					c.advance(5 * time.Second) // for the process that runs on
					third := reopen(t, db, d)
					for _, db := range []*gorm.DB{db.DB, other, third} {
						for _, p := range []*Patient{first, gone} {
							if _, err := open(t, db, p.ID); !errors.Is(err, crypto.ErrShredded) {
								t.Errorf("opening after Reapply = %v, want ErrShredded", err)
							}
						}
						wantOpen(t, db, kept, "Doe")
					}
					if n, err := storage.Reapply(maintainer(t), other); n != 0 || err != nil {
						t.Errorf("Reapply again = %d, %v", n, err)
					}
					// And the next shred counts on.
					if _, err := storage.Shred(officer(t), other, kept.ID, order); err != nil {
						t.Error(err)
					}
					if n := count(t, other, "SELECT tombstones FROM phi_meta"); n != 4 {
						t.Errorf("phi_meta counts %d, want 4", n)
					}
				})
			})
		}
	}
}

func TestPhiMetaCannotBeChanged(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"fewer tombstones": "UPDATE phi_meta SET tombstones = 0",
		"more":             "UPDATE phi_meta SET tombstones = 7",
		"absent ones":      "UPDATE phi_meta SET absent = 1",
		"another ID":       "UPDATE phi_meta SET database_id = 'x'",
		"another MAC":      "UPDATE phi_meta SET mac = x'00'",
		"made anew":        "UPDATE phi_meta SET mac = NULL, tombstones = 0",
		"no tombstone":     "DELETE FROM phi_subject_keys WHERE shredded",
		"an older trail's": "UPDATE phi_meta SET mac = (SELECT mac FROM bak_meta), tombstones = (SELECT tombstones FROM bak_meta)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := openSQLite(t)
			db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &Encounter{})
			p := newPatient(t, db.DB, "Roe")
			run(t, db.DB, "CREATE TABLE bak_meta AS SELECT * FROM phi_meta")
			if _, err := storage.Shred(officer(t), db.DB, p.ID, order); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Reopen(d, nil); err != nil {
				t.Fatal(err)
			}
			run(t, db.DB, change)
			if _, err := reopenWith(t, db, d, nil); !errors.Is(err, storage.ErrRestored) {
				t.Errorf("Open = %v, want ErrRestored", err)
			}
		})
	}
}

// Whoever can write to the log, but has not the key, adds nobody to it.
func TestForgedTombstonesShredNobody(t *testing.T) {
	t.Parallel()
	log := &storagetest.Tombstones{}
	d := openSQLite(t)
	db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Tombstones = log }, &Patient{}, &Encounter{})
	gone, p := newPatient(t, db.DB, "Roe"), newPatient(t, db.DB, "Doe")
	if _, err := storage.Shred(officer(t), db.DB, gone.ID, order); err != nil {
		t.Fatal(err)
	}
	var e tombstone.Entry
	for got, err := range log.Entries(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		e = got
	}
	for name, forge := range map[string]func(*tombstone.Entry){
		"count":   func(e *tombstone.Entry) { e.Count++ },
		"subject": func(e *tombstone.Entry) { e.Subject[0] ^= 1 },
		"time":    func(e *tombstone.Entry) { e.Time = e.Time.Add(1) },
		"MAC":     func(e *tombstone.Entry) { e.MAC[0] ^= 1 },
	} {
		forged := &storagetest.Tombstones{}
		f := e
		f.Subject, f.MAC = slices.Clone(e.Subject), slices.Clone(e.MAC)
		forge(&f)
		if err := errors.Join(forged.Append(t.Context(), e), forged.Append(t.Context(), f)); err != nil {
			t.Fatal(err)
		}
		other, err := reopenWith(t, db, d, func(cfg *storage.Config) { cfg.Tombstones = forged })
		if !errors.Is(err, storage.ErrRestored) {
			t.Errorf("Open with an entry of another %s = %v, want ErrRestored", name, err)
		}
		if n, err := storage.Reapply(maintainer(t), other); n != 0 || err == nil {
			t.Errorf("Reapply with an entry of another %s = %d, %v", name, n, err)
		}
	}
	wantOpen(t, db.DB, p, "Doe")
	// Another database's entries in the same log are its own.
	shared := storagetest.NewDBWith(t, func(cfg *storage.Config) { cfg.Tombstones = log }, &Patient{}, &Encounter{})
	if _, err := storage.Shred(officer(t), shared.DB, newPatient(t, shared.DB, "Poe").ID, order); err != nil {
		t.Error(err)
	}
	reopen(t, db, d)
}

// A shred whose tombstone could not be recorded is not certified; the next call,
// or the next Open, records it.
func TestAShredThatIsNotRecordedIsRepeated(t *testing.T) {
	t.Parallel()
	for _, again := range []string{"Shred", "Open"} {
		log, d := &storagetest.Tombstones{}, openSQLite(t)
		db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Tombstones = log }, &Patient{}, &Encounter{})
		p := newPatient(t, db.DB, "Roe")
		log.Fail(errors.New("down"))
		if c, err := storage.Shred(officer(t), db.DB, p.ID, order); err == nil || c.State != "" {
			t.Errorf("Shred without its log = %+v, %v", c, err)
		}
		if _, err := db.Reopen(d, nil); err == nil {
			t.Error("Open without the log = nil")
		}
		log.Fail(nil)
		if again == "Shred" {
			if c, err := storage.Shred(officer(t), db.DB, p.ID, order); err != nil || c.State != storage.Pending {
				t.Errorf("Shred again = %+v, %v", c, err)
			}
		} else {
			reopen(t, db, d)
		}
		n := 0
		for e, err := range log.Entries(t.Context()) {
			if err != nil || e.Count != 1 {
				t.Error(e, err)
			}
			n++
		}
		if n != 1 {
			t.Errorf("after %s the log has %d entries, want 1", again, n)
		}
	}
}

// With nothing outside the database there is no claim, and it says so.
func TestNoSourceOfTombstonesIsADeviation(t *testing.T) {
	t.Parallel()
	trail := audittest.New(t)
	storagetest.NewDBWith(t, func(cfg *storage.Config) { cfg.Audit = struct{ audit.Trail }{trail} }, &Patient{})
	if got := eventsOf(trail, audit.Deviation); !slices.ContainsFunc(got, func(ev audit.Stored) bool { return ev.Citation == "164.310(d)(2)(i)" }) {
		t.Errorf("recorded %+v", got)
	}
}

// Each node's trail knows its own shreds; together they know all.
func TestReapplyNeedsEveryTrail(t *testing.T) {
	t.Parallel()
	d := openSQLite(t)
	a := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &Encounter{})
	trailB := audittest.New(t)
	b, err := reopenWith(t, a, d, func(cfg *storage.Config) { cfg.Audit = trailB })
	if err != nil {
		t.Fatal(err)
	}
	one, two := newPatient(t, a.DB, "Roe"), newPatient(t, a.DB, "Doe")
	restore := backup(t, a.DB)
	if _, err := storage.Shred(officer(t), a.DB, one.ID, order); err != nil {
		t.Fatal(err)
	}
	if _, err := storage.Shred(officer(t), b, two.ID, order); err != nil {
		t.Fatal(err)
	}
	restore(allTables...)
	again, err := reopenWith(t, a, d, func(cfg *storage.Config) { cfg.Audit = trailB })
	if !errors.Is(err, storage.ErrRestored) {
		t.Fatal(err)
	}
	if n, err := storage.Reapply(maintainer(t), again); n != 1 || !errors.Is(err, storage.ErrRestored) {
		t.Errorf("Reapply with one of two trails = %d, %v; want ErrRestored", n, err)
	}
	refuses(t, again, one)
	if n, err := storage.Reapply(maintainer(t), again, a.Trail); n != 1 || err != nil {
		t.Errorf("Reapply with both trails = %d, %v", n, err)
	}
	for _, p := range []*Patient{one, two} {
		if _, err := open(t, again, p.ID); !errors.Is(err, crypto.ErrShredded) {
			t.Errorf("opening = %v, want ErrShredded", err)
		}
	}
}

func TestTombstoneLogsKeepTheContract(t *testing.T) {
	t.Parallel()
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		storagetest.TestTombstones(t, func(t *testing.T) (tombstone.Log, func() tombstone.Log) {
			path := filepath.Join(t.TempDir(), "tombstones")
			return tombstone.File(path), func() tombstone.Log { return tombstone.File(path) }
		})
	})
	t.Run("fake", func(t *testing.T) {
		t.Parallel()
		storagetest.TestTombstones(t, func(*testing.T) (tombstone.Log, func() tombstone.Log) {
			l := &storagetest.Tombstones{}
			return l, func() tombstone.Log { return l }
		})
	})
}
