// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
)

// What associated records hold.
const (
	reasonNew = "ague of the Kettledrum"
	phoneNew  = "555-0199 Kettledrum"
)

func (w *world) family() *person {
	p := newPerson()
	p.Visits = []visit{
		{Reason: storage.Seal(reasonNew), Remarks: []remark{{Text: storage.Seal(notesAlice)}}},
		{Reason: storage.Seal("second " + reasonNew)},
	}
	p.Contact = &contact{Phone: storage.Seal(phoneNew)}
	p.Files = []attachment{{Title: storage.Seal(reasonNew)}}
	p.Labels = []label{{Text: "one " + w.tenant}, {Text: "two " + w.tenant}}
	p.Team = []carer{{Name: storage.Seal(nameNew)}}
	return &p
}

// isFamily holds that a person was stored with all that family gives.
func (w *world) isFamily(id string) {
	w.Helper()
	w.isNew(id)
	var p person
	w.must(w.do().Preload("Visits.Remarks").Preload(clause.Associations).Take(&p, "id = ?", id).Error)
	if len(p.Visits) != 2 || p.Contact == nil || len(p.Files) != 1 || len(p.Labels) != 2 || len(p.Team) != 1 {
		w.Fatalf("%d visits, contact %v, %d files, %d labels, %d carers", len(p.Visits), p.Contact != nil, len(p.Files), len(p.Labels), len(p.Team))
	}
	w.must(w.do().Preload("Remarks").Order("created_at, id").Find(&p.Visits, "person_id = ?", id).Error)
	i := slices.IndexFunc(p.Visits, func(v visit) bool { return len(v.Remarks) == 1 })
	if i < 0 {
		w.Fatal("the remark is not there")
	}
	v := p.Visits[i]
	w.must(storage.Reveal(w.ctx, &v))
	w.must(storage.Reveal(w.ctx, v.Remarks))
	w.must(storage.Reveal(w.ctx, p.Contact))
	w.must(storage.Reveal(w.ctx, p.Files))
	w.must(storage.Reveal(w.ctx, p.Team))
	wants(w, "Reason", v.Reason, reasonNew)
	wants(w, "Remark", v.Remarks[0].Text, notesAlice)
	wants(w, "Phone", p.Contact.Phone, phoneNew)
	wants(w, "Title", p.Files[0].Title, reasonNew)
	wants(w, "Carer", p.Team[0].Name, nameNew)
	for _, r := range []struct {
		what, tenant, patient, record string
	}{
		{"visit", v.TenantID, v.PersonID, v.ID}, {"remark", v.Remarks[0].TenantID, v.Remarks[0].PersonID, v.Remarks[0].ID},
		{"contact", p.Contact.TenantID, p.Contact.PersonID, p.Contact.ID}, {"file", p.Files[0].TenantID, p.Files[0].PersonID, p.Files[0].ID},
	} {
		if r.tenant != w.tenant || r.patient != id {
			w.Errorf("the %s is of tenant %s and patient %s", r.what, r.tenant, r.patient)
		}
		if w.recorded(audit.WriteAttempt, r.record) == 0 {
			w.Errorf("the %s was not recorded", r.what)
		}
	}
	if w.recorded(audit.WriteAttempt, id) < 3 { // the person, and two links
		w.Error("the links were not recorded")
	}
}

func associationPaths() []path {
	loaded := func(w *world) *person {
		w.Helper()
		var p person
		w.must(w.do().Preload("Visits").Take(&p, "id = ?", w.alice.ID).Error)
		return &p
	}
	// unchanged holds that the seeded visit was not written.
	unchanged := func(w *world, f func() error) error {
		w.Helper()
		err := w.sameBytes("dialect_visits", "reason", w.visit.ID, f)
		var v visit
		w.must(w.do().Take(&v, "id = ?", w.visit.ID).Error)
		if v.Version != 1 || v.PersonID != w.alice.ID {
			w.Errorf("the visit is in version %d, want 1", v.Version)
		}
		return err
	}
	visits := func(w *world, want int) {
		w.Helper()
		if n := w.count("dialect_visits", "person_id = ? AND deleted_at IS NULL", w.alice.ID); n != want {
			w.Errorf("%d visits, want %d", n, want)
		}
	}
	link := func(w *world) *person {
		w.Helper()
		p := loaded(w)
		w.must(w.do().Model(p).Association("Labels").Append(&label{Text: "linked " + w.tenant}))
		return p
	}
	return []path{
		{"association/Create of everything", works, func(w *world) error {
			p := w.family()
			if err := w.do().Create(p).Error; err != nil {
				return err
			}
			w.isFamily(p.ID)
			if err := errors.Join(storage.Reveal(w.ctx, p), storage.Reveal(w.ctx, p.Visits)); err != nil {
				w.Errorf("Reveal of what was just created: %v", err)
			}
			wants(w, "Reason", p.Visits[0].Reason, reasonNew)
			return nil
		}},
		{"association/Create of a slice", works, func(w *world) error {
			p, q := w.family(), person{Name: storage.Seal("Second One")}
			q.Visits = []visit{{Reason: storage.Seal(reasonNew)}}
			if err := w.do().Create([]*person{p, &q}).Error; err != nil {
				return err
			}
			w.isFamily(p.ID)
			if q.Visits[0].PersonID != q.ID {
				w.Error("the visit is of another patient")
			}
			return storage.Reveal(w.ctx, q.Visits)
		}},
		{"association/Create with SkipDefaultTransaction", works, func(w *world) error {
			p := w.family()
			if err := w.do().Session(&gorm.Session{SkipDefaultTransaction: true}).Create(p).Error; err != nil {
				return err
			}
			w.isFamily(p.ID)
			return nil
		}},
		{"association/Create with PrepareStmt", works, func(w *world) error {
			p := w.family()
			if err := w.do().Session(&gorm.Session{PrepareStmt: true}).Create(p).Error; err != nil {
				return err
			}
			w.isFamily(p.ID)
			return nil
		}},
		{"association/Create in a transaction that rolls back", works, func(w *world) error {
			own := w.snapshot(w.tenant)
			tx := w.do().Begin()
			p := w.family()
			err := tx.Create(p).Error
			w.must(tx.Rollback().Error)
			if w.snapshot(w.tenant) != own {
				w.Error("rows are left")
			}
			if err == nil {
				p.ID, p.Visits[0].ID = "", ""
				p.Labels = nil
				err = w.do().Create(p).Error // with the values that the rollback put back
			}
			return err
		}},
		{"association/belongs to", works, func(w *world) error {
			p := newPerson()
			v := visit{Person: &p, Reason: storage.Seal(reasonNew)}
			if err := w.do().Create(&v).Error; err != nil {
				return err
			}
			w.isNew(p.ID)
			if v.PersonID != p.ID {
				w.Error("the visit is of another patient")
			}
			return storage.Reveal(w.ctx, &v)
		}},
		{"association/belongs to one that was read", works, func(w *world) error {
			return unchanged(w, func() error {
				var v visit
				w.must(w.do().Take(&v, "id = ?", w.visit.ID).Error)
				r := remark{Visit: &v, Text: storage.Seal(reasonNew)}
				if err := w.do().Create(&r).Error; err != nil {
					return err
				}
				if r.PersonID != w.alice.ID || r.VisitID != v.ID {
					w.Error("the remark is of another patient, or visit")
				}
				return storage.Reveal(w.ctx, &r)
			})
		}},
		{"association/belongs to one that is named by its ID", works, func(w *world) error {
			return unchanged(w, func() error {
				r := remark{PersonID: w.alice.ID, Visit: &visit{Record: storage.Record{ID: w.visit.ID}, PersonID: w.alice.ID}, Text: storage.Seal(reasonNew)}
				return w.do().Create(&r).Error
			})
		}},
		{"association/Save of what Preload read", works, func(w *world) error {
			p := loaded(w)
			p.Status = "moved"
			err := unchanged(w, func() error { return w.do().Save(p).Error })
			w.kept("status")
			return err
		}},
		{"association/Save of what Preload read and Reveal opened", works, func(w *world) error {
			p := loaded(w)
			w.must(errors.Join(storage.Reveal(w.ctx, p), storage.Reveal(w.ctx, p.Visits)))
			p.Status = "moved"
			err := unchanged(w, func() error { return w.do().Save(p).Error })
			w.kept("status")
			return err
		}},
		{"association/Save with a new child", works, func(w *world) error {
			p := loaded(w)
			p.Visits = append(p.Visits, visit{Reason: storage.Seal(reasonNew)})
			err := unchanged(w, func() error { return w.do().Save(p).Error })
			visits(w, 2)
			w.must(storage.Reveal(w.ctx, p.Visits))
			wants(w, "Reason", p.Visits[1].Reason, reasonNew)
			return err
		}},
		{"association/Save of a changed child leaves it", works, func(w *world) error {
			p := loaded(w)
			p.Visits[0].Reason = storage.Seal(reasonNew)
			return unchanged(w, func() error { return w.do().Save(p).Error })
		}},
		{"association/Save with FullSaveAssociations", works, func(w *world) error {
			p := loaded(w)
			p.Visits[0].Reason = storage.Seal(reasonNew)
			p.Visits = append(p.Visits, visit{Reason: storage.Seal(reasonAlice)})
			if err := w.do().Session(&gorm.Session{FullSaveAssociations: true}).Save(p).Error; err != nil {
				return err
			}
			visits(w, 2)
			var v visit
			w.must(w.do().Take(&v, "id = ?", w.visit.ID).Error)
			w.must(storage.Reveal(w.ctx, &v))
			wants(w, "Reason", v.Reason, reasonNew)
			if v.Version != 2 {
				w.Errorf("version %d, want 2", v.Version)
			}
			return nil
		}},
		{"association/FullSaveAssociations of an old version", refused, func(w *world) error {
			p := loaded(w)
			p.Visits[0].Version = 9
			p.Visits[0].Reason = storage.Seal(reasonNew)
			return w.do().Session(&gorm.Session{FullSaveAssociations: true}).Save(p).Error
		}},
		{"association/Append", works, func(w *world) error {
			p := loaded(w)
			err := unchanged(w, func() error {
				return w.do().Model(p).Association("Visits").Append(&visit{Reason: storage.Seal(reasonNew)}, &visit{Reason: storage.Seal(reasonNew)})
			})
			visits(w, 3)
			return err
		}},
		{"association/Append of a map", works, func(w *world) error {
			p := loaded(w)
			err := w.do().Model(p).Association("Visits").Append(map[string]any{"reason": storage.Seal(reasonNew)})
			visits(w, 2)
			return err
		}},
		{"association/Append to one that was not read", works, func(w *world) error {
			p := person{PatientRecord: storage.PatientRecord{Record: storage.Record{ID: w.alice.ID}}}
			err := w.do().Model(&p).Association("Visits").Append(&visit{Reason: storage.Seal(reasonNew)})
			visits(w, 2)
			return err
		}},
		{"association/Find and Count", works, func(w *world) error {
			p := link(w)
			var vs []visit
			var ls []label
			if err := w.do().Model(p).Association("Visits").Find(&vs); err != nil {
				return err
			}
			if n := w.do().Model(p).Association("Visits").Count(); n != 1 || len(vs) != 1 {
				w.Errorf("%d and %d visits, want 1", n, len(vs))
			}
			if err := w.do().Model(p).Association("Labels").Find(&ls); err != nil {
				return err
			}
			if n := w.do().Model(p).Association("Labels").Count(); n != 1 || len(ls) != 1 {
				w.Errorf("%d and %d labels, want 1", n, len(ls))
			}
			return storage.Reveal(w.ctx, vs)
		}},
		{"association/Find and Count of many to many with PHI", works, func(w *world) error {
			p := w.family()
			w.must(w.do().Create(p).Error)
			var cs []carer
			as := w.do().Model(p).Association("Team")
			if err := as.Find(&cs); err != nil {
				return err
			}
			if n := w.do().Model(p).Association("Team").Count(); n != 1 || len(cs) != 1 {
				return fmt.Errorf("%d and %d carers, want 1", n, len(cs))
			}
			w.must(storage.Reveal(w.ctx, cs))
			wants(w, "Name", cs[0].Name, nameNew)
			return nil
		}},
		{"association/Replace many to many", works, func(w *world) error {
			p := link(w)
			if err := w.do().Model(p).Association("Labels").Replace(&label{Text: "other " + w.tenant}); err != nil {
				return err
			}
			var ls []label
			w.must(w.do().Model(p).Association("Labels").Find(&ls))
			if len(ls) != 1 || ls[0].Text != "other "+w.tenant {
				w.Errorf("%v", ls)
			}
			return nil
		}},
		{"association/Delete many to many", works, func(w *world) error {
			p := link(w)
			err := w.do().Model(p).Association("Labels").Delete(p.Labels)
			if n := w.count("dialect_person_labels", "person_id = ?", p.ID); n != 0 || len(p.Labels) != 0 {
				w.Errorf("%d links, want 0", n)
			}
			return err
		}},
		{"association/Clear many to many", works, func(w *world) error {
			p := link(w)
			err := w.do().Model(p).Association("Labels").Clear()
			if n := w.count("dialect_person_labels", "person_id = ?", p.ID); n != 0 {
				w.Errorf("%d links, want 0", n)
			}
			return err
		}},
		{"association/Unscoped Clear deletes the children", works, func(w *world) error {
			p := loaded(w)
			err := w.do().Model(p).Association("Visits").Unscoped().Clear()
			visits(w, 0)
			return err
		}},
		{"association/Unscoped Delete", works, func(w *world) error {
			p := loaded(w)
			err := w.do().Model(p).Association("Visits").Unscoped().Delete(&p.Visits[0])
			visits(w, 0)
			return err
		}},
		{"association/Replace of a foreign key that is not the patient", works, func(w *world) error {
			v2 := visit{PersonID: w.alice.ID}
			r := remark{PersonID: w.alice.ID, VisitID: w.visit.ID, Text: storage.Seal(reasonNew)}
			w.must(w.do().Create(&v2).Error)
			w.must(w.do().Create(&r).Error)
			err := w.sameBytes("dialect_remarks", "text", r.ID, func() error {
				return w.do().Model(&v2).Association("Remarks").Append(&r)
			})
			if err != nil {
				return err
			}
			if n := w.count("dialect_remarks", "visit_id = ? AND version = 2", v2.ID); n != 1 {
				w.Error("the remark did not move")
			}
			err = w.do().Model(&v2).Association("Remarks").Clear()
			if n := w.count("dialect_remarks", "visit_id = ?", v2.ID); n != 0 {
				w.Error("the remark is still there")
			}
			return err
		}},
		{"association/Delete with Select", works, func(w *world) error {
			p := link(w)
			err := w.do().Select("Visits", "Labels").Delete(p).Error
			visits(w, 0)
			if n := w.count("dialect_person_labels", "person_id = ?", p.ID); n != 0 {
				w.Errorf("%d links, want 0", n)
			}
			return err
		}},
		{"association/of a model without PHI in a join table", works, func(w *world) error {
			link(w)
			var rows []map[string]any
			if err := w.do().Table("dialect_person_labels").Find(&rows).Error; !errors.Is(err, storage.ErrRefused) {
				w.Errorf("a join table by name = %v, want refused", err)
			}
			if err := w.do().Exec("DELETE FROM dialect_person_labels").Error; !errors.Is(err, storage.ErrRefused) {
				w.Errorf("Exec on a join table = %v, want refused", err)
			}
			return nil
		}},

		{"association/Clear of what is bound to the patient", refused, func(w *world) error {
			return w.do().Model(loaded(w)).Association("Visits").Clear()
		}},
		{"association/Delete of what is bound to the patient", refused, func(w *world) error {
			p := loaded(w)
			return w.do().Model(p).Association("Visits").Delete(&p.Visits[0])
		}},
		{"association/Replace of what is bound to the patient", refused, func(w *world) error {
			p := loaded(w)
			return w.do().Transaction(func(tx *gorm.DB) error {
				return tx.Model(p).Association("Visits").Replace(&visit{Reason: storage.Seal(reasonNew)})
			})
		}},
		{"association/a child of another patient", refused, func(w *world) error {
			var v visit
			w.must(w.do().Take(&v, "id = ?", w.visit.ID).Error)
			p := newPerson()
			p.Visits = []visit{v}
			return w.do().Create(&p).Error
		}},
		{"association/a grandchild of another patient", refused, func(w *world) error {
			p := newPerson()
			p.Visits = []visit{{Remarks: []remark{{PersonID: w.bob.ID, Text: storage.Seal(reasonNew)}}}}
			return w.do().Create(&p).Error
		}},
		{"association/belongs to one of another patient", refused, func(w *world) error {
			var v visit
			w.must(w.do().Take(&v, "id = ?", w.visit.ID).Error)
			return w.do().Create(&remark{PersonID: w.bob.ID, Visit: &v, Text: storage.Seal(reasonNew)}).Error
		}},
		{"association/Append of another patient's child", refused, func(w *world) error {
			var v visit
			w.must(w.do().Take(&v, "id = ?", w.visit.ID).Error)
			return w.do().Model(&w.bob).Association("Visits").Append(&v)
		}},
		{"association/a child with a bare condition", refused, func(w *world) error {
			p := loaded(w)
			return w.do().Model(p).Association("Visits").Append(map[string]any{"reason": reasonNew})
		}},
		{"association/a child of another tenant", denied, func(w *world) error {
			p := newPerson()
			v := visit{Reason: storage.Seal(reasonNew)}
			v.TenantID = w.foreign.TenantID
			p.Visits = []visit{v}
			return w.do().Create(&p).Error
		}},
		{"association/a child of another tenant that was read there", denied, func(w *world) error {
			v := visit{PersonID: w.foreign.ID, Reason: storage.Seal(reasonNew)}
			w.must(w.as(w.other).Create(&v).Error)
			w.theirs = w.snapshot(w.foreign.TenantID)
			p := newPerson()
			p.Visits = []visit{v}
			return w.do().Create(&p).Error
		}},
		{"association/a carer of another tenant", denied, func(w *world) error {
			c := carer{Name: storage.Seal(nameNew)}
			w.must(w.as(w.other).Create(&c).Error)
			w.theirs = w.snapshot(w.foreign.TenantID)
			p := newPerson()
			p.Team = []carer{c}
			return w.do().Create(&p).Error
		}},
		{"association/a link to another tenant's person", denied, func(w *world) error {
			p := person{PatientRecord: storage.PatientRecord{Record: storage.Record{ID: w.foreign.ID}}}
			l := label{Text: "foreign " + w.tenant}
			w.must(w.do().Create(&l).Error)
			err := w.do().Omit("Labels.*").Model(&p).Association("Labels").Append(&l)
			return err
		}},
		{"association/Clear of another tenant's links", works, func(w *world) error {
			l := label{Text: "theirs " + w.tenant}
			w.must(w.as(w.other).Model(&w.foreign).Association("Labels").Append(&l))
			w.theirs = w.snapshot(w.foreign.TenantID)
			p := person{PatientRecord: storage.PatientRecord{Record: storage.Record{ID: w.foreign.ID}}}
			var ls []label
			w.must(w.do().Model(&p).Association("Labels").Find(&ls))
			if n := w.do().Model(&p).Association("Labels").Count(); n != 0 || len(ls) != 0 {
				w.Errorf("%d and %d of another tenant's labels", n, len(ls))
			}
			return w.do().Model(&p).Association("Labels").Clear()
		}},
		{"association/a child whose class may not be written", denied, func(w *world) error {
			p := person{Name: storage.Seal(nameNew), Visits: []visit{{Reason: storage.Seal(reasonNew)}}}
			return w.as(w.clerk).Create(&p).Error
		}},
		{"association/a failed child leaves no parent in the app's transaction", works, func(w *world) error {
			own := w.snapshot(w.tenant)
			p := person{Name: storage.Seal(nameNew), Visits: []visit{{Reason: storage.Seal(reasonNew)}}}
			err := w.as(w.clerk).Transaction(func(tx *gorm.DB) error {
				if err := tx.Create(&p).Error; !errors.Is(err, storage.ErrNotPermitted) {
					w.Errorf("Create = %v, want ErrNotPermitted", err)
				}
				return nil // the app ignores it
			})
			if w.snapshot(w.tenant) != own {
				w.Error("the parent is stored")
			}
			return err
		}},
	}
}
