// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
)

// The structs that the suite reads into, beside the models.
type (
	card struct {
		ID   string
		Name storage.Sealed[string]
		SSN  *storage.Sealed[string]
	}
	cardWithStatus struct {
		ID     string
		Status string
		Name   storage.Sealed[string]
	}
	taggedCard struct {
		ID   string
		Seen time.Time `phi:"date,clear"`
	}
	tally struct {
		Status string
		N      int
	}
)

// targetPaths read into something else than the model.
func targetPaths() []path {
	not := func(name string, run func(w *world) error) path { return path{"target/" + name, refused, run} }
	// fetched holds that exactly these people were recorded as seen in clear.
	fetched := func(w *world, f func() error, want ...string) error {
		w.Helper()
		before := len(w.db.Trail.Events())
		err := f()
		var got []string
		for _, ev := range w.db.Trail.Events()[before:] {
			if ev.Type == audit.Fetched && ev.Actor.Tenant == w.tenant {
				for _, o := range ev.Objects {
					got = append(got, o.Record)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(slices.Compact(got), want) {
			w.Errorf("%d people were recorded, want %d", len(got), len(want))
		}
		return err
	}
	return []path{
		{"target/a struct with sealed fields and the ID", works, func(w *world) error {
			var cs []card
			if err := w.do().Model(&person{}).Order("active DESC").Find(&cs).Error; err != nil {
				return err
			}
			if len(cs) != 2 {
				return fmt.Errorf("%d rows, want 2", len(cs))
			}
			if _, err := cs[0].Name.Get(w.ctx); !errors.Is(err, storage.ErrSealed) {
				w.Errorf("before Reveal Get = %v, want ErrSealed", err)
			}
			w.must(storage.Reveal(w.ctx, cs))
			wants(w, "Name", cs[0].Name, nameAlice)
			wants(w, "SSN", *cs[0].SSN, ssnAlice)
			wants(w, "Name", cs[1].Name, nameBob)
			if cs[1].SSN != nil {
				w.Error("NULL is not nil after Reveal")
			}
			return nil
		}},
		{"target/one struct", works, func(w *world) error {
			var c card
			if err := w.do().Model(&person{}).Where("id = ?", w.alice.ID).Take(&c).Error; err != nil {
				return err
			}
			w.must(storage.Reveal(w.ctx, &c))
			wants(w, "Name", c.Name, nameAlice)
			return nil
		}},
		{"target/pointers to structs", works, func(w *world) error {
			var cs []*card
			if err := w.do().Model(&person{}).Where("id = ?", w.alice.ID).Find(&cs).Error; err != nil {
				return err
			}
			w.must(storage.Reveal(w.ctx, cs))
			wants(w, "Name", cs[0].Name, nameAlice)
			return nil
		}},
		{"target/a struct with PHI in clear", works, func(w *world) error {
			return fetched(w, func() error {
				var cs []cardWithStatus
				err := w.do().Model(&person{}).Where("active = ?", true).Find(&cs).Error
				if err == nil && (len(cs) != 1 || cs[0].Status != "admitted") {
					return fmt.Errorf("read %d rows", len(cs))
				}
				return errors.Join(err, storage.Reveal(w.ctx, cs))
			}, w.alice.ID)
		}},
		{"target/a struct with PHI in clear and no ID", works, func(w *world) error {
			return fetched(w, func() error {
				var cs []struct{ Status string }
				return w.do().Model(&person{}).Order("seen").Limit(1).Find(&cs).Error
			}, w.alice.ID)
		}},
		{"target/the model without its ID", works, func(w *world) error {
			return fetched(w, func() error {
				var ps []person
				err := w.do().Select("status").Find(&ps).Error
				if len(ps) != 2 || ps[0].Status == "" {
					w.Errorf("read %d rows", len(ps))
				}
				return err
			}, w.alice.ID, w.bob.ID)
		}},
		{"target/FirstOrInit with Attrs", works, func(w *world) error {
			var p person
			if err := w.do().Where("id = ?", w.foreign.ID).Attrs(person{Name: storage.Seal(nameNew), Status: "new"}).FirstOrInit(&p).Error; err != nil {
				return err
			}
			if _, err := p.Name.Get(w.ctx); !errors.Is(err, storage.ErrSealed) || p.Status != "new" {
				w.Errorf("Name.Get = %v, Status %q", err, p.Status)
			}
			return nil
		}},
		{"target/FirstOrInit with Assign", works, func(w *world) error {
			var p person
			if err := w.do().Where("id = ?", w.alice.ID).Assign(person{Status: "new"}).FirstOrInit(&p).Error; err != nil {
				return err
			}
			if p.ID != w.alice.ID || p.Status != "new" {
				w.Error("not initialised")
			}
			return nil
		}},
		{"target/a map", works, func(w *world) error {
			return fetched(w, func() error {
				m := map[string]any{}
				if err := w.do().Model(&person{}).Where("id = ?", w.alice.ID).Take(&m).Error; err != nil {
					return err
				}
				s, ok := m["name"].(storage.Sealed[string])
				if !ok || m["status"] != "admitted" {
					return fmt.Errorf("the name is a %T", m["name"])
				}
				w.must(storage.Reveal(w.ctx, &s))
				wants(w, "name", s, nameAlice)
				return nil
			}, w.alice.ID)
		}},
		{"target/maps", works, func(w *world) error {
			return fetched(w, func() error {
				var ms []map[string]any
				if err := w.do().Model(&person{}).Order("active DESC").Find(&ms).Error; err != nil {
					return err
				}
				s := ms[0]["ssn"].(storage.Sealed[string])
				null := ms[1]["ssn"].(storage.Sealed[string])
				w.must(errors.Join(storage.Reveal(w.ctx, &s), storage.Reveal(w.ctx, &null)))
				wants(w, "ssn", s, ssnAlice)
				if !null.IsNull() {
					w.Error("NULL is none")
				}
				return nil
			}, w.alice.ID, w.bob.ID)
		}},
		{"target/maps without the ID", works, func(w *world) error {
			var ms []map[string]any
			if err := w.do().Model(&person{}).Select("name").Find(&ms).Error; err != nil {
				return err
			}
			s := ms[0]["name"].(storage.Sealed[string])
			if err := storage.Reveal(w.ctx, &s); !errors.Is(err, storage.ErrUnbound) {
				w.Errorf("Reveal = %v, want ErrUnbound", err)
			}
			return nil
		}},
		{"target/Pluck of what is no PHI", works, func(w *world) error {
			var ids []string
			err := w.do().Model(&person{}).Order("active").Pluck("id", &ids).Error
			if !slices.Equal(ids, []string{w.bob.ID, w.alice.ID}) {
				w.Errorf("plucked %d", len(ids))
			}
			return err
		}},
		{"target/Pluck of PHI in clear", works, func(w *world) error {
			return fetched(w, func() error {
				var list []string
				err := w.do().Model(&person{}).Where("active = ?", true).Pluck("status", &list).Error
				if !slices.Equal(list, []string{"admitted"}) {
					w.Errorf("plucked %d", len(list))
				}
				return err
			}, w.alice.ID)
		}},
		{"target/Distinct Pluck", works, func(w *world) error {
			return fetched(w, func() error {
				var list []string
				err := w.do().Model(&person{}).Distinct().Limit(1).Order("status").Pluck("status", &list).Error
				if !slices.Equal(list, []string{"admitted"}) {
					w.Errorf("plucked %d", len(list))
				}
				return err
			}, w.alice.ID, w.bob.ID)
		}},
		{"target/Distinct on a clear column", works, func(w *world) error {
			return fetched(w, func() error {
				var ps []person
				return w.do().Distinct("status").Find(&ps).Error
			}, w.alice.ID, w.bob.ID)
		}},
		{"target/Group, Having and aggregates", works, func(w *world) error {
			return fetched(w, func() error {
				var ts []tally
				err := w.do().Model(&person{}).Select("status, count(*) AS n").Group("status").Having("count(*) > ?", 0).Order("status").Find(&ts).Error
				if err == nil && (len(ts) != 2 || ts[0].Status != "admitted" || ts[0].N != 1) {
					w.Errorf("%+v", ts)
				}
				return err
			}, w.alice.ID, w.bob.ID)
		}},
		{"target/counts by column", works, func(w *world) error {
			var n, d int64
			err := errors.Join(
				w.do().Model(&person{}).Where("active = ? OR 1 = 1", true).Distinct("status").Count(&n).Error,
				w.do().Model(&person{}).Select("id").Count(&d).Error)
			if n != 2 || d != 2 {
				w.Errorf("%d and %d, want 2", n, d)
			}
			return err
		}},
		{"target/Count with Group", works, func(w *world) error {
			var n int64
			err := w.do().Model(&person{}).Group("status").Count(&n).Error
			if n != 2 {
				w.Errorf("%d groups, want 2", n)
			}
			return err
		}},
		{"target/Scan without sealed columns", works, func(w *world) error {
			return fetched(w, func() error {
				var ts []struct{ ID, Status string }
				err := w.do().Model(&person{}).Select("id", "status").Where("id = ?", w.alice.ID).Scan(&ts).Error
				if err == nil && (len(ts) != 1 || ts[0].Status != "admitted") {
					w.Errorf("scanned %d", len(ts))
				}
				return err
			}, w.alice.ID)
		}},
		{"target/Scan of a count", works, func(w *world) error {
			var n int
			err := w.do().Model(&person{}).Select("count(*)").Or("1 = 1").Scan(&n).Error
			if n != 2 {
				w.Errorf("%d, want 2", n)
			}
			return err
		}},
		{"target/Rows and ScanRows", works, func(w *world) error {
			return fetched(w, func() error {
				rows, err := w.do().Model(&person{}).Select("id", "status", "active").Rows()
				if err != nil {
					return err
				}
				defer rows.Close()
				n := 0
				for rows.Next() {
					var t struct {
						ID, Status string
						Active     bool
					}
					w.must(w.do().ScanRows(rows, &t))
					if t.Status == "" {
						w.Error("nothing was scanned")
					}
					n++
				}
				if n != 2 {
					w.Errorf("%d rows, want 2", n)
				}
				return rows.Err()
			}, w.alice.ID, w.bob.ID)
		}},
		{"target/Row", works, func(w *world) error {
			return fetched(w, func() error {
				var s string
				err := w.do().Model(&person{}).Select("status").Where("id = ?", w.alice.ID).Row().Scan(&s)
				if s != "admitted" {
					w.Errorf("scanned %d bytes", len(s))
				}
				return err
			}, w.alice.ID)
		}},
		{"target/Row of another tenant", works, func(w *world) error {
			var s string
			err := w.do().Model(&person{}).Select("status").Where("id = ?", w.foreign.ID).Row().Scan(&s)
			if !errors.Is(err, sql.ErrNoRows) {
				w.Errorf("%v, want ErrNoRows", err)
			}
			return nil
		}},
		{"target/another tenant's rows", works, func(w *world) error {
			var cs []card
			var ms []map[string]any
			var ids []string
			q := func() *gorm.DB {
				return w.do().Model(&person{}).Where("id = ?", w.foreign.ID).Or("tenant_id = ?", w.foreign.TenantID)
			}
			err := errors.Join(q().Find(&cs).Error, q().Find(&ms).Error, q().Pluck("id", &ids).Error)
			if len(cs)+len(ms)+len(ids) != 0 {
				w.Error("another tenant's rows")
			}
			return err
		}},
		{"target/a search", works, func(w *world) error {
			var cs []card
			if err := w.do().Model(&person{}).Where(storage.Match("Name", "quill")).Find(&cs).Error; err != nil {
				return err
			}
			if len(cs) != 1 || cs[0].ID != w.alice.ID || w.recorded(audit.Searched, w.alice.ID) != 1 {
				w.Errorf("found %d, recorded %d times", len(cs), w.recorded(audit.Searched, w.alice.ID))
			}
			return storage.Reveal(w.ctx, cs)
		}},
		{"target/FindInBatches of structs", works, func(w *world) error {
			var ps []person
			n := 0
			err := w.do().Select("id", "tenant_id", "name").FindInBatches(&ps, 1, func(*gorm.DB, int) error { n += len(ps); return storage.Reveal(w.ctx, ps) }).Error
			if n != 2 {
				w.Errorf("%d rows, want 2", n)
			}
			return err
		}},
		{"target/gorm.G Scan", works, func(w *world) error {
			var cs []card
			if err := gorm.G[person](w.db.DB).Where("id = ?", w.alice.ID).Scan(w.ctx, &cs); err != nil {
				return err
			}
			w.must(storage.Reveal(w.ctx, cs))
			wants(w, "Name", cs[0].Name, nameAlice)
			return nil
		}},
		{"target/gorm.G, every reader", works, func(w *world) error {
			g := func() gorm.ChainInterface[person] { return gorm.G[person](w.db.DB).Where("id = ?", w.alice.ID) }
			a, e1 := g().First(w.ctx)
			b, e2 := g().Last(w.ctx)
			c, e3 := g().Take(w.ctx)
			list, e4 := g().Or("1 = 1").Order("active DESC").Limit(1).Find(w.ctx)
			n, e5 := g().Count(w.ctx, "id")
			var batched []person
			e6 := g().FindInBatches(w.ctx, 1, func(ps []person, _ int) error { batched = append(batched, ps...); return nil })
			var id string
			e7 := g().Select("id").Row(w.ctx).Scan(&id)
			rows, e8 := g().Select("id").Rows(w.ctx)
			if e8 == nil {
				_ = rows.Close()
			}
			if err := errors.Join(e1, e2, e3, e4, e5, e6, e7, e8); err != nil {
				return err
			}
			if n != 1 || id != w.alice.ID {
				w.Errorf("%d, %v", n, id == w.alice.ID)
			}
			for _, ps := range [][]person{{a}, {b}, {c}, list, batched} {
				w.ids(ps, w.alice.ID)
				w.must(storage.Reveal(w.ctx, ps))
				wants(w, "Name", ps[0].Name, nameAlice)
			}
			return nil
		}},
		{"target/gorm.G, Joins and Preload", works, func(w *world) error {
			v, err := gorm.G[visit](w.db.DB).Joins(clause.Has("Person"), nil).Preload("Remarks", nil).Where("dialect_visits.id = ?", w.visit.ID).First(w.ctx)
			if err != nil {
				return err
			}
			w.isAlice(v.Person)
			return storage.Reveal(w.ctx, &v)
		}},
		{"target/gorm.G, every writer", works, func(w *world) error {
			ps := []person{{Status: "a"}, {Status: "a"}}
			e1 := gorm.G[person](w.db.DB).CreateInBatches(w.ctx, &ps, 1)
			n, e2 := gorm.G[person](w.db.DB).Where("status = ?", "a").Update(w.ctx, "name", storage.Seal(nameNew))
			k, e3 := gorm.G[person](w.db.DB).Where("status = ?", "a").Delete(w.ctx)
			if n != 2 || k != 2 {
				w.Errorf("%d and %d rows, want 2", n, k)
			}
			return errors.Join(e1, e2, e3)
		}},
		{"target/a tagged struct for somebody who sees a part", works, func(w *world) error {
			var cs []taggedCard // the renderers know the class from its own tag
			return w.as(w.clerk).Model(&person{}).Find(&cs).Error
		}},

		{"target/Bind of what Outside read", works, func(w *world) error {
			out := w.as(storage.Outside(w.ctx, audit.ReasonIncident))
			var ps []person
			w.must(out.Raw(w.q("SELECT * FROM dialect_people WHERE tenant_id = ? ORDER BY status"), w.tenant).Scan(&ps).Error)
			var cs []card
			w.must(out.Raw(w.q("SELECT id, name, ssn FROM dialect_people WHERE id = ?"), w.alice.ID).Scan(&cs).Error)
			ms := []map[string]any{{"id": w.alice.ID, "name": w.stored("dialect_people", "name", w.alice.ID)}}
			return fetched(w, func() error {
				if err := errors.Join(storage.Bind(w.ctx, w.db.DB, &ps), storage.Bind(w.ctx, w.db.Model(&person{}), &cs), storage.Bind(w.ctx, w.db.Model(&person{}), &ms)); err != nil {
					return err
				}
				s := ms[0]["name"].(storage.Sealed[string])
				w.must(errors.Join(storage.Reveal(w.ctx, ps), storage.Reveal(w.ctx, cs), storage.Reveal(w.ctx, &s)))
				wants(w, "Name", ps[0].Name, nameAlice)
				wants(w, "Name", cs[0].Name, nameAlice)
				wants(w, "name", s, nameAlice)
				return nil
			}, w.alice.ID, w.bob.ID)
		}},
		{"target/Bind and Save", works, func(w *world) error {
			var p person
			w.must(w.as(storage.Outside(w.ctx, audit.ReasonRepair)).Raw(w.q("SELECT id, version, name FROM dialect_people WHERE id = ?"), w.alice.ID).Scan(&p).Error)
			w.must(storage.Bind(w.ctx, w.db.DB, &p))
			p.Status = "moved"
			err := w.do().Save(&p).Error
			w.kept("status")
			return err
		}},
		{"target/without Bind nothing opens", works, func(w *world) error {
			var ps []person
			w.must(w.as(storage.Outside(w.ctx, audit.ReasonRepair)).Raw("SELECT * FROM dialect_people").Scan(&ps).Error)
			if err := storage.Reveal(w.ctx, ps); !errors.Is(err, storage.ErrUnbound) {
				w.Errorf("Reveal = %v, want ErrUnbound", err)
			}
			return nil
		}},
		{"target/Bind without the ID", works, func(w *world) error {
			var ps []person
			w.must(w.as(storage.Outside(w.ctx, audit.ReasonRepair)).Raw(w.q("SELECT name FROM dialect_people WHERE tenant_id = ?"), w.tenant).Scan(&ps).Error)
			if err := storage.Bind(w.ctx, w.db.DB, &ps); !errors.Is(err, storage.ErrUnbound) {
				w.Errorf("Bind = %v, want ErrUnbound", err)
			}
			return nil
		}},
		{"target/Bind of another tenant's row", denied, func(w *world) error {
			var ps []person
			w.must(w.as(storage.Outside(w.ctx, audit.ReasonRepair)).Raw(w.q("SELECT * FROM dialect_people WHERE tenant_id IN (?, ?)"), w.tenant, w.foreign.TenantID).Scan(&ps).Error)
			err := storage.Bind(w.ctx, w.db.DB, &ps)
			if rerr := storage.Reveal(w.ctx, ps); !errors.Is(rerr, storage.ErrUnbound) {
				w.Errorf("Reveal = %v, want ErrUnbound", rerr)
			}
			return err
		}},
		{"target/Bind of a row under another's ID", works, func(w *world) error {
			var ps []person
			w.must(w.as(storage.Outside(w.ctx, audit.ReasonRepair)).Raw(w.q("SELECT * FROM dialect_people WHERE id = ?"), w.alice.ID).Scan(&ps).Error)
			ps[0].ID = w.bob.ID
			w.must(storage.Bind(w.ctx, w.db.DB, &ps))
			var rerr *storage.RevealError
			if err := storage.Reveal(w.ctx, ps); !errors.As(err, &rerr) || len(rerr.Unavailable[w.bob.ID]) == 0 {
				w.Errorf("Reveal = %v, want unavailable", err)
			}
			return nil
		}},
		{"target/Bind without a principal", denied, func(w *world) error {
			return storage.Bind(context.Background(), w.db.DB, &[]person{w.alice})
		}},

		not("Bind of a struct of no model", func(w *world) error { return storage.Bind(w.ctx, w.db.DB, &[]card{{ID: w.alice.ID}}) }),
		not("Outside without a reason", func(w *world) error {
			return w.as(storage.Outside(w.ctx, "")).Raw("SELECT count(*) FROM dialect_people").Scan(new(int)).Error
		}),
		not("Outside for a reason that is none", func(w *world) error {
			return w.as(storage.Outside(w.ctx, audit.ReasonPassword)).Raw("SELECT count(*) FROM dialect_people").Scan(new(int)).Error
		}),
		not("a sealed column into a string", func(w *world) error {
			return w.do().Model(&person{}).Find(&[]struct{ ID, Name string }{}).Error
		}),
		not("a sealed column into a Sealed of another type", func(w *world) error {
			return w.do().Model(&person{}).Find(&[]struct {
				ID   string
				Name storage.Sealed[int]
			}{}).Error
		}),
		not("a clear column into a Sealed", func(w *world) error {
			return w.do().Model(&person{}).Find(&[]struct {
				ID     string
				Status storage.Sealed[string]
			}{}).Error
		}),
		not("a field that the model does not have", func(w *world) error {
			return w.do().Model(&person{}).Find(&[]struct{ ID, Nobody string }{}).Error
		}),
		not("a sealed column by another name", func(w *world) error {
			return w.do().Model(&person{}).Select("id, name AS ssn").Find(&[]card{}).Error
		}),
		not("a sealed column in an aggregate", func(w *world) error {
			return w.do().Model(&person{}).Select("max(name) AS name").Find(&[]card{}).Error
		}),
		not("a hidden column into a plain struct", func(w *world) error {
			return w.as(w.clerk).Model(&person{}).Find(&[]struct {
				ID   string
				Seen time.Time
			}{}).Error
		}),
		not("a hidden column into a map", func(w *world) error {
			return w.as(w.clerk).Model(&person{}).Select("id", "seen").Find(&[]map[string]any{}).Error
		}),
		not("Pluck of a hidden column", func(w *world) error { return w.as(w.clerk).Model(&person{}).Pluck("seen", &[]time.Time{}).Error }),
		not("Distinct Count of a hidden column", func(w *world) error {
			var n int64
			return w.as(w.clerk).Model(&person{}).Distinct("seen").Count(&n).Error
		}),
		not("a hidden column in an aggregate", func(w *world) error {
			return w.as(w.clerk).Model(&person{}).Select("max(seen)").Scan(&sql.NullString{}).Error
		}),
		not("Rows of sealed columns", func(w *world) error {
			rows, err := w.do().Model(&person{}).Select("id", "name").Rows()
			if err == nil {
				_ = rows.Close()
			}
			return err
		}),
		not("Scan of sealed columns", func(w *world) error { return w.do().Model(&person{}).Select("id", "name").Scan(&[]card{}).Error }),
		not("a function that is not allowed", func(w *world) error {
			return w.do().Model(&person{}).Select("group_concat(status) AS status").Find(&[]cardWithStatus{}).Error
		}),
		not("a join into another struct", func(w *world) error {
			return w.do().Model(&visit{}).Joins("Person").Find(&[]struct{ ID string }{}).Error
		}),
	}
}

// joinPaths join tables.
func joinPaths() []path {
	not := func(name string, run func(w *world) error) path { return path{"join/" + name, refused, run} }
	one := func(name string, read func(w *world, v *visit) error) path {
		return path{"join/" + name, works, func(w *world) error {
			var v visit
			if err := read(w, &v); err != nil {
				return err
			}
			if v.ID != w.visit.ID || v.Person == nil {
				return errors.New("the visit or its person is not there")
			}
			if w.recorded(audit.Fetched, w.alice.ID) == 0 {
				w.Error("the joined person was not recorded as fetched")
			}
			w.isAlice(v.Person)
			w.must(storage.Reveal(w.ctx, &v))
			wants(w, "Reason", v.Reason, reasonAlice)
			return nil
		}}
	}
	// crossed makes a visit of the tenant that names another tenant's person.
	crossed := func(w *world) visit {
		w.Helper()
		v := visit{PersonID: w.foreign.ID}
		w.must(w.do().Create(&v).Error)
		return v
	}
	remarked := func(w *world) remark {
		w.Helper()
		r := remark{PersonID: w.alice.ID, VisitID: w.visit.ID, Text: storage.Seal(notesAlice)}
		w.must(w.do().Create(&r).Error)
		return r
	}
	return []path{
		one("an association", func(w *world, v *visit) error {
			return w.do().Joins("Person").First(v, "dialect_visits.id = ?", w.visit.ID).Error
		}),
		one("inner", func(w *world, v *visit) error {
			return w.do().InnerJoins("Person").First(v, "dialect_visits.id = ?", w.visit.ID).Error
		}),
		one("with a condition", func(w *world, v *visit) error {
			return w.do().Joins("Person", w.db.Where(map[string]any{"active": true})).First(v, "dialect_visits.id = ?", w.visit.ID).Error
		}),
		one("with Or in its condition", func(w *world, v *visit) error {
			return w.do().InnerJoins("Person", w.db.Where("1 = 0").Or("1 = 1")).First(v, "dialect_visits.id = ?", w.visit.ID).Error
		}),
		one("with a condition on the joined table", func(w *world, v *visit) error {
			return w.do().Joins("Person").Where(clause.Eq{Column: clause.Column{Table: "Person", Name: "active"}, Value: true}).First(v).Error
		}),
		one("twice on one chain", func(w *world, v *visit) error {
			q := w.do().Model(&visit{}).Joins("Person").Where("dialect_visits.id = ?", w.visit.ID)
			var n int64
			err := q.Count(&n).Error
			if n != 1 {
				w.Errorf("Count = %d, want 1", n)
			}
			return errors.Join(err, q.First(v).Error)
		}),
		{"join/nested", works, func(w *world) error {
			r := remarked(w)
			var got remark
			if err := w.do().Joins("Visit.Person").Take(&got, "dialect_remarks.id = ?", r.ID).Error; err != nil {
				return err
			}
			w.must(errors.Join(storage.Reveal(w.ctx, &got), storage.Reveal(w.ctx, got.Visit)))
			wants(w, "Text", got.Text, notesAlice)
			wants(w, "Reason", got.Visit.Reason, reasonAlice)
			w.isAlice(got.Visit.Person)
			return nil
		}},
		{"join/nested with its first step", works, func(w *world) error {
			r := remarked(w)
			var got remark
			err := w.do().Joins("Visit.Person").Joins("Visit", w.db.Select("id", "reason")).Take(&got, "dialect_remarks.id = ?", r.ID).Error
			if err != nil {
				return err
			}
			w.must(storage.Reveal(w.ctx, got.Visit))
			wants(w, "Reason", got.Visit.Reason, reasonAlice)
			w.isAlice(got.Visit.Person)
			return nil
		}},
		{"join/with Select", works, func(w *world) error {
			var v visit
			if err := w.do().Joins("Person", w.db.Select("name")).First(&v, "dialect_visits.id = ?", w.visit.ID).Error; err != nil {
				return err
			}
			w.must(storage.Reveal(w.ctx, v.Person))
			wants(w, "Name", v.Person.Name, nameAlice)
			if _, err := v.Person.SSN.Get(w.ctx); !errors.Is(err, storage.ErrWithheld) {
				w.Errorf("a column that was not selected: %v", err)
			}
			v.Person.Status = "moved"
			err := w.do().Save(v.Person).Error
			w.kept("status")
			return err
		}},
		{"join/with Omit", works, func(w *world) error {
			var v visit
			if err := w.do().Joins("Person", w.db.Omit("SSN", "TenantID")).First(&v, "dialect_visits.id = ?", w.visit.ID).Error; err != nil {
				return err
			}
			w.must(storage.Reveal(w.ctx, v.Person))
			wants(w, "Name", v.Person.Name, nameAlice)
			return nil
		}},
		{"join/has one", works, func(w *world) error {
			w.must(w.do().Create(&contact{PersonID: w.alice.ID, Phone: storage.Seal(phoneNew)}).Error)
			var ps []person
			if err := w.do().Joins("Contact").Order("active DESC").Find(&ps).Error; err != nil {
				return err
			}
			w.ids(ps, w.alice.ID, w.bob.ID)
			if ps[1].Contact != nil {
				w.Error("bob has a contact")
			}
			w.must(storage.Reveal(w.ctx, ps[0].Contact))
			wants(w, "Phone", ps[0].Contact.Phone, phoneNew)
			return nil
		}},
		{"join/and Save", works, func(w *world) error {
			var v visit
			w.must(w.do().Joins("Person").First(&v, "dialect_visits.id = ?", w.visit.ID).Error)
			v.Reason = storage.Seal(reasonNew)
			err := w.do().Save(&v).Error
			w.kept()
			return err
		}},
		{"join/another tenant's record", works, func(w *world) error {
			v := crossed(w)
			var got visit
			if err := w.do().Joins("Person").Take(&got, "dialect_visits.id = ?", v.ID).Error; err != nil {
				return err
			}
			if got.Person != nil {
				w.Error("another tenant's person")
			}
			var all []visit
			w.must(w.do().InnerJoins("Person", w.db.Where("1 = 1").Or("1 = 1")).Find(&all, "dialect_visits.id = ?", v.ID).Error)
			if len(all) != 0 {
				w.Error("another tenant's person by an inner join")
			}
			var n int64
			w.must(w.do().Model(&visit{}).InnerJoins("Person").Where("dialect_visits.id = ?", v.ID).Count(&n).Error)
			if n != 0 {
				w.Error("another tenant's person was counted")
			}
			return nil
		}},
		{"join/another tenant's record by Preload", works, func(w *world) error {
			v := crossed(w)
			var got visit
			if err := w.do().Preload("Person").Take(&got, "id = ?", v.ID).Error; err != nil {
				return err
			}
			if got.Person != nil && got.Person.ID != "" {
				w.Error("another tenant's person")
			}
			return nil
		}},
		{"join/nested Preload with a condition", works, func(w *world) error {
			r := remarked(w)
			var p person
			if err := w.do().Preload("Visits.Remarks", "1 = 0 OR visit_id = ?", w.visit.ID).Take(&p, "id = ?", w.alice.ID).Error; err != nil {
				return err
			}
			if len(p.Visits) != 1 || len(p.Visits[0].Remarks) != 1 || p.Visits[0].Remarks[0].ID != r.ID {
				return errors.New("the remark is not there")
			}
			return storage.Reveal(w.ctx, p.Visits[0].Remarks)
		}},
		{"join/Preload behind a join", works, func(w *world) error {
			remarked(w)
			var v visit
			if err := w.do().Joins("Person").Preload("Person.Visits").Preload("Remarks").Take(&v, "dialect_visits.id = ?", w.visit.ID).Error; err != nil {
				return err
			}
			if len(v.Person.Visits) != 1 || len(v.Remarks) != 1 {
				return errors.New("what was preloaded is not there")
			}
			return errors.Join(storage.Reveal(w.ctx, v.Person.Visits), storage.Reveal(w.ctx, v.Remarks))
		}},
		{"join/a table without PHI by text", works, func(w *world) error {
			w.must(w.do().Create(&widget{Label: w.alice.ID}).Error)
			var ps []person
			err := w.do().Joins("JOIN dialect_widgets g ON g.label = dialect_people.id").Where("g.count = ?", 0).Or("1 = 1").Find(&ps).Error
			w.ids(ps, w.alice.ID)
			return err
		}},
		{"join/from a model without PHI", works, func(w *world) error {
			g := gadget{PersonID: w.alice.ID, Label: "g " + w.tenant}
			h := gadget{PersonID: w.foreign.ID, Label: "g " + w.tenant}
			w.must(w.do().Create([]*gadget{&g, &h}).Error)
			var gs []gadget
			if err := w.do().Joins("Person").Order("dialect_gadgets.id").Find(&gs, "label = ?", g.Label).Error; err != nil {
				return err
			}
			if len(gs) != 2 || gs[0].Person == nil || gs[1].Person != nil {
				return errors.New("wrong people")
			}
			w.isAlice(gs[0].Person)
			if w.recorded(audit.Fetched, w.alice.ID) == 0 {
				w.Error("the joined person was not recorded as fetched")
			}
			return nil
		}},
		{"join/a subquery on a table without PHI", works, func(w *world) error {
			w.must(w.do().Create(&widget{Label: w.alice.ID}).Error)
			var ps, qs []person
			err := errors.Join(
				w.do().Where("id IN (?)", w.do().Model(&widget{}).Select("label")).Find(&ps).Error,
				w.do().Where("EXISTS (SELECT 1 FROM dialect_widgets WHERE label = dialect_people.id)").Find(&qs).Error)
			w.ids(ps, w.alice.ID)
			w.ids(qs, w.alice.ID)
			return err
		}},

		{"join/without a principal", denied, func(w *world) error { return w.as(context.Background()).Joins("Person").Find(&[]visit{}).Error }},
		{"join/from a model without PHI without a principal", denied, func(w *world) error {
			return w.as(context.Background()).Joins("Person").Find(&[]gadget{}).Error
		}},
		not("a right join", func(w *world) error {
			_, err := gorm.G[visit](w.db.DB).Joins(clause.RightJoin.Association("Person"), nil).Find(w.ctx)
			return err
		}),
		not("a text that goes on with the condition before it", func(w *world) error {
			return w.do().Joins("Person").Joins("OR 1 = 1").Find(&[]visit{}).Error
		}),
		not("such a text in front of a model without PHI", func(w *world) error {
			return w.do().Joins("Person").Joins("OR 1 = 1").Find(&[]gadget{}).Error
		}),
		not("a natural join", func(w *world) error {
			return w.do().Joins("NATURAL JOIN dialect_widgets").Find(&[]person{}).Error
		}),
		not("a text on a table with PHI", func(w *world) error {
			return w.do().Joins("JOIN dialect_people p ON p.id = dialect_visits.person_id").Find(&[]visit{}).Error
		}),
		not("a text that closes brackets", func(w *world) error {
			return w.do().Joins("JOIN dialect_widgets g ON (1 = 1").Where("1 = 1)").Find(&[]person{}).Error
		}),
		not("a condition on a sealed column of the joined table", func(w *world) error {
			return w.do().Joins("Person").Where(`"Person"."ssn" IS NULL`).Find(&[]visit{}).Error
		}),
		not("an ON on a sealed column", func(w *world) error {
			return w.do().Joins("Person", w.db.Where("ssn IS NULL")).Find(&[]visit{}).Error
		}),
		not("an ON that closes brackets", func(w *world) error {
			return w.do().Joins("Person", w.db.Where("1 = 1) OR (1 = 1")).Find(&[]visit{}).Error
		}),
		not("a hidden column of the joined table", func(w *world) error {
			return w.as(w.clerk).Joins("Person").Order(`"Person"."seen"`).Find(&[]visit{}).Error
		}),
		not("a joined subquery", func(w *world) error {
			_, err := gorm.G[visit](w.db.DB).Joins(clause.LeftJoin.AssociationFrom("Person", gorm.G[person](w.db.DB).Select("id")).As("p"), nil).Find(w.ctx)
			return err
		}),
		not("a column of the joined table as one's own", func(w *world) error {
			return w.do().Joins("Person").Select("dialect_visits.id", "dialect_visits.tenant_id", "Person.status AS ward").Find(&[]visit{}).Error
		}),
		not("a column of the joined table under its own name", func(w *world) error {
			return w.do().Joins("Person").Select("id", "Person.tenant_id").Find(&[]visit{}).Error
		}),
		not("a column of the joined table as a clause", func(w *world) error {
			return w.do().Joins("Person").Clauses(clause.Select{Columns: []clause.Column{{Table: "Person", Name: "id"}}}).Find(&[]visit{}).Error
		}),
		not("a column of the joined table into a model without PHI", func(w *world) error {
			return w.do().Joins("Person").Select("dialect_gadgets.id", `"Person"."status" AS label`).Find(&[]gadget{}).Error
		}),
		not("a subquery on the index", func(w *world) error {
			return w.do().Where("id IN (SELECT record_id FROM phi_index)").Find(&[]person{}).Error
		}),
	}
}
