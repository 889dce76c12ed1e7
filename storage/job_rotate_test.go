// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// A ward is a database with patients, each with encounters.
type ward struct {
	db       *storagetest.DB
	old      crypto.KEK
	patients []string
	records  int
}

func newWard(t testing.TB, d gorm.Dialector, n int) *ward {
	t.Helper()
	w := &ward{old: cryptotest.NewKEK()}
	w.db = storagetest.Open(t, d, func(c *storage.Config) {
		c.Access, c.KEK, c.KeyBound = accesstest.Allow(), w.old, 500*time.Millisecond
	}, &Patient{}, &Encounter{})
	ctx := physician(t)
	for i := range n {
		p := Patient{Name: storage.Seal(fmt.Sprintf("Jane Roe%d", i)), MRN: storage.Seal(fmt.Sprintf("MRN-%06d", i)), BirthDate: storage.Seal("1980-02-03")}
		if err := w.db.WithContext(ctx).Create(&p).Error; err != nil {
			t.Fatal(err)
		}
		w.patients = append(w.patients, p.ID)
		if err := w.db.WithContext(ctx).Create(&Encounter{PatientID: p.ID, Reason: storage.Seal("cough")}).Error; err != nil {
			t.Fatal(err)
		}
	}
	w.records = 2 * n
	return w
}

// check reads everything.
func (w *ward) check(t testing.TB) {
	t.Helper()
	ctx := physician(t)
	var ps []Patient
	var es []Encounter
	err := errors.Join(w.db.WithContext(ctx).Find(&ps).Error, w.db.WithContext(ctx).Find(&es).Error)
	if err == nil {
		err = errors.Join(storage.Reveal(ctx, &ps), storage.Reveal(ctx, &es))
	}
	if err != nil || len(ps) != len(w.patients) {
		t.Errorf("%d patients are read, %v; want %d", len(ps), err, len(w.patients))
	}
	var found []Patient
	if err := w.db.WithContext(ctx).Where(storage.Match("MRN", "mrn 000001")).Find(&found).Error; err != nil || len(found) != 1 || found[0].ID != w.patients[1] {
		t.Errorf("search: %d rows, %v", len(found), err)
	}
	if err := w.db.WithContext(ctx).Create(&Patient{MRN: storage.Seal("MRN-000001")}).Error; !errors.Is(err, storage.ErrDuplicate) {
		t.Errorf("a second MRN-000001 = %v, want ErrDuplicate", err)
	}
	if w.records > 0 { // else the trail is another's
		clean(t, w.db)
	}
}

// clean holds the data against the trail.
func clean(t testing.TB, db *storagetest.DB) {
	t.Helper()
	r, err := storage.Check(maintenance(t), db.DB, nil)
	if err != nil || len(r.Findings) > 0 {
		t.Errorf("Check: %+v, %v", r, err)
	}
}

// count counts rows of one of storage's own tables.
func (w *ward) count(t testing.TB, table, where string) (n int) {
	t.Helper()
	c, err := w.db.DB.DB()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.QueryRow("SELECT count(*) FROM " + table + " WHERE " + where).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (w *ward) version(t testing.TB, table, column, id string) uint32 {
	t.Helper()
	h, err := crypto.ParseHeader(storagetest.RawColumn(t, w.db.DB, table, column, id))
	if err != nil {
		t.Fatal(err)
	}
	return h.KeyVersion
}

const grace = 300 * time.Millisecond

func TestRotateSubjectKeys(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := newWard(t, d, 7)
		before := storagetest.RawColumn(t, w.db.DB, "patients", "name", w.patients[2])
		from := len(w.db.Trail.Events())
		r := runJob(t, w.db, storage.Job{Kind: storage.RotateSubjectKeys, Subject: w.patients[2], Grace: grace})
		if w.version(t, "patients", "name", w.patients[2]) != 2 || w.version(t, "patients", "name", w.patients[3]) != 1 {
			t.Error("the rotation of one patient's key is not one of that key alone")
		}
		if n := w.count(t, "phi_subject_keys", "subject_id = '"+w.patients[2]+"'"); n != 1 || r.Changed != 4 {
			t.Errorf("%d versions of the key are left, want 1; report %+v", n, r)
		}
		named, rotated := 0, 0
		for _, ev := range w.db.Trail.Events()[from:] {
			switch ev.Type {
			case audit.WriteAttempt:
				for _, o := range ev.Objects {
					if o.Patient != w.patients[2] || len(o.Digests) == 0 || len(o.Digests) != len(o.Fields) || ev.Reason != audit.ReasonRotation || ev.Action != access.Maintain {
						t.Errorf("event %+v", ev)
					}
					named++
				}
			case audit.KeyRotated:
				rotated++
			}
		}
		if named != 2 || rotated != 2 {
			t.Errorf("%d records named and %d events of the rotation, want 2 and 2", named, rotated)
		}
		w.check(t)
		runJob(t, w.db, storage.Job{Kind: storage.RotateSubjectKeys, Grace: grace, Batch: 3})
		for i, id := range w.patients {
			want := uint32(2)
			if i == 2 {
				want = 3
			}
			if got := w.version(t, "patients", "mrn", id); got != want {
				t.Errorf("patient %d: key version %d, want %d", i, got, want)
			}
		}
		if n := w.count(t, "phi_subject_keys", "version = 1"); n != 0 {
			t.Errorf("%d keys of the first version are left", n)
		}
		w.check(t)
		// The old cell is worth nothing without its key.
		c, err := w.db.DB.DB()
		if err != nil {
			t.Fatal(err)
		}
		mark := "?"
		if d.Name() == "postgres" {
			mark = "$1"
		}
		if _, err := c.Exec("UPDATE patients SET name = "+mark+" WHERE id = '"+w.patients[2]+"'", before); err != nil {
			t.Fatal(err)
		}
		ctx := physician(t)
		p := reread(t, w.db, ctx, w.patients[2])
		var re *storage.RevealError
		if err := storage.Reveal(ctx, &p); !errors.As(err, &re) || len(re.Unavailable[p.ID]) != 1 {
			t.Errorf("Reveal of a cell under the retired key = %v, want its field unavailable", err)
		}
		// A row that does not open keeps its key from going.
		rep, err := storage.RunJob(maintenance(t), w.db.DB, storage.Job{Kind: storage.RotateSubjectKeys, Subject: w.patients[2], Grace: grace})
		if err == nil || len(rep.Skipped) != 1 || rep.Skipped[0] != w.patients[2] || rep.Done {
			t.Errorf("rotation over a cell that does not open: %+v, %v", rep, err)
		}
		if n := w.count(t, "phi_subject_keys", "subject_id = '"+w.patients[2]+"'"); n != 2 {
			t.Errorf("%d versions of the key, want 2: the old one is still needed", n)
		}
	})
}

func TestRotateTenantAndIndexKeysAndKEK(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := newWard(t, d, 5)
		key := func(table, where string) []byte {
			c, err := w.db.DB.DB()
			if err != nil {
				t.Fatal(err)
			}
			var raw []byte
			if err := c.QueryRow("SELECT wrapped FROM " + table + " WHERE tenant_id = '" + accesstest.Tenant + "' AND " + where).Scan(&raw); err != nil {
				t.Fatal(err)
			}
			return raw
		}
		wrap, index, subject := key("phi_tenant_keys", "purpose = 'wrap'"), key("phi_tenant_keys", "purpose = 'index'"), key("phi_subject_keys", "subject_id = '"+w.patients[0]+"'")
		tokens := w.count(t, "phi_index", "1 = 1")
		var wg sync.WaitGroup
		wg.Go(func() { runJob(t, w.db, storage.Job{Kind: storage.RotateTenantKey, Batch: 2}) })
		wg.Go(func() { runJob(t, w.db, storage.Job{Kind: storage.RotateIndexKey, Batch: 2}) })
		wg.Wait()
		if bytes.Equal(wrap, key("phi_tenant_keys", "purpose = 'wrap'")) || bytes.Equal(index, key("phi_tenant_keys", "purpose = 'index'")) || bytes.Equal(subject, key("phi_subject_keys", "subject_id = '"+w.patients[0]+"'")) {
			t.Error("a key is what it was")
		}
		if n := w.count(t, "phi_index", "1 = 1"); n != tokens {
			t.Errorf("%d tokens after the rotation of their key, %d before", n, tokens)
		}
		c, err := w.db.DB.DB()
		if err != nil {
			t.Fatal(err)
		}
		var versions int
		if err := c.QueryRow("SELECT count(DISTINCT key_version) FROM phi_index").Scan(&versions); err != nil || versions != 1 {
			t.Errorf("tokens of %d keys, %v", versions, err)
		}
		w.check(t)
		runJob(t, w.db, storage.Job{Kind: storage.RebuildIndex, Batch: 2})
		if n := w.count(t, "phi_index", "1 = 1"); n != tokens {
			t.Errorf("%d tokens after a rebuild, %d before", n, tokens)
		}
		w.check(t)
	})
}

func TestRotateKEK(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := newWard(t, d, 2)
		next := cryptotest.NewKEK()
		both := storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.KEK = accesstest.Allow(), crypto.RotatingKEK(next, w.old) }, &Patient{}, &Encounter{})
		r := runJob(t, both, storage.Job{Kind: storage.RotateKEK})
		if r.Changed == 0 || r.Changed > 2 { // the system's own may be a tenant too
			t.Errorf("report %+v, want one tenant", r)
		}
		after := &ward{patients: w.patients}
		after.db = storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.KEK = accesstest.Allow(), next }, &Patient{}, &Encounter{})
		after.check(t)
	})
}

// TestRotationUnderLoad turns every key over while others read and write: no
// read fails, and no write, but for what databases may answer two writers at
// any time: that one of them has to do its transaction again.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := newWard(t, d, 12)
		stop := make(chan struct{})
		var reads, writes, conflicts atomic.Int64
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() {
				for i := n; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					id := w.patients[rand.IntN(len(w.patients))]
					ctx := physician(t)
					var p Patient
					if err := w.db.WithContext(ctx).Preload("Encounters").Take(&p, "id = ?", id).Error; err != nil {
						t.Errorf("read: %v", err)
						return
					}
					if err := storage.Reveal(ctx, &p); err != nil {
						t.Errorf("reveal: %v", err)
						return
					}
					reads.Add(1)
					if n%2 == 0 {
						continue
					}
					var err error
					switch i % 3 {
					case 0:
						err = w.db.WithContext(ctx).Create(&Encounter{PatientID: id, Reason: storage.Seal("cough")}).Error
					case 1:
						p.Active = !p.Active
						err = w.db.WithContext(ctx).Omit(clause.Associations).Save(&p).Error
					default:
						err = w.db.WithContext(ctx).Omit(clause.Associations).Model(&p).Updates(Patient{Name: storage.Seal(fmt.Sprintf("Jane Roe%d", i))}).Error
					}
					switch {
					case errors.Is(err, storage.ErrConflict), storage.InTheWay(err):
						conflicts.Add(1) // the other writer
					case err != nil:
						t.Errorf("write: %v", err)
						return
					default:
						writes.Add(1)
					}
				}
			})
		}
		for _, job := range []storage.Job{
			{Kind: storage.RotateSubjectKeys, Grace: time.Second, Batch: 5},
			{Kind: storage.RotateTenantKey, Batch: 5},
			{Kind: storage.RotateKEK},
			{Kind: storage.RotateIndexKey, Batch: 5},
		} {
			began := time.Now()
			runJob(t, w.db, job)
			t.Logf("%s: %v; %d reads, %d writes, %d conflicts of writers with each other", job.Kind, time.Since(began).Round(time.Millisecond), reads.Load(), writes.Load(), conflicts.Load())
		}
		close(stop)
		wg.Wait()
		w.check(t)
		if reads.Load() == 0 || writes.Load() == 0 {
			t.Error("nobody read or wrote meanwhile")
		}
	})
}
