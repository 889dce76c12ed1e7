// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
)

func newPerson() person {
	return person{Name: storage.Seal(nameNew), Seen: seenAt(), Status: "new"}
}

// is new holds that a record was stored as newPerson.
func (w *world) isNew(id string) {
	w.Helper()
	p := w.read(id)
	wants(w, "Name", p.Name, nameNew)
	if p.Status != "new" || !p.Seen.Equal(seenAt()) || p.Version != 1 {
		w.Errorf("clear fields: %+v", p.Record)
	}
	if !p.SSN.IsNull() || !p.MRN.IsNull() || !p.Home.Street.IsNull() {
		w.Error("a field that was not given is not NULL")
	}
	w.found("kettle hier", id)
	if n := w.recorded(audit.WriteAttempt, id); n == 0 {
		w.Error("the write was not recorded")
	}
}

// doesNothing holds that an insert that meets a duplicate stores nothing, and
// leaves the app's struct as it was.
func (w *world) doesNothing(change func(*person), on clause.OnConflict) error {
	w.Helper()
	own := w.snapshot(w.tenant)
	p := newPerson()
	change(&p)
	id := p.ID
	tx := w.do().Clauses(on).Create(&p)
	if tx.RowsAffected != 0 || p.ID != id || p.Version != 0 {
		w.Errorf("%d rows affected, the struct is %+v", tx.RowsAffected, p.Record)
	}
	if got := w.snapshot(w.tenant); got != own {
		w.Errorf("it changed rows: %s", differs(own, got))
	}
	if tx.Error == nil {
		p.ID, p.MRN = "", storage.Sealed[string]{}
		w.must(w.do().Create(&p).Error) // its values are there still
		w.isNew(p.ID)
	}
	return tx.Error
}

func createPaths() []path {
	return []path{
		{"create/a pointer", works, func(w *world) error {
			p := newPerson()
			if err := w.do().Create(&p).Error; err != nil {
				return err
			}
			if _, err := p.Name.Get(w.ctx); !errors.Is(err, storage.ErrSealed) {
				w.Errorf("after Create Get = %v, want ErrSealed", err)
			}
			if err := storage.Reveal(w.ctx, &p); err != nil {
				w.Errorf("Reveal of what was just created: %v", err)
			}
			wants(w, "Name", p.Name, nameNew)
			w.isNew(p.ID)
			return nil
		}},
		{"create/a slice", works, func(w *world) error {
			ps := []person{newPerson(), {Name: storage.Seal("Second One")}, {}}
			if err := w.do().Create(&ps).Error; err != nil {
				return err
			}
			w.isNew(ps[0].ID)
			w.found("second", ps[1].ID)
			if w.count("dialect_people", "tenant_id = ?", w.tenant) != 5 {
				w.Error("not three rows more")
			}
			return storage.Reveal(w.ctx, ps)
		}},
		{"create/a slice of pointers", works, func(w *world) error {
			p := newPerson()
			ps := []*person{{Name: storage.Seal("Second One")}, &p}
			if err := w.do().Create(&ps).Error; err != nil {
				return err
			}
			w.isNew(p.ID)
			return storage.Reveal(w.ctx, ps)
		}},
		{"create/in batches", works, func(w *world) error {
			ps := make([]person, 7)
			for i := range ps {
				ps[i].Name = storage.Seal(fmt.Sprintf("Batch%c Member", 'A'+i))
			}
			if err := w.do().CreateInBatches(&ps, 3).Error; err != nil {
				return err
			}
			for i := range ps {
				w.found(fmt.Sprintf("batch%c", 'a'+i), ps[i].ID)
			}
			return storage.Reveal(w.ctx, ps)
		}},
		{"create/with the generic API", works, func(w *world) error {
			p := newPerson()
			if err := gorm.G[person](w.db.DB).Create(w.ctx, &p); err != nil {
				return err
			}
			w.isNew(p.ID)
			return nil
		}},
		{"create/Save of a new record", works, func(w *world) error {
			p := newPerson()
			if err := w.do().Save(&p).Error; err != nil {
				return err
			}
			w.isNew(p.ID)
			return nil
		}},
		{"create/nothing but NULLs", works, func(w *world) error {
			var p person
			if err := w.do().Create(&p).Error; err != nil {
				return err
			}
			got := w.read(p.ID)
			if !got.Name.IsNull() || w.stored("dialect_people", "name", p.ID) != nil {
				w.Error("a zero Sealed is not NULL")
			}
			return nil
		}},
		{"create/an empty string is not NULL", works, func(w *world) error {
			p := person{SSN: storage.Seal(""), Home: place{Rooms: storage.Seal(0)}}
			if err := w.do().Create(&p).Error; err != nil {
				return err
			}
			got := w.read(p.ID)
			wants(w, "SSN", got.SSN, "")
			wants(w, "Rooms", got.Home.Rooms, 0)
			if got.SSN.IsNull() {
				w.Error("an empty string became NULL")
			}
			return nil
		}},
		{"create/Select", works, func(w *world) error {
			p := newPerson()
			p.SSN = storage.Seal(ssnAlice)
			if err := w.do().Select("Name", "Seen", "Status").Create(&p).Error; err != nil {
				return err
			}
			w.isNew(p.ID)
			return nil
		}},
		{"create/Omit", works, func(w *world) error {
			p := newPerson()
			p.SSN = storage.Seal(ssnAlice)
			if err := w.do().Omit("SSN").Create(&p).Error; err != nil {
				return err
			}
			w.isNew(p.ID)
			return nil
		}},
		{"create/SkipDefaultTransaction", works, func(w *world) error {
			p := newPerson()
			if err := w.do().Session(&gorm.Session{SkipDefaultTransaction: true}).Create(&p).Error; err != nil {
				return err
			}
			w.isNew(p.ID)
			return nil
		}},
		{"create/a child with its children omitted", works, func(w *world) error {
			p := newPerson()
			p.Visits = []visit{{Reason: storage.Seal(reasonAlice)}}
			if err := w.do().Omit(clause.Associations).Create(&p).Error; err != nil {
				return err
			}
			w.isNew(p.ID)
			return nil
		}},
		{"create/FirstOrCreate with Attrs", works, func(w *world) error {
			id := uuid.NewString()
			var p person
			if err := w.do().Where("id = ?", id).Attrs(person{Name: storage.Seal(nameNew), Seen: seenAt(), Status: "new"}).FirstOrCreate(&p).Error; err != nil {
				return err
			}
			w.isNew(p.ID)
			var q person
			if err := w.do().Where("id = ?", p.ID).Attrs(person{Name: storage.Seal("Nobody Else")}).FirstOrCreate(&q).Error; err != nil {
				return err
			}
			w.isNew(q.ID)
			return nil
		}},

		{"create/maps", works, func(w *world) error {
			one := map[string]any{"Name": storage.Seal(nameNew), "seen": seenAt(), "status": "new"}
			name := storage.Seal("Second One")
			more := []map[string]any{{"name": &name, "Nick": nil}, {"SSN": storage.Seal(ssnAlice)}}
			if err := errors.Join(w.do().Model(&person{}).Create(one).Error, w.do().Model(&person{}).Create(&more).Error); err != nil {
				return err
			}
			w.isNew(one["id"].(string))
			w.found("second", more[0]["id"].(string))
			wants(w, "SSN", w.read(more[1]["id"].(string)).SSN, ssnAlice)
			return nil
		}},
		{"create/pointers and embedded structs", works, func(w *world) error {
			nick := storage.Seal("Fiddler")
			p := newPerson()
			p.Nick = &nick
			p.Home.Geo.Lat = storage.Seal(52.5)
			p.Work = &place{Street: storage.Seal(streetAlice), Geo: point{Lat: storage.Seal(-1.25)}}
			if err := w.do().Create(&p).Error; err != nil {
				return err
			}
			w.must(storage.Reveal(w.ctx, &p))
			wants(w, "Nick of what was created", *p.Nick, "Fiddler")
			got := w.read(p.ID)
			wants(w, "Nick", *got.Nick, "Fiddler")
			wants(w, "Home.Geo.Lat", got.Home.Geo.Lat, 52.5)
			wants(w, "Work.Street", got.Work.Street, streetAlice)
			wants(w, "Work.Geo.Lat", got.Work.Geo.Lat, -1.25)
			if w.read(w.alice.ID).Nick != nil {
				w.Error("NULL is not nil")
			}
			return nil
		}},
		{"create/DoNothing on nothing", works, func(w *world) error {
			p := newPerson()
			tx := w.do().Clauses(clause.OnConflict{DoNothing: true}).Create(&p)
			if tx.RowsAffected != 1 {
				w.Errorf("%d rows affected, want 1", tx.RowsAffected)
			}
			w.isNew(p.ID)
			return tx.Error
		}},
		{"create/DoNothing on an ID that is there", works, func(w *world) error {
			return w.doesNothing(func(p *person) { p.ID = w.alice.ID }, clause.OnConflict{DoNothing: true})
		}},
		{"create/DoNothing on the ID that is there, named", works, func(w *world) error {
			return w.doesNothing(func(p *person) { p.ID = w.alice.ID }, clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoNothing: true})
		}},
		{"create/DoNothing on another tenant's ID", works, func(w *world) error {
			return w.doesNothing(func(p *person) { p.ID = w.foreign.ID }, clause.OnConflict{DoNothing: true})
		}},
		{"create/DoNothing on a unique sealed value", works, func(w *world) error {
			return w.doesNothing(func(p *person) { p.MRN = storage.Seal(mrnAlice) }, clause.OnConflict{DoNothing: true})
		}},
		{"create/DoNothing on the ID, where a unique value is taken", works, func(w *world) error {
			p := newPerson()
			p.MRN = storage.Seal(mrnAlice)
			own := w.snapshot(w.tenant)
			err := w.do().Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoNothing: true}).Create(&p).Error
			if !errors.Is(err, storage.ErrDuplicate) || !errors.Is(err, gorm.ErrDuplicatedKey) || w.snapshot(w.tenant) != own {
				w.Errorf("%v, want ErrDuplicate and nothing stored", err)
			}
			return nil
		}},
		{"create/DoNothing of a slice", works, func(w *world) error {
			taken := newPerson()
			taken.ID = w.alice.ID
			ps := []person{newPerson(), taken, {MRN: storage.Seal(mrnBob)}, {Name: storage.Seal("Second One")}}
			tx := w.do().Clauses(clause.OnConflict{DoNothing: true}).Create(&ps)
			if tx.RowsAffected != 2 {
				w.Errorf("%d rows affected, want 2", tx.RowsAffected)
			}
			w.kept()
			w.found("kettle", ps[0].ID)
			w.found("second", ps[3].ID)
			return tx.Error
		}},
		{"create/an ID that is there, of one's own and of another tenant", works, func(w *world) error {
			own := w.snapshot(w.tenant)
			var texts []string
			for _, id := range []string{w.alice.ID, w.foreign.ID} {
				p := newPerson()
				p.ID = id
				err := w.do().Create(&p).Error
				if !errors.Is(err, storage.ErrDuplicate) {
					w.Errorf("%v, want ErrDuplicate", err)
				}
				texts = append(texts, fmt.Sprint(err))
			}
			if texts[0] != texts[1] || w.snapshot(w.tenant) != own {
				w.Errorf("%q and %q", texts[0], texts[1])
			}
			return nil
		}},
		{"create/a value", refused, func(w *world) error { return w.do().Create(newPerson()).Error }},
		{"create/a map", refused, func(w *world) error {
			return w.do().Model(&person{}).Create(map[string]any{"name": nameNew, "status": "new"}).Error
		}},
		{"create/a slice with a nil pointer", refused, func(w *world) error {
			p := newPerson()
			return w.do().Create([]*person{&p, nil}).Error
		}},
		{"create/Omit of a record's own column", refused, func(w *world) error {
			p := newPerson()
			return w.do().Omit("TenantID").Create(&p).Error
		}},
		{"create/upsert of all columns", refused, func(w *world) error {
			p := newPerson()
			p.ID = w.foreign.ID
			return w.do().Clauses(clause.OnConflict{UpdateAll: true}).Create(&p).Error
		}},
		{"create/upsert of one column", refused, func(w *world) error {
			p := newPerson()
			p.ID = w.alice.ID
			return w.do().Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"name"})}).Create(&p).Error
		}},
		{"create/RETURNING", refused, func(w *world) error {
			p := newPerson()
			return w.do().Clauses(clause.Returning{}).Create(&p).Error
		}},
		{"create/an ID that is none", refused, func(w *world) error {
			p := newPerson()
			p.ID = "1 OR 1=1"
			return w.do().Create(&p).Error
		}},
		{"create/a child without a subject", refused, func(w *world) error {
			return w.do().Create(&visit{Reason: storage.Seal(reasonAlice)}).Error
		}},
		{"create/a cell of another record", refused, func(w *world) error {
			var p person
			w.must(w.do().Take(&p, "id = ?", w.alice.ID).Error)
			return w.do().Create(&person{Name: p.Name}).Error
		}},
		{"create/plaintext put into a cell by Scan", refused, func(w *world) error {
			var p person
			_ = p.Name.Scan(nameNew)
			return w.do().Create(&p).Error
		}},
		{"create/a field that was not selected", refused, func(w *world) error {
			var p person
			w.must(w.do().Select("ID", "TenantID").Take(&p, "id = ?", w.alice.ID).Error)
			p.Record = storage.Record{}
			return w.do().Create(&p).Error
		}},
		{"create/Save of a slice", refused, func(w *world) error {
			var ps []person
			w.must(w.do().Find(&ps).Error)
			ps[0].Name = storage.Seal(nameNew)
			return w.do().Save(&ps).Error
		}},
		{"create/Save of a slice with another tenant's ID", refused, func(w *world) error {
			p := newPerson()
			p.ID = w.foreign.ID
			return w.do().Save([]person{p}).Error
		}},
		{"create/a duplicate in another tenant is none", works, func(w *world) error {
			p := person{MRN: storage.Seal(mrnBob)}
			return w.as(accesstest.AsIn(w, w.Context(), "third-"+w.tenant, "clinician", access.Treatment)).Create(&p).Error
		}},

		{"create/another tenant", denied, func(w *world) error {
			p := newPerson()
			p.TenantID = w.foreign.TenantID
			return w.do().Create(&p).Error
		}},
		{"create/no principal", denied, func(w *world) error {
			p := newPerson()
			return w.as(context.Background()).Create(&p).Error
		}},
		{"create/a class that the role may not write", denied, func(w *world) error {
			return w.as(w.clerk).Create(&person{Name: storage.Seal(nameNew), Notes: storage.Seal(notesAlice)}).Error
		}},
		{"create/a clear class that the role may not write", denied, func(w *world) error {
			return w.as(w.clerk).Create(&person{Seen: seenAt()}).Error
		}},
		{"create/a mask", denied, func(w *world) error {
			return w.do().Create(&person{SSN: storage.Seal("***-**-9999")}).Error
		}},
		{"create/a placeholder in clear", denied, func(w *world) error {
			return w.do().Create(&person{Status: "[PHI:operational]"}).Error
		}},
	}
}

func updatePaths() []path {
	load := func(w *world) *person {
		w.Helper()
		var p person
		w.must(w.do().Take(&p, "id = ?", w.alice.ID).Error)
		return &p
	}
	renamed := func(w *world) {
		w.Helper()
		p := w.read(w.alice.ID)
		wants(w, "Name", p.Name, nameNew)
		if p.Version != 2 {
			w.Errorf("Version %d after one write, want 2", p.Version)
		}
		w.kept("name")
		w.found("kettle", w.alice.ID)
		w.found("quill")
	}
	clear := func(w *world, err error) error {
		w.Helper()
		if p := w.read(w.alice.ID); p.Status != "moved" || p.Version != 2 {
			w.Errorf("Status %q in version %d, want moved in 2", p.Status, p.Version)
		}
		w.kept("status")
		return err
	}
	return []path{
		{"update/Save of what was read", works, func(w *world) error {
			p := load(w)
			p.Name = storage.Seal(nameNew)
			err := w.sameBytes("dialect_people", "ssn", p.ID, func() error { return w.do().Save(p).Error })
			renamed(w)
			return err
		}},
		{"update/Save of what was revealed", works, func(w *world) error {
			p := load(w)
			w.must(storage.Reveal(w.ctx, p))
			p.Name = storage.Seal(nameNew)
			err := w.sameBytes("dialect_people", "ssn", p.ID, func() error { return w.do().Save(p).Error })
			renamed(w)
			return err
		}},
		{"update/Save of an unchanged record", works, func(w *world) error {
			p := load(w)
			err := w.do().Save(p).Error
			w.kept()
			return err
		}},
		{"update/Save after Create", works, func(w *world) error {
			p := newPerson()
			w.must(w.do().Create(&p).Error)
			p.Status = "moved"
			if err := w.do().Save(&p).Error; err != nil {
				return err
			}
			got := w.read(p.ID)
			wants(w, "Name", got.Name, nameNew)
			if got.Status != "moved" {
				w.Error("Save wrote nothing")
			}
			return nil
		}},
		{"update/Save twice", works, func(w *world) error {
			p := load(w)
			p.Status = "moving"
			w.must(w.do().Save(p).Error)
			p.Status = "moved"
			err := w.do().Save(p).Error
			if got := w.read(p.ID); got.Status != "moved" || got.Version != 3 {
				w.Errorf("Status %q in version %d, want moved in 3", got.Status, got.Version)
			}
			w.kept("status")
			return err
		}},
		{"update/Save of a part that was selected", works, func(w *world) error {
			var p person
			w.must(w.do().Select("id", "tenant_id", "version", "status").Take(&p, "id = ?", w.alice.ID).Error)
			p.Status = "moved"
			return clear(w, w.do().Save(&p).Error)
		}},
		{"update/Save of a part that was selected in one text", works, func(w *world) error {
			var p person
			w.must(w.do().Select("id, tenant_id, version, status").Take(&p, "id = ?", w.alice.ID).Error)
			p.Status = "moved"
			return clear(w, w.do().Save(&p).Error)
		}},
		{"update/Save of a part selected by an expression", works, func(w *world) error {
			var p person
			if err := w.do().Select("id, tenant_id, version, ? AS status", "x").Take(&p, "id = ?", w.alice.ID).Error; err != nil {
				w.onlyRefused(err)
				return nil
			}
			p.Status = "moved"
			return clear(w, w.do().Save(&p).Error)
		}},
		{"update/Save of a part selected by a clause", works, func(w *world) error {
			var p person
			err := w.do().Clauses(clause.Select{Columns: []clause.Column{{Name: "id"}, {Name: "tenant_id"}, {Name: "version"}}}).Take(&p, "id = ?", w.alice.ID).Error
			if err != nil {
				w.onlyRefused(err)
				return nil
			}
			p.Status = "moved"
			return clear(w, w.do().Save(&p).Error)
		}},
		{"update/Save of what Omit left", works, func(w *world) error {
			var p person
			w.must(w.do().Omit("SSN", "Notes", "Seen").Take(&p, "id = ?", w.alice.ID).Error)
			p.Status = "moved"
			return clear(w, w.do().Save(&p).Error)
		}},
		{"update/Save of a masked and withheld record", works, func(w *world) error {
			var p person
			w.must(w.as(w.clerk).Take(&p, "id = ?", w.alice.ID).Error)
			w.must(storage.Reveal(w.clerk, &p))
			if _, err := p.Notes.Get(w.clerk); !errors.Is(err, storage.ErrWithheld) {
				w.Errorf("Notes.Get = %v, want ErrWithheld", err)
			}
			p.Status = "moved"
			return clear(w, w.as(w.clerk).Save(&p).Error)
		}},
		{"update/Save of a withheld NULL", works, func(w *world) error {
			var p person
			w.must(w.as(w.clerk).Take(&p, "id = ?", w.bob.ID).Error)
			w.must(storage.Reveal(w.clerk, &p))
			if _, err := p.Notes.Get(w.clerk); !errors.Is(err, storage.ErrWithheld) {
				w.Errorf("NULL Notes.Get = %v, want ErrWithheld", err)
			}
			p.Status = "moved"
			err := w.as(w.clerk).Save(&p).Error
			if w.stored("dialect_people", "notes", w.bob.ID) != nil {
				w.Error("a withheld NULL was written as something")
			}
			return err
		}},
		{"update/Save with its children omitted", works, func(w *world) error {
			var p person
			w.must(w.do().Preload("Visits").Take(&p, "id = ?", w.alice.ID).Error)
			p.Status = "moved"
			return clear(w, w.do().Omit(clause.Associations).Save(&p).Error)
		}},
		{"update/Save with Select", works, func(w *world) error {
			p := load(w)
			p.Status, p.Name = "moved", storage.Seal(nameNew)
			return clear(w, w.do().Select("Status").Save(p).Error)
		}},
		{"update/Updates of a struct", works, func(w *world) error {
			err := w.do().Model(load(w)).Updates(person{Name: storage.Seal(nameNew)}).Error
			renamed(w)
			return err
		}},
		{"update/Updates of a pointer", works, func(w *world) error {
			err := w.do().Model(load(w)).Updates(&person{Name: storage.Seal(nameNew)}).Error
			renamed(w)
			return err
		}},
		{"update/Updates of the record itself", works, func(w *world) error {
			p := load(w)
			p.Name = storage.Seal(nameNew)
			err := w.do().Updates(p).Error
			renamed(w)
			return err
		}},
		{"update/Updates of a map", works, func(w *world) error {
			err := w.do().Model(load(w)).Updates(map[string]any{"Name": storage.Seal(nameNew)}).Error
			renamed(w)
			return err
		}},
		{"update/Updates of a map with a pointer and columns", works, func(w *world) error {
			s := storage.Seal(nameNew)
			err := w.do().Model(load(w)).Updates(map[string]any{"name": &s, "status": "admitted"}).Error
			renamed(w)
			return err
		}},
		{"update/Update of a sealed field", works, func(w *world) error {
			p := load(w)
			err := w.do().Model(p).Update("Name", storage.Seal(nameNew)).Error
			renamed(w)
			w.must(storage.Reveal(w.ctx, p))
			wants(w, "Name of the model", p.Name, nameNew)
			return err
		}},
		{"update/Update of an embedded field", works, func(w *world) error {
			err := w.do().Model(load(w)).Update("home_street", storage.Seal("1 New Street")).Error
			wants(w, "Home.Street", w.read(w.alice.ID).Home.Street, "1 New Street")
			w.kept("street")
			return err
		}},
		{"update/Update of a clear field", works, func(w *world) error {
			return clear(w, w.do().Model(load(w)).Update("Status", "moved").Error)
		}},
		{"update/Update by condition", works, func(w *world) error {
			return clear(w, w.do().Model(&person{}).Where("id = ?", w.alice.ID).Update("status", "moved").Error)
		}},
		{"update/Update of several records", works, func(w *world) error {
			tx := w.do().Model(&person{}).Where("active = ? OR active = ?", true, false).Update("status", "moved")
			if tx.RowsAffected != 2 {
				w.Errorf("%d rows affected, want 2", tx.RowsAffected)
			}
			return clear(w, tx.Error)
		}},
		{"update/Update of all with AllowGlobalUpdate", works, func(w *world) error {
			tx := w.do().Session(&gorm.Session{AllowGlobalUpdate: true}).Model(&person{}).Update("status", "moved")
			if tx.RowsAffected != 2 {
				w.Errorf("%d rows affected, want 2", tx.RowsAffected)
			}
			return clear(w, tx.Error)
		}},
		{"update/Where Or", works, func(w *world) error {
			tx := w.do().Model(&person{}).Where("id = ?", w.alice.ID).Or("1 = 1").Update("status", "moved")
			if tx.RowsAffected != 2 {
				w.Errorf("%d rows affected, want 2", tx.RowsAffected)
			}
			return clear(w, tx.Error)
		}},
		{"update/by Match", works, func(w *world) error {
			return clear(w, w.do().Model(&person{}).Where(storage.Match("Name", "quill")).Update("status", "moved").Error)
		}},
		{"update/UpdateColumn", works, func(w *world) error {
			err := w.do().Model(load(w)).UpdateColumn("name", storage.Seal(nameNew)).Error
			renamed(w)
			return err
		}},
		{"update/UpdateColumns", works, func(w *world) error {
			return clear(w, w.do().Model(load(w)).UpdateColumns(person{Status: "moved"}).Error)
		}},
		{"update/an expression on a field without PHI", works, func(w *world) error {
			err := w.do().Model(&person{}).Where("id = ?", w.bob.ID).Update("active", gorm.Expr("NOT active")).Error
			if !w.read(w.bob.ID).Active {
				w.Error("nothing was updated")
			}
			return err
		}},
		{"update/to NULL by a map", works, func(w *world) error {
			err := w.do().Model(load(w)).Updates(map[string]any{"ssn": nil}).Error
			if w.stored("dialect_people", "ssn", w.alice.ID) != nil {
				w.Error("it is not NULL")
			}
			w.kept("ssn")
			return err
		}},
		{"update/to NULL by Save", works, func(w *world) error {
			p := load(w)
			p.Name = storage.Sealed[string]{}
			err := w.do().Save(p).Error
			if w.stored("dialect_people", "name", w.alice.ID) != nil {
				w.Error("it is not NULL")
			}
			w.found("quill")
			w.kept("name")
			return err
		}},
		{"update/with the generic API", works, func(w *world) error {
			n, err := gorm.G[person](w.db.DB).Where("id = ?", w.alice.ID).Updates(w.ctx, person{Name: storage.Seal(nameNew)})
			if n != 1 {
				w.Errorf("%d rows affected, want 1", n)
			}
			renamed(w)
			return err
		}},
		{"update/FirstOrCreate with Assign", works, func(w *world) error {
			var p person
			return clear(w, w.do().Where("id = ?", w.alice.ID).Assign(person{Status: "moved"}).FirstOrCreate(&p).Error)
		}},
		{"update/SkipDefaultTransaction", works, func(w *world) error {
			return clear(w, w.do().Session(&gorm.Session{SkipDefaultTransaction: true}).Model(load(w)).Update("Status", "moved").Error)
		}},
		{"update/PrepareStmt", works, func(w *world) error {
			err := w.do().Session(&gorm.Session{PrepareStmt: true}).Model(load(w)).Update("Name", storage.Seal(nameNew)).Error
			renamed(w)
			return err
		}},
		{"update/nothing found", works, func(w *world) error {
			tx := w.do().Model(&person{}).Where("id = ?", w.foreign.ID).Update("status", "moved")
			if tx.RowsAffected != 0 {
				w.Errorf("%d rows affected, want 0", tx.RowsAffected)
			}
			return tx.Error
		}},

		{"update/one sealed value for several records", works, func(w *world) error {
			tx := w.do().Model(&person{}).Where("1 = 1").Updates(map[string]any{"name": storage.Seal(nameNew), "status": "moved"})
			if tx.RowsAffected != 2 {
				w.Errorf("%d rows affected, want 2", tx.RowsAffected)
			}
			for _, id := range []string{w.alice.ID, w.bob.ID} {
				p := w.read(id)
				wants(w, "Name", p.Name, nameNew)
				if p.Status != "moved" || p.Version != 2 {
					w.Errorf("Status %q in version %d", p.Status, p.Version)
				}
			}
			if a, b := w.stored("dialect_people", "name", w.alice.ID), w.stored("dialect_people", "name", w.bob.ID); string(a) == string(b) {
				w.Error("two records have one cell")
			}
			w.kept("name", "status")
			w.found("kettle", w.alice.ID, w.bob.ID)
			return tx.Error
		}},
		{"update/one sealed value for the records of a slice", works, func(w *world) error {
			var ps []person
			w.must(w.do().Find(&ps).Error)
			if err := w.do().Model(&ps).Update("name", storage.Seal(nameNew)).Error; err != nil {
				return err
			}
			w.must(storage.Reveal(w.ctx, ps))
			wants(w, "Name of the model", ps[0].Name, nameNew)
			wants(w, "Name of the model", ps[1].Name, nameNew)
			ps[0].Status = "moved"
			return w.do().Save(&ps[0]).Error
		}},
		{"update/a pointer", works, func(w *world) error {
			p := load(w)
			nick := storage.Seal("Fiddler")
			p.Nick = &nick
			copied := *p
			w.must(w.do().Save(p).Error)
			got := w.read(p.ID)
			wants(w, "Nick", *got.Nick, "Fiddler")
			if got := copied.Nick; got != &nick {
				w.Error("the copy changed")
			}
			w.kept()
			p.Nick = nil
			err := w.do().Save(p).Error
			if w.stored("dialect_people", "nick", p.ID) != nil {
				w.Error("nil is not NULL")
			}
			return err
		}},
		{"update/a struct that is embedded by pointer", works, func(w *world) error {
			p := load(w)
			p.Work = &place{Street: storage.Seal("1 New Street")}
			w.must(w.do().Save(p).Error)
			w.must(w.do().Model(p).Update("work_geo_lat", storage.Seal(1.5)).Error)
			got := w.read(p.ID)
			wants(w, "Work.Street", got.Work.Street, "1 New Street")
			wants(w, "Work.Geo.Lat", got.Work.Geo.Lat, 1.5)
			w.kept()
			return nil
		}},
		{"update/FirstOrCreate with Assign of a sealed value", works, func(w *world) error {
			var p person
			err := w.do().Where("id = ?", w.alice.ID).Assign(map[string]any{"name": storage.Seal(nameNew)}).FirstOrCreate(&p).Error
			if err != nil {
				w.onlyRefused(err)
				w.kept()
				return nil
			}
			renamed(w)
			return nil
		}},
		{"update/restored with Unscoped", works, func(w *world) error {
			w.must(w.do().Delete(&visit{}, "id = ?", w.visit.ID).Error)
			if err := w.do().Unscoped().Model(&visit{}).Where("id = ?", w.visit.ID).Update("deleted_at", nil).Error; err != nil {
				return err
			}
			var v visit
			w.must(w.do().Take(&v, "id = ?", w.visit.ID).Error)
			w.must(storage.Reveal(w.ctx, &v))
			wants(w, "Reason", v.Reason, reasonAlice)
			return nil
		}},
		{"update/a bare value in a map", refused, func(w *world) error {
			return w.do().Model(load(w)).Updates(map[string]any{"name": nameNew}).Error
		}},
		{"update/a bare value in Update", refused, func(w *world) error { return w.do().Model(load(w)).Update("Name", nameNew).Error }},
		{"update/a bare value in UpdateColumn", refused, func(w *world) error {
			return w.do().Model(load(w)).UpdateColumn("name", []byte(nameNew)).Error
		}},
		{"update/a value of another type", refused, func(w *world) error {
			return w.do().Model(load(w)).Update("Name", storage.Seal(5)).Error
		}},
		{"update/an expression on a sealed field", refused, func(w *world) error {
			return w.do().Model(load(w)).Update("name", gorm.Expr("?", nameNew)).Error
		}},
		{"update/a column on a sealed field", refused, func(w *world) error {
			return w.do().Model(load(w)).Update("name", clause.Column{Name: "status"}).Error
		}},
		{"update/an expression on a clear field", refused, func(w *world) error {
			return w.do().Model(load(w)).Update("status", gorm.Expr("'x'")).Error
		}},
		{"update/an expression that reads PHI", refused, func(w *world) error {
			return w.do().Model(load(w)).Update("active", gorm.Expr("ssn IS NULL")).Error
		}},
		{"update/a subquery", refused, func(w *world) error {
			return w.do().Model(load(w)).Update("active", gorm.Expr("(SELECT count(*) > 0 FROM dialect_widgets)")).Error
		}},
		{"update/the ID", refused, func(w *world) error { return w.do().Model(load(w)).Update("id", uuid.NewString()).Error }},
		{"update/the tenant", refused, func(w *world) error {
			return w.do().Model(load(w)).Update("TenantID", w.foreign.TenantID).Error
		}},
		{"update/the subject", refused, func(w *world) error {
			return w.do().Model(&visit{}).Where("id = ?", w.visit.ID).Update("PersonID", w.bob.ID).Error
		}},
		{"update/the subject by Save", refused, func(w *world) error {
			var v visit
			w.must(w.do().Take(&v, "id = ?", w.visit.ID).Error)
			v.PersonID = w.bob.ID
			return w.do().Save(&v).Error
		}},
		{"update/the subject by Association", refused, func(w *world) error {
			var p person
			w.must(w.do().Preload("Visits").Take(&p, "id = ?", w.alice.ID).Error)
			return w.do().Model(&p).Association("Visits").Clear()
		}},
		{"update/a column that there is not", refused, func(w *world) error {
			return w.do().Model(load(w)).Updates(map[string]any{"dialect_people.name": storage.Seal(nameNew)}).Error
		}},
		{"update/a cell of another record", refused, func(w *world) error {
			var b person
			w.must(w.do().Take(&b, "id = ?", w.bob.ID).Error)
			p := load(w)
			p.Name = b.Name
			return w.do().Save(p).Error
		}},
		{"update/a cell of another field", refused, func(w *world) error {
			p := load(w)
			p.Notes = p.SSN
			return w.do().Save(p).Error
		}},
		{"update/Save of what was read without its version", refused, func(w *world) error {
			var p person
			w.must(w.do().Select("id", "tenant_id", "status").Take(&p, "id = ?", w.alice.ID).Error)
			p.Status = "moved"
			return w.do().Save(&p).Error
		}},
		{"update/Save of what was not read", refused, func(w *world) error {
			p := newPerson()
			p.ID = w.alice.ID
			return w.do().Save(&p).Error
		}},
		{"update/Save of another tenant's record", refused, func(w *world) error {
			var p person
			w.must(w.as(w.other).Take(&p, "id = ?", w.foreign.ID).Error)
			p.Status = "moved"
			return w.do().Save(&p).Error
		}},
		{"update/Save of another tenant's record as one's own", refused, func(w *world) error {
			var p person
			w.must(w.as(w.other).Take(&p, "id = ?", w.foreign.ID).Error)
			p.TenantID, p.Status = w.tenant, "moved"
			return w.do().Save(&p).Error
		}},
		{"update/Save of what was deleted", works, func(w *world) error {
			var v visit
			w.must(w.do().Take(&v, "id = ?", w.visit.ID).Error)
			w.must(w.do().Unscoped().Delete(&visit{}, "id = ?", w.visit.ID).Error)
			v.Reason = storage.Seal("again")
			err := w.do().Save(&v).Error
			if w.count("dialect_visits", "id = ?", w.visit.ID) != 0 {
				w.Error("Save put the record back")
			}
			w.must(w.do().Create(&visit{Record: storage.Record{ID: w.visit.ID}, PersonID: w.alice.ID}).Error)
			return w.restored(err)
		}},
		{"update/Save through a model", refused, func(w *world) error {
			p := load(w)
			p.Status = "moved"
			return w.do().Model(&person{}).Save(p).Error
		}},
		{"update/a stale version by Save", refused, func(w *world) error {
			p := load(w)
			p.Version += 7
			p.Status = "moved"
			return w.do().Save(p).Error
		}},
		{"update/a stale version by Updates", refused, func(w *world) error {
			p := load(w)
			p.Version++
			return w.do().Model(p).Update("status", "moved").Error
		}},
		{"update/without a condition", refused, func(w *world) error { return w.do().Model(&person{}).Update("status", "moved").Error }},
		{"update/brackets", refused, func(w *world) error {
			return w.do().Model(&person{}).Where("1 = 1) OR (1 = 1").Update("status", "moved").Error
		}},
		{"update/a comment", refused, func(w *world) error {
			return w.do().Model(&person{}).Where("1 = 1 --").Update("status", "moved").Error
		}},
		{"update/a condition on a sealed column", refused, func(w *world) error {
			return w.do().Model(&person{}).Where("ssn IS NOT NULL").Update("status", "moved").Error
		}},
		{"update/LIMIT", refused, func(w *world) error {
			return w.do().Model(&person{}).Where("1 = 1").Limit(1).Update("status", "moved").Error
		}},
		{"update/RETURNING", refused, func(w *world) error {
			return w.do().Clauses(clause.Returning{}).Model(load(w)).Update("status", "moved").Error
		}},
		{"update/a join", refused, func(w *world) error {
			return w.do().Model(&person{}).Joins("Visits").Where("1 = 1").Update("status", "moved").Error
		}},
		{"update/another table", refused, func(w *world) error {
			return w.do().Model(&person{}).Table("dialect_visits").Where("1 = 1").Updates(person{Status: "moved"}).Error
		}},
		{"update/a map on a table by name", refused, func(w *world) error {
			return w.do().Table("dialect_people").Where("id = ?", w.alice.ID).Updates(map[string]any{"name": nameNew}).Error
		}},

		{"update/no principal", denied, func(w *world) error {
			return w.as(context.Background()).Model(&person{}).Where("1 = 1").Update("status", "moved").Error
		}},
		{"update/a class that the role may not write", denied, func(w *world) error {
			return w.as(w.clerk).Model(&person{}).Where("id = ?", w.alice.ID).Update("notes", storage.Seal("x")).Error
		}},
		{"update/a class that the role may only set", denied, func(w *world) error {
			return w.as(w.clerk).Model(&person{}).Where("id = ?", w.alice.ID).Update("ssn", storage.Seal("123-45-6789")).Error
		}},
		{"update/to NULL what the role may not change", denied, func(w *world) error {
			return w.as(w.clerk).Model(&person{}).Where("id = ?", w.alice.ID).Update("mrn", nil).Error
		}},
		{"update/the mask of what is stored", denied, func(w *world) error {
			return w.do().Model(load(w)).Update("ssn", storage.Seal("***-**-9999")).Error
		}},
		{"update/a placeholder", denied, func(w *world) error {
			return w.do().Model(load(w)).Update("name", storage.Seal("[PHI:name]")).Error
		}},
	}
}

// onlyRefused holds that a path which storage does not take says the mend.
func (w *world) onlyRefused(err error) {
	w.Helper()
	if !errors.Is(err, storage.ErrRefused) {
		w.Errorf("neither done nor refused: %v", err)
	}
}

func deletePaths() []path {
	gone := func(w *world, err error) error {
		w.Helper()
		if w.count("dialect_people", "id = ?", w.alice.ID) != 0 || w.count("phi_index", "record_id = ?", w.alice.ID) != 0 {
			w.Error("the record or its tokens are still there")
		}
		w.found("zanzi", w.bob.ID)
		if w.recorded(audit.WriteAttempt, w.alice.ID) < 2 {
			w.Error("the deletion was not recorded")
		}
		return err
	}
	return []path{
		{"delete/what was read", works, func(w *world) error {
			var p person
			w.must(w.do().Take(&p, "id = ?", w.alice.ID).Error)
			return gone(w, w.do().Delete(&p).Error)
		}},
		{"delete/by ID", works, func(w *world) error { return gone(w, w.do().Delete(&person{}, "id = ?", w.alice.ID).Error) }},
		{"delete/by condition", works, func(w *world) error {
			return gone(w, w.do().Where("active = ?", true).Delete(&person{}).Error)
		}},
		{"delete/by Match", works, func(w *world) error {
			return gone(w, w.do().Where(storage.Match("Name", "alice")).Delete(&person{}).Error)
		}},
		{"delete/a slice", works, func(w *world) error {
			var ps []person
			w.must(w.do().Find(&ps, "id = ?", w.alice.ID).Error)
			return gone(w, w.do().Delete(&ps).Error)
		}},
		{"delete/with the generic API", works, func(w *world) error {
			n, err := gorm.G[person](w.db.DB).Where("id = ?", w.alice.ID).Delete(w.ctx)
			if n != 1 {
				w.Errorf("%d rows affected, want 1", n)
			}
			return gone(w, err)
		}},
		{"delete/Where Or", works, func(w *world) error {
			tx := w.do().Where("id = ?", w.alice.ID).Or("1 = 1").Delete(&person{})
			if tx.RowsAffected != 2 {
				w.Errorf("%d rows affected, want 2", tx.RowsAffected)
			}
			return tx.Error
		}},
		{"delete/soft", works, func(w *world) error {
			if err := w.do().Delete(&visit{}, "id = ?", w.visit.ID).Error; err != nil {
				return err
			}
			if w.stored("dialect_visits", "reason", w.visit.ID) == nil {
				w.Error("a soft deletion lost the cell")
			}
			var vs []visit
			if err := w.do().Find(&vs).Error; err != nil || len(vs) != 0 {
				w.Errorf("%d rows after a soft deletion, %v", len(vs), err)
			}
			if err := w.do().Unscoped().Find(&vs).Error; err != nil || len(vs) != 1 {
				w.Errorf("%d rows Unscoped, %v; want 1", len(vs), err)
			}
			w.must(storage.Reveal(w.ctx, vs))
			wants(w, "Reason", vs[0].Reason, reasonAlice)
			return nil
		}},
		{"delete/hard of a soft model", works, func(w *world) error {
			err := w.do().Unscoped().Delete(&visit{}, "id = ?", w.visit.ID).Error
			if w.count("dialect_visits", "id = ?", w.visit.ID) != 0 {
				w.Error("the row is still there")
			}
			return err
		}},
		{"delete/another tenant's record", works, func(w *world) error {
			tx := w.do().Delete(&person{}, "id = ?", w.foreign.ID)
			if tx.RowsAffected != 0 {
				w.Errorf("%d rows affected, want 0", tx.RowsAffected)
			}
			return tx.Error
		}},
		{"delete/all with AllowGlobalUpdate", works, func(w *world) error {
			tx := w.do().Session(&gorm.Session{AllowGlobalUpdate: true}).Delete(&person{})
			if tx.RowsAffected != 2 {
				w.Errorf("%d rows affected, want 2", tx.RowsAffected)
			}
			return tx.Error
		}},

		{"delete/without a condition", refused, func(w *world) error { return w.do().Delete(&person{}).Error }},
		{"delete/a stale version", refused, func(w *world) error {
			var p person
			w.must(w.do().Take(&p, "id = ?", w.alice.ID).Error)
			p.Version = 7
			return w.do().Delete(&p).Error
		}},
		{"delete/another tenant's record that was read", refused, func(w *world) error {
			var p person
			w.must(w.as(w.other).Take(&p, "id = ?", w.foreign.ID).Error)
			return w.do().Delete(&p).Error
		}},
		{"delete/brackets", refused, func(w *world) error { return w.do().Where("1 = 1) OR (1 = 1").Delete(&person{}).Error }},
		{"delete/a condition on a sealed column", refused, func(w *world) error { return w.do().Where("ssn IS NULL").Delete(&person{}).Error }},
		{"delete/a subquery", refused, func(w *world) error {
			return w.do().Where("id IN (SELECT person_id FROM dialect_visits)").Delete(&person{}).Error
		}},
		{"delete/RETURNING", refused, func(w *world) error {
			return w.do().Clauses(clause.Returning{}).Delete(&person{}, "id = ?", w.alice.ID).Error
		}},
		{"delete/on a table by name", refused, func(w *world) error {
			return w.do().Table("dialect_people").Where("1 = 1").Delete(&widget{}).Error
		}},
		{"delete/DropTable", refused, func(w *world) error { return w.do().Migrator().DropTable(&person{}) }},

		{"delete/no principal", denied, func(w *world) error {
			return w.as(context.Background()).Delete(&person{}, "id = ?", w.alice.ID).Error
		}},
	}
}

// restored returns err for a path that put back by itself what it took away,
// under another cell: the snapshot is of no use to it.
func (w *world) restored(err error) error {
	w.Helper()
	if errors.Is(err, storage.ErrConflict) {
		return nil
	}
	return fmt.Errorf("want ErrConflict: %w", err)
}
