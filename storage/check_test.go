// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// A Chart is softly deleted.
type Chart struct {
	storage.Record
	PatientID string                 `phi:"subject" gorm:"size:36;index"`
	Title     storage.Sealed[string] `phi:"problem,search=words"`
	Text      storage.Sealed[string] `phi:"text"`
	Closed    bool                   `phi:"-"`
	DeletedAt gorm.DeletedAt         `phi:"-"`
}

// A lossyTrail loses for ever the news that writes committed which were begun
// while it was lossy, as a process does that is killed.
type lossyTrail struct {
	follower
	lossy atomic.Bool
	lost  sync.Map // IDs of attempts
}

type follower interface {
	audit.Trail
	audit.History
}

func (l *lossyTrail) Attempt(ctx context.Context, ev audit.Event) (audit.Ticket, error) {
	ticket, err := l.follower.Attempt(ctx, ev)
	if l.lossy.Load() {
		l.lost.Store(ticket.Attempt, true)
	}
	return ticket, err
}

func (l *lossyTrail) Commit(ctx context.Context, tickets []audit.Ticket) ([]audit.Ticket, error) {
	for _, ticket := range tickets {
		if _, lost := l.lost.Load(ticket.Attempt); lost {
			return nil, audit.ErrUnavailable
		}
	}
	return l.follower.Commit(ctx, tickets)
}

// A checked is a database that is written to by legal means, and then not.
type checked struct {
	testing.TB
	*storagetest.DB
	trail  *lossyTrail
	ctx    context.Context
	rng    *rand.Rand
	nextID int
}

func newChecked(t testing.TB, d gorm.Dialector, seed uint64) *checked {
	return newCheckedWith(t, d, seed, func(*storage.Config) {})
}

func newCheckedWith(t testing.TB, d gorm.Dialector, seed uint64, change func(*storage.Config)) *checked {
	trail := &lossyTrail{follower: audittest.New(t)}
	db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Audit, cfg.Access = trail, accesstest.Allow(); change(cfg) }, &Patient{}, &Encounter{}, &Chart{})
	return &checked{TB: t, DB: db, trail: trail, ctx: accesstest.As(t, t.Context(), "physician", access.Treatment), rng: rand.New(rand.NewPCG(seed, 164))}
}

func (c *checked) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *checked) g() *gorm.DB { return c.DB.DB.WithContext(c.ctx) }

func (c *checked) newPatient(db *gorm.DB) *Patient {
	c.Helper()
	c.nextID++
	names := []string{"Jane Roe", "James Smithson", "José Ng", "Li", "Anna-Maria van der Berg"}
	p := &Patient{Name: storage.Seal(names[c.nextID%len(names)]), MRN: storage.Seal(fmt.Sprintf("MRN-%06d", c.nextID)), SSN: storage.Seal("123-45-6789"), NextVisit: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	if c.nextID%3 == 0 {
		p.SSN, p.BirthDate = storage.Sealed[string]{}, storage.Seal("1970-02-03")
	}
	c.must(db.Create(p).Error)
	c.must(db.Create(&Encounter{PatientID: p.ID, Reason: storage.Seal("cough")}).Error)
	return p
}

func (c *checked) newChart(db *gorm.DB, p *Patient) *Chart {
	c.Helper()
	ch := &Chart{PatientID: p.ID, Title: storage.Seal("chest pain at night"), Text: storage.Seal("long story")}
	c.must(db.Create(ch).Error)
	return ch
}

// merged is a patient with a chart who was merged into another.
func (c *checked) merged() (from, into *Patient, ch *Chart) {
	c.Helper()
	from, into = c.newPatient(c.g()), c.newPatient(c.g())
	ch = c.newChart(c.g(), from)
	runJob(c, c.DB, storage.Job{Kind: storage.MergePatients, Subject: from.ID, Into: into.ID})
	return from, into, ch
}

func (c *checked) unmerge(from, into *Patient) {
	c.Helper()
	runJob(c, c.DB, storage.Job{Kind: storage.UnmergePatients, Subject: from.ID, Into: into.ID})
}

func (c *checked) check() storage.Report {
	c.Helper()
	r, err := storage.Check(maintainer(c), c.DB.DB, nil)
	if err != nil {
		c.Fatal(err)
	}
	return r
}

func (c *checked) wantClean(when string) {
	c.Helper()
	if r := c.check(); len(r.Findings) != 0 || r.Records == 0 {
		c.Fatalf("%s: %+v", when, r)
	}
}

// legal does one thing, chosen by chance, that an app may do.
func (c *checked) legal() {
	c.Helper()
	var all []Patient
	c.must(c.g().Where("merged_into = ''").Order("id").Find(&all).Error)
	var p *Patient
	if len(all) > 0 {
		p = &all[c.rng.IntN(len(all))]
	}
	boom := errors.New("boom")
	rolledBack := func(err error) {
		c.Helper()
		if !errors.Is(err, boom) {
			c.Fatal(err)
		}
	}
	what := c.rng.IntN(19)
	if p == nil {
		what = 0
	}
	switch what {
	case 0, 1:
		c.newPatient(c.g())
	case 2:
		c.must(c.g().Model(p).Update("name", storage.Seal(fmt.Sprintf("Doe %d", c.rng.IntN(9)))).Error)
	case 3:
		c.must(c.g().Model(p).Updates(map[string]any{"ssn": nil, "active": true}).Error)
	case 4:
		c.must(c.g().Model(p).Updates(Patient{SSN: storage.Seal("987-65-4321"), BirthDate: storage.Seal("1980-01-02")}).Error)
	case 5:
		c.must(c.g().Where("patient_id = ?", p.ID).Delete(&Encounter{}).Error)
	case 6:
		rolledBack(c.g().Transaction(func(tx *gorm.DB) error {
			c.newPatient(tx)
			c.must(tx.Model(p).Update("name", storage.Seal("Nobody")).Error)
			return boom
		}))
	case 7:
		c.must(c.g().Transaction(func(tx *gorm.DB) error {
			c.must(tx.Model(p).Update("mrn", storage.Seal(fmt.Sprintf("MRN-9%05d", c.rng.IntN(99999)))).Error)
			rolledBack(tx.Transaction(func(tx *gorm.DB) error { // a savepoint
				c.must(tx.Model(&Patient{}).Where("id = ?", p.ID).Update("name", storage.Seal("Nobody")).Error)
				c.newPatient(tx)
				return boom
			}))
			return tx.Model(&Patient{}).Where("id = ?", p.ID).Update("active", !p.Active).Error
		}))
	case 8:
		c.newChart(c.g(), p)
	case 9:
		c.must(c.g().Where("patient_id = ?", p.ID).Delete(&Chart{}).Error) // softly
	case 10:
		c.must(c.g().Unscoped().Where("patient_id = ?", p.ID).Delete(&Chart{}).Error)
	case 11:
		c.must(c.g().Unscoped().Model(&Chart{}).Where("patient_id = ? AND deleted_at IS NOT NULL", p.ID).Update("deleted_at", nil).Error)
	case 12:
		if len(all) > 3 {
			c.must(c.g().Where("patient_id = ?", p.ID).Delete(&Encounter{}).Error)
			c.must(c.g().Unscoped().Where("patient_id = ?", p.ID).Delete(&Chart{}).Error)
			c.must(c.g().Delete(p).Error)
		}
	case 13: // the constraint refuses the second one, and the statement leaves nothing
		if err := c.g().Create(&Patient{Name: storage.Seal("X"), MRN: storage.Seal("MRN-777777")}).Error; err != nil && !errors.Is(err, storage.ErrDuplicate) {
			c.Fatal(err)
		}
	case 14:
		c.must(c.g().Unscoped().Model(&Chart{}).Where("patient_id = ?", p.ID).Update("closed", c.rng.IntN(2) == 0).Error)
	case 15:
		c.must(c.g().Unscoped().Model(&Chart{}).Where("patient_id = ?", p.ID).Update("deleted_at", time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)).Error)
	case 16:
		c.must(c.g().Create(&Chart{PatientID: p.ID, DeletedAt: gorm.DeletedAt{Time: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Valid: true}}).Error)
	case 17, 18:
		dup := c.newPatient(c.g())
		c.newChart(c.g(), dup)
		c.must(c.g().Create(&Chart{PatientID: dup.ID}).Error)
		runJob(c, c.DB, storage.Job{Kind: storage.MergePatients, Subject: dup.ID, Into: p.ID})
		if what == 18 {
			c.unmerge(dup, p)
		}
	}
}

func (c *checked) sql(query string, args ...any) {
	c.Helper()
	run(c, c.DB.DB, query, args...)
}

func (c *checked) raw(table, column, id string) []byte {
	c.Helper()
	return storagetest.RawColumn(c, c.DB.DB, table, column, id)
}

func find(kind, table, field, record string) storage.Finding {
	return storage.Finding{Kind: kind, Table: table, Field: field, Record: record}
}

// keep copies a row aside, and returns what puts it back.
func (c *checked) keep(table, id string) (back func()) {
	c.Helper()
	c.nextID++
	bak := fmt.Sprintf("keep_%d", c.nextID)
	c.sql("CREATE TABLE " + bak + " AS SELECT * FROM " + table + " WHERE id = '" + id + "'")
	return func() {
		c.Helper()
		c.sql("DELETE FROM "+table+" WHERE id = ?", id)
		c.sql("INSERT INTO " + table + " SELECT * FROM " + bak)
	}
}

// attacks are what somebody who can write to the database may do, each with
// what Check says of it.
var attacks = map[string]func(c *checked) []storage.Finding{
	"a flipped bit": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		raw := c.raw("patients", "name", p.ID)
		raw[len(raw)-1-c.rng.IntN(len(raw)-7)] ^= 1 << c.rng.IntN(8)
		c.sql("UPDATE patients SET name = ? WHERE id = ?", raw, p.ID)
		return []storage.Finding{find(storage.BadCell, "patients", "Name", p.ID)}
	},
	"a cut cell": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		raw := c.raw("patients", "mrn", p.ID)
		c.sql("UPDATE patients SET mrn = ? WHERE id = ?", raw[:len(raw)-1-c.rng.IntN(len(raw)-crypto.CellOverhead)], p.ID)
		return []storage.Finding{find(storage.BadCell, "patients", "MRN", p.ID)}
	},
	"bytes dressed as a cell": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		dressed := append([]byte{crypto.CellVersion, crypto.CellAES256GCM, 0, 0, 0, 1}, bytes.Repeat([]byte("x"), 40)...)
		c.sql("UPDATE patients SET name = ? WHERE id = ?", dressed, p.ID)
		return []storage.Finding{find(storage.BadCell, "patients", "Name", p.ID)}
	},
	"cells of another row, the patient's own": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		a, b := c.newChart(c.g(), p), c.newChart(c.g(), p)
		ra, rb := c.raw("charts", "text", a.ID), c.raw("charts", "text", b.ID)
		c.sql("UPDATE charts SET text = ? WHERE id = ?", rb, a.ID)
		c.sql("UPDATE charts SET text = ? WHERE id = ?", ra, b.ID)
		return []storage.Finding{find(storage.BadCell, "charts", "Text", a.ID), find(storage.BadCell, "charts", "Text", b.ID)}
	},
	"cells of another column": func(c *checked) []storage.Finding {
		ch := c.newChart(c.g(), c.newPatient(c.g()))
		c.sql("UPDATE charts SET text = ? WHERE id = ?", c.raw("charts", "title", ch.ID), ch.ID)
		return []storage.Finding{find(storage.BadCell, "charts", "Text", ch.ID)}
	},
	"cells of another patient": func(c *checked) []storage.Finding {
		a, b := c.newPatient(c.g()), c.newPatient(c.g())
		c.sql("UPDATE patients SET name = ? WHERE id = ?", c.raw("patients", "name", b.ID), a.ID)
		return []storage.Finding{find(storage.BadCell, "patients", "Name", a.ID)}
	},
	"another patient's record": func(c *checked) []storage.Finding {
		a, b := c.newPatient(c.g()), c.newPatient(c.g())
		ch := c.newChart(c.g(), a)
		c.sql("UPDATE charts SET patient_id = ? WHERE id = ?", b.ID, ch.ID)
		return []storage.Finding{find(storage.BadCell, "charts", "Text", ch.ID), find(storage.BadCell, "charts", "Title", ch.ID), find(storage.MovedRow, "charts", "", ch.ID)}
	},
	"another patient's empty record": func(c *checked) []storage.Finding {
		a, b := c.newPatient(c.g()), c.newPatient(c.g())
		e := &Encounter{PatientID: a.ID}
		c.must(c.g().Create(e).Error)
		c.sql("UPDATE encounters SET patient_id = ? WHERE id = ?", b.ID, e.ID)
		return []storage.Finding{find(storage.MovedRow, "encounters", "", e.ID)}
	},
	"another patient's empty record, written to since": func(c *checked) []storage.Finding {
		a, b := c.newPatient(c.g()), c.newPatient(c.g())
		ch := &Chart{PatientID: a.ID}
		c.must(c.g().Create(ch).Error)
		c.sql("UPDATE charts SET patient_id = ? WHERE id = ?", b.ID, ch.ID)
		c.must(c.g().Model(&Chart{}).Where("id = ?", ch.ID).Update("closed", true).Error)
		return []storage.Finding{find(storage.MovedRow, "charts", "", ch.ID)}
	},
	"an older cell": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		old := c.raw("patients", "name", p.ID)
		c.must(c.g().Model(p).Update("name", storage.Seal("Doe")).Error)
		c.sql("UPDATE patients SET name = ? WHERE id = ?", old, p.ID)
		return []storage.Finding{find(storage.OldCell, "patients", "Name", p.ID)}
	},
	"an older row": func(c *checked) []storage.Finding {
		ch := c.newChart(c.g(), c.newPatient(c.g()))
		back := c.keep("charts", ch.ID)
		c.must(c.g().Model(ch).Update("text", storage.Seal("another story")).Error)
		back()
		return []storage.Finding{find(storage.OldRow, "charts", "", ch.ID)}
	},
	"a deleted row": func(c *checked) []storage.Finding {
		ch := c.newChart(c.g(), c.newPatient(c.g()))
		back := c.keep("charts", ch.ID)
		c.must(c.g().Unscoped().Delete(ch).Error)
		back()
		return []storage.Finding{find(storage.OldRow, "charts", "", ch.ID)}
	},
	"a softly deleted row": func(c *checked) []storage.Finding {
		ch := c.newChart(c.g(), c.newPatient(c.g()))
		c.must(c.g().Delete(ch).Error)
		c.sql("UPDATE charts SET deleted_at = NULL WHERE id = ?", ch.ID)
		return []storage.Finding{find(storage.OldRow, "charts", "", ch.ID)}
	},
	"a softly deleted row that was written to since": func(c *checked) []storage.Finding {
		ch := c.newChart(c.g(), c.newPatient(c.g()))
		c.must(c.g().Delete(ch).Error)
		c.must(c.g().Unscoped().Model(&Chart{}).Where("id = ?", ch.ID).Update("closed", true).Error)
		c.sql("UPDATE charts SET deleted_at = NULL WHERE id = ?", ch.ID)
		return []storage.Finding{find(storage.OldRow, "charts", "", ch.ID)}
	},
	"a row hidden": func(c *checked) []storage.Finding {
		ch := c.newChart(c.g(), c.newPatient(c.g()))
		c.sql("UPDATE charts SET deleted_at = '2026-01-01 00:00:00' WHERE id = ?", ch.ID)
		return []storage.Finding{find(storage.HiddenRow, "charts", "", ch.ID)}
	},
	"a row hidden again": func(c *checked) []storage.Finding {
		ch := c.newChart(c.g(), c.newPatient(c.g()))
		c.must(c.g().Delete(ch).Error)
		c.must(c.g().Unscoped().Model(&Chart{}).Where("id = ?", ch.ID).Update("deleted_at", nil).Error)
		c.sql("UPDATE charts SET deleted_at = '2026-01-01 00:00:00' WHERE id = ?", ch.ID)
		return []storage.Finding{find(storage.HiddenRow, "charts", "", ch.ID)}
	},
	"a patient marked as merged": func(c *checked) []storage.Finding {
		a, b := c.newPatient(c.g()), c.newPatient(c.g())
		c.sql("UPDATE patients SET merged_into = ? WHERE id = ?", b.ID, a.ID)
		return []storage.Finding{find(storage.UnrecordedMerge, "patients", "MergedInto", a.ID)}
	},
	"a duplicate marked as none": func(c *checked) []storage.Finding {
		a, _, _ := c.merged()
		c.sql("UPDATE patients SET merged_into = '' WHERE id = ?", a.ID)
		return []storage.Finding{find(storage.UnrecordedMerge, "patients", "MergedInto", a.ID)}
	},
	"a duplicate marked as another's": func(c *checked) []storage.Finding {
		a, _, _ := c.merged()
		c.sql("UPDATE patients SET merged_into = ? WHERE id = ?", c.newPatient(c.g()).ID, a.ID)
		return []storage.Finding{find(storage.UnrecordedMerge, "patients", "MergedInto", a.ID)}
	},
	"a patient's key closed": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.sql("UPDATE phi_subject_keys SET closed = ? WHERE subject_id = ?", true, p.ID)
		return []storage.Finding{find(storage.UnrecordedMerge, "phi_subject_keys", "", p.ID)}
	},
	"the key of a patient who was unmerged closed": func(c *checked) []storage.Finding {
		a, b, _ := c.merged()
		c.unmerge(a, b)
		c.sql("UPDATE phi_subject_keys SET closed = ? WHERE subject_id = ?", true, a.ID)
		return []storage.Finding{find(storage.UnrecordedMerge, "phi_subject_keys", "", a.ID)}
	},
	"a duplicate's key opened": func(c *checked) []storage.Finding {
		a, _, _ := c.merged()
		c.sql("UPDATE phi_subject_keys SET closed = ? WHERE subject_id = ?", false, a.ID)
		return []storage.Finding{find(storage.UnrecordedMerge, "phi_subject_keys", "", a.ID)}
	},
	"a forged row of phi_merges": func(c *checked) []storage.Finding {
		a, b, _ := c.merged()
		ch := c.newChart(c.g(), b)
		c.sql("INSERT INTO phi_merges (tenant_id, from_id, entity, record_id, into_id, mac) SELECT tenant_id, from_id, entity, ?, into_id, mac FROM phi_merges WHERE from_id = ? AND entity = 'charts'", ch.ID, a.ID)
		return []storage.Finding{find(storage.MergeForged, "phi_merges", "", ch.ID)}
	},
	"a row of phi_merges without a MAC": func(c *checked) []storage.Finding {
		a, b := c.newPatient(c.g()), c.newPatient(c.g())
		c.sql("INSERT INTO phi_merges (tenant_id, from_id, entity, record_id, into_id) VALUES (?, ?, 'patients', ?, ?)", accesstest.Tenant, a.ID, a.ID, b.ID)
		return []storage.Finding{find(storage.MergeForged, "phi_merges", "", a.ID)}
	},
	"rows of phi_merges removed": func(c *checked) []storage.Finding {
		a, _, ch := c.merged()
		c.sql("DELETE FROM phi_merges WHERE from_id = ? AND entity <> 'encounters'", a.ID)
		return []storage.Finding{find(storage.MissingMerge, "charts", "", ch.ID), find(storage.MissingMerge, "patients", "", a.ID)}
	},
	"a row of phi_merges put back after the unmerge": func(c *checked) []storage.Finding {
		a, b, ch := c.merged()
		c.nextID++
		bak := fmt.Sprintf("keep_%d", c.nextID)
		c.sql("CREATE TABLE " + bak + " AS SELECT * FROM phi_merges WHERE record_id = '" + ch.ID + "'")
		c.unmerge(a, b)
		c.sql("INSERT INTO phi_merges SELECT * FROM " + bak)
		return []storage.Finding{find(storage.OldMerge, "phi_merges", "", ch.ID)}
	},
	"a table taken off the list": func(c *checked) []storage.Finding {
		c.sql("DELETE FROM phi_tables WHERE name = 'charts'")
		return []storage.Finding{find(storage.UnlistedTable, "charts", "", "")}
	},
	"a nulled cell": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.sql("UPDATE patients SET mrn = NULL WHERE id = ?", p.ID)
		return []storage.Finding{find(storage.NulledCell, "patients", "MRN", p.ID)}
	},
	"a row removed": func(c *checked) []storage.Finding {
		ch := c.newChart(c.g(), c.newPatient(c.g()))
		c.sql("DELETE FROM charts WHERE id = ?", ch.ID)
		return []storage.Finding{find(storage.MissingRow, "charts", "", ch.ID), find(storage.OrphanToken, "charts", "", ch.ID)}
	},
	"a row without tokens removed": func(c *checked) []storage.Finding {
		e := &Encounter{PatientID: c.newPatient(c.g()).ID, Reason: storage.Seal("cough")}
		c.must(c.g().Create(e).Error)
		c.sql("DELETE FROM encounters WHERE id = ?", e.ID)
		return []storage.Finding{find(storage.MissingRow, "encounters", "", e.ID)} // the fake trail's pseudonym is the ID
	},
	"a softly deleted row removed": func(c *checked) []storage.Finding {
		ch := c.newChart(c.g(), c.newPatient(c.g()))
		c.must(c.g().Delete(ch).Error)
		c.sql("DELETE FROM charts WHERE id = ?", ch.ID)
		c.sql("DELETE FROM phi_index WHERE record_id = ?", ch.ID)
		return []storage.Finding{find(storage.MissingRow, "charts", "", ch.ID)}
	},
	"a row made by hand": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.nextID++
		id := fmt.Sprintf("0190f2d4-7c1e-7000-8000-%012d", c.nextID)
		c.sql("INSERT INTO encounters (id, tenant_id, version, patient_id) VALUES (?, ?, 1, ?)", id, accesstest.Tenant, p.ID)
		return []storage.Finding{find(storage.ExtraRow, "encounters", "", id)}
	},
	"a row changed by hand": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.sql("UPDATE patients SET version = version + 1, active = ? WHERE id = ?", true, p.ID)
		return []storage.Finding{find(storage.UnrecordedRow, "patients", "", p.ID)}
	},
	"the cell of a write that rolled back": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		var raw []byte
		boom := errors.New("boom")
		if err := c.g().Transaction(func(tx *gorm.DB) error {
			q := Patient{}
			c.must(tx.First(&q, "id = ?", p.ID).Error)
			c.must(tx.Model(&q).Update("ssn", storage.Seal("999-99-9999")).Error)
			v, err := q.SSN.Value()
			c.must(err)
			raw = slices.Clone(v.([]byte))
			return boom
		}); !errors.Is(err, boom) {
			c.Fatal(err)
		}
		c.sql("UPDATE patients SET ssn = ? WHERE id = ?", raw, p.ID)
		return []storage.Finding{find(storage.UnrecordedCell, "patients", "SSN", p.ID)}
	},
	"a token removed": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.sql("DELETE FROM phi_index WHERE record_id = ? AND field = 'patients.mrn'", p.ID)
		return []storage.Finding{find(storage.MissingToken, "patients", "MRN", p.ID)}
	},
	"a name's tokens removed": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.sql("DELETE FROM phi_index WHERE record_id = ? AND field = 'patients.name'", p.ID)
		return []storage.Finding{find(storage.MissingToken, "patients", "Name", p.ID)}
	},
	"a unique token removed": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.sql("UPDATE phi_index SET unique_token = NULL WHERE record_id = ?", p.ID)
		return []storage.Finding{find(storage.MissingToken, "patients", "MRN", p.ID)}
	},
	"a token added": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.sql("INSERT INTO phi_index (tenant_id, field, token, record_id, subject_id, key_version) SELECT tenant_id, field, ?, record_id, subject_id, key_version FROM phi_index WHERE record_id = ? AND field = 'patients.mrn'",
			bytes.Repeat([]byte{7}, 32), p.ID)
		return []storage.Finding{find(storage.ExtraToken, "patients", "MRN", p.ID)}
	},
	"a name's token added": func(c *checked) []storage.Finding {
		a, b := c.newPatient(c.g()), c.newPatient(c.g())
		c.sql("UPDATE phi_index SET record_id = ?, subject_id = ? WHERE field = 'patients.mrn' AND record_id = ?", a.ID, a.ID, b.ID)
		return []storage.Finding{find(storage.ExtraToken, "patients", "MRN", a.ID), find(storage.MissingToken, "patients", "MRN", b.ID)}
	},
	"tokens of an unknown field": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.sql("INSERT INTO phi_index (tenant_id, field, token, record_id, subject_id, key_version) VALUES (?, 'patients.nothing', ?, ?, ?, 1)", accesstest.Tenant, bytes.Repeat([]byte{7}, 32), p.ID, p.ID)
		return []storage.Finding{find(storage.ExtraToken, "patients", "", p.ID), find(storage.OrphanToken, "phi_index", "", p.ID)}
	},
	"a token of another patient's key": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.sql("UPDATE phi_index SET subject_id = 'x' WHERE record_id = ? AND field = 'patients.mrn'", p.ID)
		return []storage.Finding{find(storage.ExtraToken, "patients", "MRN", p.ID)}
	},
	"a token of no key": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.sql("UPDATE phi_index SET key_version = 12345 WHERE record_id = ? AND field = 'patients.mrn'", p.ID)
		return []storage.Finding{find(storage.MissingToken, "patients", "MRN", p.ID), find(storage.OldToken, "patients", "MRN", p.ID)}
	},
	"a key removed": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.sql("DELETE FROM phi_subject_keys WHERE subject_id = ?", p.ID)
		return []storage.Finding{find(storage.MissingKey, "phi_subject_keys", "", p.ID)}
	},
	"a key changed": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.sql("UPDATE phi_subject_keys SET wrapped = ? WHERE subject_id = ?", bytes.Repeat([]byte{7}, 65), p.ID)
		return []storage.Finding{find(storage.MissingKey, "phi_subject_keys", "", p.ID)}
	},
	"a tombstone removed": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		_, err := storage.Shred(officer(c), c.DB.DB, p.ID, order)
		c.must(err)
		c.sql("DELETE FROM phi_subject_keys WHERE subject_id = ?", p.ID)
		return []storage.Finding{find(storage.MissingTombstone, "phi_subject_keys", "", p.ID)}
	},
	"a tombstone replaced by the key": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		var wrapped []byte
		c.must(plain(c, c.DB.DB).QueryRow(dialectMarks(c.DB.DB, "SELECT wrapped FROM phi_subject_keys WHERE subject_id = ?"), p.ID).Scan(&wrapped))
		_, err := storage.Shred(officer(c), c.DB.DB, p.ID, order)
		c.must(err)
		c.sql("UPDATE phi_subject_keys SET shredded = ?, version = 1, wrapped = ? WHERE subject_id = ?", false, wrapped, p.ID)
		// Its tokens went with the shred.
		out := []storage.Finding{find(storage.MissingToken, "patients", "MRN", p.ID), find(storage.MissingToken, "patients", "Name", p.ID), find(storage.MissingTombstone, "phi_subject_keys", "", p.ID)}
		if !p.BirthDate.IsNull() {
			out = append(out, find(storage.MissingToken, "patients", "BirthDate", p.ID))
		}
		return out
	},
	"an outbox row removed": func(c *checked) []storage.Finding {
		p := c.newPatient(c.g())
		c.must(storage.Settle(c.ctx, c.DB.DB))
		c.trail.lossy.Store(true)
		c.must(c.g().Model(p).Update("name", storage.Seal("Doe")).Error)
		c.sql("DELETE FROM phi_outbox")
		c.trail.lossy.Store(false)
		return []storage.Finding{find(storage.OutboxRemoved, "patients", "", p.ID)}
	},
	"a forged outbox row": func(c *checked) []storage.Finding {
		c.must(storage.Settle(c.ctx, c.DB.DB))
		c.sql("INSERT INTO phi_outbox (attempt, writer, digest, mac) VALUES ('forged.1', ?, ?, ?)", c.trail.Writer(), bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))
		return []storage.Finding{find(storage.OutboxForged, "phi_outbox", "", "forged.1")}
	},
}

func sortFindings(f []storage.Finding) []storage.Finding {
	slices.SortFunc(f, func(a, b storage.Finding) int {
		return strings.Compare(a.Kind+"\x00"+a.Table+"\x00"+a.Record+"\x00"+a.Field, b.Kind+"\x00"+b.Table+"\x00"+b.Record+"\x00"+b.Field)
	})
	return f
}

// TestCheckNamesEachDefect does one thing to the database, and wants exactly
// that named.
func TestCheckNamesEachDefect(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		c := newChecked(t, d, 1)
		c.newPatient(c.g())
		var before []storage.Finding
		for name, attack := range attacks {
			want := sortFindings(append(attack(c), before...))
			got := sortFindings(c.check().Findings)
			if !slices.Equal(got, want) {
				t.Errorf("%s:\n got %v\nwant %v", name, got, want)
			}
			// The relay refuses a forged row and removes it.
			before = slices.DeleteFunc(got, func(f storage.Finding) bool { return f.Kind == storage.OutboxForged })
		}
		if len(eventsOf(c.trail.follower.(*audittest.Trail), audit.Checked)) == 0 {
			t.Error("nothing is recorded")
		}
	})
}

// TestCheckHasNoFalseFindings does legal things by chance, then one that is not.
func TestCheckHasNoFalseFindings(t *testing.T) {
	t.Parallel()
	runs, steps := 2, 25
	if os.Getenv("PART164_TEST_LONG") != "" {
		runs, steps = 20, 60
	}
	names := []string{}
	for name := range attacks {
		names = append(names, name)
	}
	slices.Sort(names)
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			onEach(t, func(t *testing.T, d gorm.Dialector) {
				c := newChecked(t, d, uint64(seed))
				for range steps {
					c.legal()
				}
				c.wantClean("after legal operations")
				name := names[c.rng.IntN(len(names))]
				want := sortFindings(attacks[name](c))
				if got := sortFindings(c.check().Findings); !slices.Equal(got, want) {
					t.Errorf("seed %d, %s:\n got %v\nwant %v", seed, name, got, want)
				}
			})
		})
	}
}

// Writers do not make Check see what is not there.
func TestCheckBesideWriters(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		c := newChecked(t, d, 1)
		var patients []*Patient
		for range 6 {
			patients = append(patients, c.newPatient(c.g()))
		}
		var wg sync.WaitGroup
		for w := range 3 {
			wg.Go(func() {
				ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
				for i := range 12 {
					p := patients[(w+i)%len(patients)]
					err := redo(func() error {
						return c.DB.DB.WithContext(ctx).Model(&Patient{}).Where("id = ?", p.ID).Update("name", storage.Seal(fmt.Sprintf("Doe %d %d", w, i))).Error
					})
					e := Encounter{PatientID: p.ID, Reason: storage.Seal("x")}
					err = errors.Join(err, redo(func() error { return c.DB.DB.WithContext(ctx).Create(&e).Error }))
					if i%2 == 0 {
						err = errors.Join(err, redo(func() error { return c.DB.DB.WithContext(ctx).Delete(&Encounter{}, "id = ?", e.ID).Error }))
					}
					if err != nil {
						t.Errorf("write: %v", err)
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		for busy := true; busy; {
			select {
			case <-done:
				busy = false
			default:
			}
			if r := c.check(); len(r.Findings) != 0 {
				t.Errorf("beside writers: %+v", r.Findings)
			}
		}
		c.wantClean("after the writers")
	})
}

// What jobs write is recorded like everything else.
func TestCheckAfterJobs(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		c := newCheckedWith(t, d, 3, func(cfg *storage.Config) { cfg.KeyBound = 100 * time.Millisecond })
		for range 12 {
			c.legal()
		}
		a, b := c.newPatient(c.g()), c.newPatient(c.g())
		c.newChart(c.g(), a)
		for _, job := range []storage.Job{
			{Kind: storage.RotateSubjectKeys, Grace: time.Millisecond},
			{Kind: storage.RotateTenantKey},
			{Kind: storage.RotateIndexKey},
			{Kind: storage.RebuildIndex},
			{Kind: storage.MergePatients, Subject: a.ID, Into: b.ID},
			{Kind: storage.UnmergePatients, Subject: a.ID, Into: b.ID},
		} {
			if r, err := storage.RunJob(maintainer(t), c.DB.DB, job); err != nil {
				t.Fatalf("%s: %+v, %v", job.Kind, r, err)
			}
			if r := c.check(); len(r.Findings) != 0 {
				t.Errorf("after %s: %v", job.Kind, r.Findings)
			}
		}
		// And a cell of before the rotation is an older one, whose key is gone.
		p := c.newPatient(c.g())
		old := c.raw("patients", "ssn", p.ID)
		if p.SSN.IsNull() {
			old = c.raw("patients", "birth_date", p.ID)
		}
		if _, err := storage.RunJob(maintainer(t), c.DB.DB, storage.Job{Kind: storage.RotateSubjectKeys, Subject: p.ID, Grace: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		column, field := "ssn", "SSN"
		if p.SSN.IsNull() {
			column, field = "birth_date", "BirthDate"
		}
		c.sql("UPDATE patients SET "+column+" = ? WHERE id = ?", old, p.ID)
		want := sortFindings([]storage.Finding{find(storage.OldCell, "patients", field, p.ID), find(storage.MissingKey, "phi_subject_keys", "", p.ID)})
		if got := sortFindings(c.check().Findings); !slices.Equal(got, want) {
			t.Errorf("a cell of before the rotation: %v, want %v", got, want)
		}
	})
}

// Several nodes write to one database, each with a journal of its own and other
// pseudonyms. Check with all of them is clean; with one left out it is not.
func TestCheckWithTheJournalsOfSeveralNodes(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		c := newChecked(t, d, 4)
		journal, err := audit.Open(filepath.Join(audittest.Dir(t), "journal"), audit.Config{Development: true, Timeout: time.Minute})
		c.must(err)
		t.Cleanup(func() { _ = journal.Close() })
		other, err := c.Reopen(d, func(cfg *storage.Config) { cfg.Audit = journal })
		c.must(err)
		t.Cleanup(func() { _ = storage.Close(other) })
		c.must(storage.Migrate(t.Context(), other, &Patient{}, &Encounter{}, &Chart{}))
		b := other.WithContext(c.ctx)

		p, q := c.newPatient(c.g()), c.newPatient(b)
		mine, theirs := c.newChart(c.g(), p), c.newChart(b, q)
		c.must(b.Model(&Patient{}).Where("id = ?", p.ID).Update("name", storage.Seal("Doe")).Error)
		c.must(c.g().Model(&Patient{}).Where("id = ?", p.ID).Update("ssn", storage.Seal("987-65-4321")).Error)
		c.must(c.g().Model(&Patient{}).Where("id = ?", q.ID).Update("name", storage.Seal("Poe")).Error)
		c.must(b.Unscoped().Delete(&Chart{}, "id = ?", mine.ID).Error) // made by one, deleted by the other
		c.must(c.g().Unscoped().Delete(&Chart{}, "id = ?", theirs.ID).Error)
		left := c.newChart(b, q)
		for i, db := range []*gorm.DB{other, c.DB.DB} { // merged by the node that did not make them; one is undone by the other
			dup, into := c.newPatient([]*gorm.DB{c.g(), b}[i]), c.newPatient(c.g())
			c.must(c.g().Create(&Chart{PatientID: dup.ID}).Error)
			_, err := storage.RunJob(maintainer(t), db, storage.Job{Kind: storage.MergePatients, Subject: dup.ID, Into: into.ID})
			c.must(err)
			if i == 0 {
				runJob(t, c.DB, storage.Job{Kind: storage.UnmergePatients, Subject: dup.ID, Into: into.ID})
			}
		}
		c.must(storage.Settle(t.Context(), other))

		check := func(db *gorm.DB, others ...audit.History) []storage.Finding {
			t.Helper()
			r, err := storage.Check(maintainer(t), db, nil, others...)
			c.must(err)
			return r.Findings
		}
		if got := check(c.DB.DB, journal); len(got) != 0 {
			t.Errorf("with both: %v", got)
		}
		if got := check(other, c.trail); len(got) != 0 {
			t.Errorf("from the other node, with both: %v", got)
		}
		if got := check(c.DB.DB); len(got) == 0 {
			t.Error("with one of two journals nothing is found")
		}
		// The journal's pseudonym of a row that is gone is resolved, where the
		// index knows the ID.
		c.sql("DELETE FROM charts WHERE id = ?", left.ID)
		want := []storage.Finding{find(storage.MissingRow, "charts", "", left.ID), find(storage.OrphanToken, "charts", "", left.ID)}
		if got := sortFindings(check(c.DB.DB, journal)); !slices.Equal(got, want) {
			t.Errorf("a row removed: %v, want %v", got, want)
		}
		c.sql("DELETE FROM phi_index WHERE record_id = ?", left.ID)
		got := check(c.DB.DB, journal)
		either := []string{journal.Pseudonym(accesstest.Tenant, left.ID), journal.Pseudonym(accesstest.Tenant, theirs.ID)}
		if len(got) != 1 || got[0].Kind != storage.MissingRow || got[0].Table != "charts" || !slices.Contains(either, got[0].Record) {
			t.Errorf("a row removed with its tokens: %v, want one of %v", got, either)
		}
	})
}

// Who may not maintain may not check, and what cannot be recorded is not done.
func TestWhoMayCheck(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{}, &Encounter{})
	newPatient(t, db.DB, "Roe")
	for name, ctx := range map[string]context.Context{"nobody": t.Context(), "a physician": physician(t), "an officer": officer(t)} {
		if r, err := storage.Check(ctx, db.DB, nil); err == nil || r.Records != 0 {
			t.Errorf("Check by %s = %+v, %v", name, r, err)
		}
	}
	db.Trail.Fail(errors.New("down"))
	if r, err := storage.Check(maintainer(t), db.DB, nil); !errors.Is(err, audit.ErrUnavailable) || r.Records != 0 {
		t.Errorf("Check that cannot be recorded = %+v, %v", r, err)
	}
	db.Trail.Fail(nil)
	if _, err := storage.Check(maintainer(t), db.DB, nil); err != nil {
		t.Error(err)
	}
	got := eventsOf(db.Trail, audit.Checked)
	if len(got) != 2 || got[0].Reason != audit.ReasonPending || got[1].Reason != "" || got[1].Outcome != audit.Success || got[1].Count != 0 {
		t.Errorf("recorded %+v", got)
	}
	trail := audittest.New(t)
	blind := storagetest.NewDBWith(t, func(cfg *storage.Config) { cfg.Audit = struct{ audit.Trail }{trail} }, &Patient{})
	if _, err := storage.Check(maintainer(t), blind.DB, nil); !errors.Is(err, storage.ErrRefused) {
		t.Errorf("Check without a history = %v, want ErrRefused", err)
	}
}

// A CareGroup has patients through a join table.
type CareGroup struct {
	storage.PatientRecord
	Name    storage.Sealed[string] `phi:"name"`
	Members []Patient              `phi:"-" gorm:"many2many:care_group_members"`
}

// A link is a write of neither end's row.
func TestCheckAfterLinks(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Access = accesstest.Allow() }, &Patient{}, &CareGroup{})
		p := newPatientAlone(t, db)
		ctx := physician(t)
		g := CareGroup{Name: storage.Seal("Group")}
		if err := db.WithContext(ctx).Create(&g).Error; err != nil {
			t.Fatal(err)
		}
		clean(t, db)
		if err := db.WithContext(ctx).Model(&g).Association("Members").Append(p); err != nil {
			t.Fatal(err)
		}
		clean(t, db)
		if err := db.WithContext(ctx).Model(&g).Association("Members").Delete(p); err != nil {
			t.Fatal(err)
		}
		clean(t, db)
	})
}

func newPatientAlone(t testing.TB, db *storagetest.DB) *Patient {
	t.Helper()
	p := &Patient{Name: storage.Seal("Roe"), MRN: storage.Seal("MRN-000001")}
	if err := db.WithContext(physician(t)).Create(p).Error; err != nil {
		t.Fatal(err)
	}
	return p
}

// oldMemo is a table as an app without storage has it, and Memo what it becomes.
type (
	oldMemo struct {
		ID        string `gorm:"primaryKey;size:36"`
		Text      string
		DeletedAt gorm.DeletedAt
	}
	Memo struct {
		storage.PatientRecord
		Text      storage.Sealed[string] `gorm:"column:text_sealed" phi:"text,from=text"`
		DeletedAt gorm.DeletedAt         `phi:"-"`
	}
)

func (oldMemo) TableName() string { return "memos" }

// A row that was softly deleted before storage knew of it is not hidden, and
// one that is hidden since is.
func TestCheckOfAdoptedRows(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		old, err := gorm.Open(d, &gorm.Config{})
		if err != nil {
			t.Fatal(err)
		}
		gone, here := uuid.Must(uuid.NewV7()).String(), uuid.Must(uuid.NewV7()).String()
		if err := errors.Join(old.AutoMigrate(&oldMemo{}), old.Create(&oldMemo{ID: here, Text: "a"}).Error, old.Create(&oldMemo{ID: gone, Text: "b"}).Error, old.Delete(&oldMemo{}, "id = ?", gone).Error); err != nil {
			t.Fatal(err)
		}
		if c, err := old.DB(); err != nil || c.Close() != nil {
			t.Fatal(err)
		}
		db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Access = accesstest.Allow() }, &Memo{})
		runJob(t, db, storage.Job{Kind: storage.SealColumns, Adopt: true})
		clean(t, db)
		run(t, db.DB, "UPDATE memos SET deleted_at = '2026-01-01 00:00:00' WHERE id = ?", here)
		run(t, db.DB, "UPDATE memos SET deleted_at = NULL WHERE id = ?", gone)
		r, err := storage.Check(maintainer(t), db.DB, nil)
		want := []storage.Finding{find(storage.HiddenRow, "memos", "", here), find(storage.OldRow, "memos", "", gone)}
		if err != nil || !slices.Equal(sortFindings(r.Findings), sortFindings(want)) {
			t.Errorf("Check = %v, %v; want %v", r.Findings, err, want)
		}
	})
}
