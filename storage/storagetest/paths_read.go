// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
)

func readPaths() []path {
	one := func(name string, read func(w *world, p *person) error) path {
		return path{"read/" + name, works, func(w *world) error {
			var p person
			if err := read(w, &p); err != nil {
				return err
			}
			w.isAlice(&p)
			if w.recorded(audit.Fetched, w.alice.ID)+w.recorded(audit.Searched, w.alice.ID) == 0 {
				w.Error("the clear PHI was not recorded as fetched")
			}
			return nil
		}}
	}
	some := func(name string, read func(w *world, ps *[]person) error, want ...string) path {
		return path{"read/" + name, works, func(w *world) error {
			var ps []person
			err := read(w, &ps)
			ids := map[string]string{"alice": w.alice.ID, "bob": w.bob.ID}
			var all []string
			for _, n := range want {
				all = append(all, ids[n])
			}
			w.ids(ps, all...)
			if rerr := storage.Reveal(w.ctx, ps); rerr != nil {
				w.Errorf("Reveal: %v", rerr)
			}
			for _, p := range ps {
				if p.ID == w.alice.ID {
					wants(w, "Name", p.Name, nameAlice)
				}
			}
			return err
		}}
	}
	not := func(name string, run func(w *world) error) path { return path{"read/" + name, refused, run} }
	return []path{
		one("First", func(w *world, p *person) error { return w.do().First(p, "id = ?", w.alice.ID).Error }),
		one("Take", func(w *world, p *person) error { return w.do().Take(p, "id = ?", w.alice.ID).Error }),
		one("Last", func(w *world, p *person) error { return w.do().Where("active = ?", true).Last(p).Error }),
		one("Find one", func(w *world, p *person) error { return w.do().Find(p, "id = ?", w.alice.ID).Error }),
		one("by its own ID", func(w *world, p *person) error { p.ID = w.alice.ID; return w.do().First(p).Error }),
		one("by struct", func(w *world, p *person) error { return w.do().Where(&person{Status: "admitted"}).First(p).Error }),
		one("by map", func(w *world, p *person) error {
			return w.do().Where(map[string]any{"id": w.alice.ID}).First(p).Error
		}),
		one("by a date in clear", func(w *world, p *person) error {
			return w.do().Where("seen < ?", seenAt().AddDate(0, 1, 0)).First(p).Error
		}),
		one("Select *", func(w *world, p *person) error { return w.do().Select("*").Take(p, "id = ?", w.alice.ID).Error }),
		one("with every column in another order", func(w *world, p *person) error {
			return w.do().Select("home_rooms", "notes", "ssn", "name", "mrn", "home_street", "seen", "status", "active", "version", "tenant_id", "id").Take(p, "id = ?", w.alice.ID).Error
		}),
		one("Unscoped", func(w *world, p *person) error { return w.do().Unscoped().Take(p, "id = ?", w.alice.ID).Error }),
		one("by Match on a name", func(w *world, p *person) error {
			return w.do().Where(storage.Match("Name", "ali qui")).Take(p).Error
		}),
		one("by Match on a number", func(w *world, p *person) error {
			return w.do().Where(storage.Match("MRN", " mrn 777-0013 ")).Take(p).Error
		}),
		one("FirstOrInit", func(w *world, p *person) error { return w.do().Where("id = ?", w.alice.ID).FirstOrInit(p).Error }),
		one("locked", func(w *world, p *person) error {
			return w.do().Clauses(clause.Locking{Strength: "UPDATE"}).Take(p, "id = ?", w.alice.ID).Error
		}),
		one("in a transaction", func(w *world, p *person) error {
			return w.do().Transaction(func(tx *gorm.DB) error { return tx.Take(p, "id = ?", w.alice.ID).Error })
		}),
		one("PrepareStmt", func(w *world, p *person) error {
			tx := w.do().Session(&gorm.Session{PrepareStmt: true})
			return errors.Join(tx.Take(&person{}, "id = ?", w.bob.ID).Error, tx.Take(p, "id = ?", w.alice.ID).Error)
		}),
		one("into a struct that held another record", func(w *world, p *person) error {
			w.must(w.do().Take(p, "id = ?", w.bob.ID).Error)
			w.must(storage.Reveal(w.ctx, p))
			*p = person{Name: p.Name}
			return w.do().Take(p, "id = ?", w.alice.ID).Error
		}),
		one("with the generic API", func(w *world, p *person) error {
			got, err := gorm.G[person](w.db.DB).Where("id = ?", w.alice.ID).First(w.ctx)
			*p = got
			return err
		}),
		one("Table by its own name", func(w *world, p *person) error {
			return w.do().Table("dialect_people").Take(p, "id = ?", w.alice.ID).Error
		}),

		some("Find", func(w *world, ps *[]person) error { return w.do().Find(ps).Error }, "alice", "bob"),
		some("Find pointers", func(w *world, ps *[]person) error {
			var list []*person
			err := w.do().Find(&list).Error
			for _, p := range list {
				*ps = append(*ps, *p)
			}
			return err
		}, "alice", "bob"),
		some("Find by IDs", func(w *world, ps *[]person) error {
			return w.do().Find(ps, []string{w.alice.ID, w.foreign.ID}).Error
		}, "alice"),
		some("FindInBatches", func(w *world, ps *[]person) error {
			var batch []person
			return w.do().FindInBatches(&batch, 1, func(*gorm.DB, int) error { *ps = append(*ps, batch...); return nil }).Error
		}, "alice", "bob"),
		some("Limit, Offset and Order", func(w *world, ps *[]person) error {
			return w.do().Order("seen DESC").Limit(1).Offset(1).Find(ps).Error
		}, "alice"),
		some("Group", func(w *world, ps *[]person) error {
			var list []person
			err := w.do().Order(clause.OrderByColumn{Column: clause.Column{Name: "seen"}}).Find(&list).Error
			*ps = list[:1]
			return err
		}, "alice"),
		some("Scopes", func(w *world, ps *[]person) error {
			return w.do().Scopes(func(db *gorm.DB) *gorm.DB { return db.Where("active = ?", false) }).Find(ps).Error
		}, "bob"),
		some("Not", func(w *world, ps *[]person) error { return w.do().Not("active = ?", true).Find(ps).Error }, "bob"),
		some("Not Match", func(w *world, ps *[]person) error {
			return w.do().Not(storage.Match("Name", "quill")).Find(ps).Error
		}, "bob"),
		some("Match or Match", func(w *world, ps *[]person) error {
			return w.do().Where(storage.Match("Name", "quill")).Or(storage.Match("Name", "zanz")).Find(ps).Error
		}, "alice", "bob"),
		some("Match in a group", func(w *world, ps *[]person) error {
			return w.do().Where(w.db.Where(storage.Match("Name", "quill")).Or("status = ?", "discharged")).Find(ps).Error
		}, "alice", "bob"),
		some("the same Match twice", func(w *world, ps *[]person) error {
			q := w.do().Model(&person{}).Where(storage.Match("Name", "quill"))
			var n int64
			err := q.Count(&n).Error
			if n != 1 {
				w.Errorf("Count = %d, want 1", n)
			}
			return errors.Join(err, q.Limit(5).Find(ps).Error)
		}, "alice"),
		some("the same condition twice", func(w *world, ps *[]person) error {
			q := w.do().Model(&person{}).Where("active = ?", true).Or("active = ?", false)
			var n int64
			err := q.Count(&n).Error
			if n != 2 {
				w.Errorf("Count = %d, want 2", n)
			}
			return errors.Join(err, q.Find(ps).Error, q.Session(&gorm.Session{}).Find(ps).Error)
		}, "alice", "bob"),

		// The scope holds whatever stands beside it.
		some("Or everything", func(w *world, ps *[]person) error {
			return w.do().Where("id = ?", w.alice.ID).Or("1 = 1").Find(ps).Error
		}, "alice", "bob"),
		some("only Or", func(w *world, ps *[]person) error { return w.do().Or("1 = 1").Find(ps).Error }, "alice", "bob"),
		some("Or another tenant", func(w *world, ps *[]person) error {
			return w.do().Where("id = ?", w.alice.ID).Or("tenant_id = ?", w.foreign.TenantID).Or("id = ?", w.foreign.ID).Find(ps).Error
		}, "alice"),
		some("Or in one text", func(w *world, ps *[]person) error {
			return w.do().Where("active = ? OR tenant_id <> ?", true, w.tenant).Find(ps).Error
		}, "alice"),
		some("Or in a group", func(w *world, ps *[]person) error {
			return w.do().Where(w.db.Where("1 = 0").Or(w.db.Where("tenant_id = ?", w.foreign.TenantID).Or("active = ?", true))).Find(ps).Error
		}, "alice"),
		some("Or as a clause", func(w *world, ps *[]person) error {
			return w.do().Clauses(clause.Where{Exprs: []clause.Expression{clause.Or(clause.Expr{SQL: "1 = 1"}), clause.Expr{SQL: "active = ?", Vars: []any{true}}}}).Find(ps).Error
		}, "alice", "bob"),
		some("Not in brackets", func(w *world, ps *[]person) error {
			return w.do().Not("tenant_id = ? OR active = ?", w.tenant, true).Find(ps).Error
		}),
		some("another tenant", func(w *world, ps *[]person) error {
			return w.do().Where("tenant_id = ?", w.foreign.TenantID).Find(ps).Error
		}),
		some("brackets in a string", func(w *world, ps *[]person) error {
			return w.do().Where("status = ') OR (1 = 1' OR active = ?", true).Find(ps).Error
		}, "alice"),
		some("Unscoped and Or", func(w *world, ps *[]person) error { return w.do().Unscoped().Or("1 = 1").Find(ps).Error }, "alice", "bob"),
		some("FOR UPDATE and Or", func(w *world, ps *[]person) error {
			return w.do().Clauses(clause.Locking{Strength: "UPDATE"}).Or("1 = 1").Find(ps).Error
		}, "alice", "bob"),
		{"read/First of another tenant", works, func(w *world) error {
			p := person{}
			err := w.do().First(&p, "id = ?", w.foreign.ID).Error
			if !errors.Is(err, gorm.ErrRecordNotFound) || !zero(p) {
				return fmt.Errorf("not hidden: %w", err)
			}
			return nil
		}},
		{"read/Count", works, func(w *world) error {
			var n int64
			err := w.do().Model(&person{}).Where("active = ?", true).Or("1 = 1").Count(&n).Error
			if n != 2 {
				w.Errorf("Count = %d, want 2", n)
			}
			return err
		}},
		{"read/Count with the generic API", works, func(w *world) error {
			n, err := gorm.G[person](w.db.DB).Count(w.ctx, "*")
			if n != 2 {
				w.Errorf("Count = %d, want 2", n)
			}
			return err
		}},
		{"read/Preload", works, func(w *world) error {
			var ps []person
			if err := w.do().Preload("Visits").Order("active").Find(&ps).Error; err != nil {
				return err
			}
			vs := ps[1].Visits
			if len(vs) != 1 || len(ps[0].Visits) != 0 {
				return fmt.Errorf("%d visits, want 1", len(vs))
			}
			w.must(storage.Reveal(w.ctx, vs))
			wants(w, "Reason", vs[0].Reason, reasonAlice)
			return nil
		}},
		{"read/Preload with a condition", works, func(w *world) error {
			var p person
			err := w.do().Preload("Visits", func(db *gorm.DB) *gorm.DB { return db.Where("1 = 0").Or("1 = 1") }).Take(&p, "id = ?", w.alice.ID).Error
			for _, v := range p.Visits {
				if v.TenantID != w.tenant {
					w.Error("another tenant's visit")
				}
			}
			return err
		}},
		{"read/Association Find", works, func(w *world) error {
			p := person{PatientRecord: storage.PatientRecord{Record: storage.Record{ID: w.alice.ID}}}
			var vs []visit
			if err := w.do().Model(&p).Association("Visits").Find(&vs); err != nil {
				return err
			}
			if len(vs) != 1 {
				return fmt.Errorf("%d visits, want 1", len(vs))
			}
			w.must(storage.Reveal(w.ctx, vs))
			wants(w, "Reason", vs[0].Reason, reasonAlice)
			return nil
		}},
		{"read/Select leaves the rest withheld", works, func(w *world) error {
			var p person
			if err := w.do().Select("id", "tenant_id", "name").Take(&p, "id = ?", w.alice.ID).Error; err != nil {
				return err
			}
			w.must(storage.Reveal(w.ctx, &p))
			wants(w, "Name", p.Name, nameAlice)
			if _, err := p.SSN.Get(w.ctx); !errors.Is(err, storage.ErrWithheld) || p.SSN.IsNull() {
				w.Errorf("a field that was not selected: %v, NULL %v; want ErrWithheld", err, p.SSN.IsNull())
			}
			return nil
		}},
		{"read/Select without the ID stays sealed", works, func(w *world) error {
			var ps []person
			if err := w.do().Select("name").Find(&ps).Error; err != nil {
				return err
			}
			if err := storage.Reveal(w.ctx, ps); !errors.Is(err, storage.ErrUnbound) {
				w.Errorf("Reveal = %v, want ErrUnbound", err)
			}
			return nil
		}},
		{"read/Omit leaves the rest withheld", works, func(w *world) error {
			var p person
			if err := w.do().Omit("SSN").Take(&p, "id = ?", w.alice.ID).Error; err != nil {
				return err
			}
			if _, err := p.SSN.Get(w.ctx); !errors.Is(err, storage.ErrWithheld) {
				w.Errorf("Get = %v, want ErrWithheld", err)
			}
			return nil
		}},
		{"read/DryRun and ToSQL run and record nothing", works, func(w *world) error {
			before := len(w.db.Trail.Events())
			own := w.snapshot(w.tenant)
			dry := w.do().Session(&gorm.Session{DryRun: true})
			texts := []string{
				dry.Find(&[]person{}).Statement.SQL.String(),
				w.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.WithContext(w.ctx).Where("id = ?", w.alice.ID).Find(&person{}) }),
				w.db.ToSQL(func(tx *gorm.DB) *gorm.DB { p := newPerson(); return tx.WithContext(w.ctx).Create(&p) }),
				w.db.ToSQL(func(tx *gorm.DB) *gorm.DB {
					return tx.WithContext(w.ctx).Model(&person{}).Where("id = ?", w.alice.ID).Update("name", storage.Seal(nameNew))
				}),
				w.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.WithContext(w.ctx).Delete(&person{}, "id = ?", w.alice.ID) }),
			}
			for _, s := range texts {
				if strings.Contains(s, "Kettledrum") {
					w.Error("the text holds plaintext")
				}
			}
			if w.snapshot(w.tenant) != own {
				w.Error("it ran")
			}
			// Other paths record beside this one: only ours count.
			for _, ev := range w.db.Trail.Events()[before:] {
				if ev.Actor.Tenant == w.tenant {
					w.Errorf("it was recorded as %s", ev.Type)
				}
			}
			return nil
		}},
		{"read/a search that finds nothing is recorded", works, func(w *world) error {
			var p person
			if err := w.do().Where(storage.Match("Name", "nobody")).First(&p).Error; !errors.Is(err, gorm.ErrRecordNotFound) {
				w.Errorf("First = %v, want ErrRecordNotFound", err)
			}
			if err := w.do().Where(storage.Match("Name", "nobody")).Find(&[]person{}).Error; err != nil {
				w.Error(err)
			}
			n := 0
			for _, ev := range w.db.Trail.Events() {
				if ev.Actor.Tenant == w.tenant && ev.Type == audit.Searched {
					n++
				}
			}
			if n != 2 {
				w.Errorf("%d searches recorded, want 2", n)
			}
			return nil
		}},

		not("Pluck of a sealed column", func(w *world) error { return w.do().Model(&person{}).Pluck("name", &[]string{}).Error }),
		not("Pluck into Sealed", func(w *world) error {
			return w.do().Model(&person{}).Pluck("name", &[]storage.Sealed[string]{}).Error
		}),
		not("Scan", func(w *world) error { return w.do().Model(&person{}).Scan(&[]person{}).Error }),
		not("Scan into another struct", func(w *world) error {
			return w.do().Model(&person{}).Scan(&[]struct{ ID, Name string }{}).Error
		}),
		not("Find into another struct", func(w *world) error {
			return w.do().Model(&person{}).Find(&[]struct {
				ID   string
				Name []byte
			}{}).Error
		}),
		not("Find into maps by table", func(w *world) error { return w.do().Table("dialect_people").Find(&[]map[string]any{}).Error }),
		not("Rows", func(w *world) error {
			rows, err := w.do().Model(&person{}).Rows()
			if err == nil {
				_ = rows.Close()
			}
			return err
		}),
		not("Row", func(w *world) error {
			var s string
			return w.do().Model(&person{}).Select("name").Row().Scan(&s)
		}),
		not("Raw into the model", func(w *world) error { return w.do().Raw("SELECT * FROM dialect_people").Find(&[]person{}).Error }),
		not("Raw Scan", func(w *world) error { return w.do().Raw("SELECT name FROM dialect_people").Scan(&[]string{}).Error }),
		not("Raw Row", func(w *world) error {
			var s string
			return w.do().Raw("SELECT status FROM dialect_people").Row().Scan(&s)
		}),
		not("Raw Rows", func(w *world) error {
			rows, err := w.do().Raw("SELECT status FROM DIALECT_PEOPLE").Rows()
			if err == nil {
				_ = rows.Close()
			}
			return err
		}),
		not("Raw in a transaction", func(w *world) error {
			return w.do().Transaction(func(tx *gorm.DB) error { return tx.Raw("SELECT status FROM dialect_people").Scan(&[]string{}).Error })
		}),
		not("Raw with a common table expression", func(w *world) error {
			return w.do().Raw("WITH x AS (SELECT * FROM dialect_people) SELECT status FROM x").Scan(&[]string{}).Error
		}),
		not("Raw behind a comment", func(w *world) error {
			return w.do().Raw("SELECT status FROM/**/dialect_people").Scan(&[]string{}).Error
		}),
		not("Raw with the schema's name", func(w *world) error {
			return w.do().Raw("SELECT status FROM main.dialect_people").Scan(&[]string{}).Error
		}),
		not("Raw PrepareStmt", func(w *world) error {
			return w.do().Session(&gorm.Session{PrepareStmt: true}).Raw("SELECT status FROM dialect_people").Scan(&[]string{}).Error
		}),
		not("Raw on the key table", func(w *world) error {
			return w.do().Raw("SELECT wrapped FROM phi_subject_keys").Scan(&[][]byte{}).Error
		}),
		not("Raw on a connection of its own", func(w *world) error {
			return w.do().Connection(func(tx *gorm.DB) error { return tx.Raw("SELECT status FROM dialect_people").Scan(&[]string{}).Error })
		}),
		not("Raw prepared by storage.Outside before", func(w *world) error {
			tx := w.db.Session(&gorm.Session{PrepareStmt: true})
			const query = "SELECT count(*) FROM dialect_people WHERE 1 = 1"
			var n int
			w.must(tx.WithContext(storage.Outside(w.ctx, audit.ReasonRepair)).Raw(query).Scan(&n).Error)
			return tx.WithContext(w.ctx).Raw(query).Scan(&n).Error
		}),
		not("Exec", func(w *world) error { return w.do().Exec("UPDATE dialect_people SET status = 'x'").Error }),
		not("Exec on a connection of its own", func(w *world) error {
			return w.do().Connection(func(tx *gorm.DB) error { return tx.Exec("UPDATE dialect_people SET status = 'x'").Error })
		}),
		not("Exec of a COMMIT", func(w *world) error {
			return w.do().Transaction(func(tx *gorm.DB) error { return tx.Exec("/* now */ COMMIT").Error })
		}),
		not("Exec of two statements", func(w *world) error {
			return w.do().Transaction(func(tx *gorm.DB) error { return tx.Exec("ROLLBACK; BEGIN").Error })
		}),
		not("Joins by association", func(w *world) error { return w.do().Joins("Visits").Find(&[]person{}).Error }),
		not("Joins by text", func(w *world) error {
			return w.do().Joins("JOIN dialect_visits v ON v.person_id = dialect_people.id").Find(&[]person{}).Error
		}),
		not("Joins from a table without PHI", func(w *world) error {
			return w.do().Joins("JOIN dialect_people p ON 1 = 1").Find(&[]widget{}).Error
		}),
		not("a self join", func(w *world) error {
			return w.do().Clauses(clause.From{Joins: []clause.Join{{Expression: clause.Expr{SQL: "JOIN dialect_people x ON 1 = 1"}}}}).Select("x.id", "x.tenant_id", "x.name").Find(&[]person{}).Error
		}),
		not("a self join on the visits", func(w *world) error {
			return w.do().Clauses(clause.From{Joins: []clause.Join{{Expression: clause.Expr{SQL: "JOIN dialect_visits x ON 1 = 1"}}}}).Select("x.id, x.tenant_id, x.reason").Find(&[]visit{}).Error
		}),
		not("a subquery", func(w *world) error {
			return w.do().Where("id IN (?)", w.db.Model(&visit{}).Select("person_id")).Find(&[]person{}).Error
		}),
		not("a scoped subquery", func(w *world) error {
			return w.do().Where("id IN (?)", w.do().Model(&visit{}).Select("person_id")).Find(&[]person{}).Error
		}),
		not("a scoped subquery on the table itself", func(w *world) error {
			return w.do().Where("id NOT IN (?)", w.do().Model(&person{}).Select("id")).Find(&[]person{}).Error
		}),
		not("a subquery on the table itself", func(w *world) error {
			return w.do().Where("seen = (SELECT max(seen) FROM dialect_people)").Find(&[]person{}).Error
		}),
		not("a subquery from a table without PHI", func(w *world) error {
			return w.do().Where("label IN (?)", w.db.Model(&person{}).Select("status")).Find(&[]widget{}).Error
		}),
		not("a subquery as the table", func(w *world) error {
			return w.do().Table("(?) AS dialect_people", w.db.Model(&person{})).Find(&[]person{}).Error
		}),
		not("a table with an alias", func(w *world) error { return w.do().Table("dialect_people AS p").Find(&[]person{}).Error }),
		not("another table", func(w *world) error { return w.do().Table("dialect_visits").Find(&[]person{}).Error }),
		not("UNION", func(w *world) error {
			return w.do().Where("1 = 1 UNION SELECT * FROM dialect_people").Find(&[]person{}).Error
		}),
		not("brackets", func(w *world) error { return w.do().Where("1 = 1) OR (1 = 1").Find(&[]person{}).Error }),
		not("brackets in Not", func(w *world) error { return w.do().Not("1 = 0) OR (1 = 1").Find(&[]person{}).Error }),
		not("brackets in Preload", func(w *world) error {
			return w.do().Preload("Visits", "1 = 1) OR (1 = 1").Find(&[]person{}).Error
		}),
		not("a comment", func(w *world) error { return w.do().Where("1 = 1 OR 1 = 1 -- ").Find(&[]person{}).Error }),
		not("a block comment", func(w *world) error { return w.do().Where("1 = 1 /* ").Or("1 = 1 */").Find(&[]person{}).Error }),
		not("a second statement", func(w *world) error {
			return w.do().Where("1 = 1; DELETE FROM dialect_widgets").Find(&[]person{}).Error
		}),
		not("a backslash in a string", func(w *world) error {
			return w.do().Where(`status = '\' OR 1 = 1) -- '`).Find(&[]person{}).Error
		}),
		not("Having a subquery", func(w *world) error {
			return w.do().Group("id").Having("id IN (SELECT person_id FROM dialect_visits)").Find(&[]person{}).Error
		}),
		not("Where on a sealed column", func(w *world) error { return w.do().Where("ssn = ?", ssnAlice).Find(&[]person{}).Error }),
		not("Where on a quoted sealed column", func(w *world) error { return w.do().Where(`"SSN" = ?`, ssnAlice).Find(&[]person{}).Error }),
		not("Where on a qualified sealed column", func(w *world) error {
			return w.do().Where("dialect_people.ssn = ?", storage.Seal(ssnAlice)).Find(&[]person{}).Error
		}),
		not("Where IS NULL", func(w *world) error { return w.do().Where("ssn IS NULL").Find(&[]person{}).Error }),
		not("Where by struct with a sealed field", func(w *world) error {
			return w.do().Where(&person{SSN: storage.Seal(ssnAlice)}).Find(&[]person{}).Error
		}),
		not("Where by map with a sealed field", func(w *world) error {
			return w.do().Where(map[string]any{"ssn": storage.Seal(ssnAlice)}).Find(&[]person{}).Error
		}),
		not("Where by a sealed field that was read", func(w *world) error {
			var p person
			w.must(w.do().Take(&p, "id = ?", w.alice.ID).Error)
			return w.do().Where("ssn = ?", p.SSN).Find(&[]person{}).Error
		}),
		not("First by a sealed field", func(w *world) error { return w.do().First(&person{}, &person{SSN: storage.Seal(ssnAlice)}).Error }),
		not("FirstOrCreate by a sealed field", func(w *world) error {
			return w.do().FirstOrCreate(&person{}, person{MRN: storage.Seal(mrnAlice)}).Error
		}),
		not("Not on a sealed column", func(w *world) error { return w.do().Not(map[string]any{"ssn": ssnAlice}).Find(&[]person{}).Error }),
		not("Order by a sealed column", func(w *world) error { return w.do().Order("name").Find(&[]person{}).Error }),
		not("Order by an expression on a sealed column", func(w *world) error {
			return w.do().Order("CASE WHEN ssn IS NULL THEN 0 ELSE 1 END").Find(&[]person{}).Error
		}),
		not("Order by a clause on a sealed column", func(w *world) error {
			return w.do().Order(clause.OrderByColumn{Column: clause.Column{Name: "name"}, Desc: true}).Find(&[]person{}).Error
		}),
		not("Order by the number of a column", func(w *world) error { return w.do().Order("7").Find(&[]person{}).Error }),
		not("Order by the whole row", func(w *world) error { return w.do().Order("dialect_people").Find(&[]person{}).Error }),
		not("Where on the whole row", func(w *world) error {
			return w.do().Where("dialect_people IS NOT NULL").Find(&[]person{}).Error
		}),
		not("Group by a sealed column", func(w *world) error { return w.do().Select("name").Group("name").Find(&[]person{}).Error }),
		not("Having on a sealed column", func(w *world) error {
			return w.do().Select("id").Group("id").Having("max(ssn) IS NULL").Find(&[]person{}).Error
		}),
		not("Distinct Count of a sealed column", func(w *world) error {
			var n int64
			return w.do().Model(&person{}).Distinct("name").Count(&n).Error
		}),
		not("Count of a sealed column", func(w *world) error {
			var n int64
			return w.do().Model(&person{}).Select("ssn").Count(&n).Error
		}),
		not("Select of a sealed column as another", func(w *world) error {
			return w.do().Select("id", "tenant_id", "name AS status").Find(&[]person{}).Error
		}),
		not("Select of an expression on a sealed column", func(w *world) error {
			return w.do().Select("id, tenant_id, upper(name) AS status").Find(&[]person{}).Error
		}),
		not("Select of an expression with a parameter on a sealed column", func(w *world) error {
			return w.do().Select("id, tenant_id, ssn IS NULL AS active, ? AS status", "x").Find(&[]person{}).Error
		}),
		not("Match on a field without search", func(w *world) error { return w.do().Where(storage.Match("SSN", ssnAlice)).Find(&[]person{}).Error }),
		not("Match on a clear field", func(w *world) error { return w.do().Where(storage.Match("Status", "x")).Find(&[]person{}).Error }),
		not("Match on one letter", func(w *world) error { return w.do().Where(storage.Match("Name", "q")).Find(&[]person{}).Error }),
		not("Match on nothing", func(w *world) error { return w.do().Where(storage.Match("MRN", " - ")).Find(&[]person{}).Error }),
		not("Match in Having", func(w *world) error {
			return w.do().Clauses(clause.GroupBy{Having: []clause.Expression{storage.Match("Name", "quill")}}).Find(&[]person{}).Error
		}),
		not("Match on a model without PHI", func(w *world) error {
			return w.do().Where(storage.Match("Label", "x")).Find(&[]widget{}).Error
		}),
		{"read/no principal", denied, func(w *world) error { return w.as(context.Background()).Find(&[]person{}).Error }},
		{"read/Count without a principal", denied, func(w *world) error {
			var n int64
			return w.as(context.Background()).Model(&person{}).Count(&n).Error
		}},
		{"read/Outside without a principal", denied, func(w *world) error {
			return w.as(storage.Outside(context.Background(), audit.ReasonRepair)).Raw("SELECT count(*) FROM dialect_people").Scan(new(int)).Error
		}},
		{"read/Outside stays sealed and is recorded", works, func(w *world) error {
			before := len(w.db.Trail.Events())
			var ps []person
			if err := w.as(storage.Outside(w.ctx, audit.ReasonRepair)).Raw(w.q("SELECT id, name FROM dialect_people WHERE tenant_id = ?"), w.tenant).Find(&ps).Error; err != nil {
				return err
			}
			if len(ps) != 2 {
				w.Errorf("%d rows, want 2", len(ps))
			}
			if err := storage.Reveal(w.ctx, ps); !errors.Is(err, storage.ErrUnbound) {
				w.Errorf("Reveal = %v, want ErrUnbound", err)
			}
			if !slices.ContainsFunc(w.db.Trail.Events()[before:], func(ev audit.Stored) bool { return ev.Type == audit.Outside && ev.Actor.Tenant == w.tenant }) {
				w.Error("it was not recorded")
			}
			return nil
		}},
	}
}

// hiddenPaths are those of somebody who does not see everything.
func hiddenPaths() []path {
	not := func(name string, run func(w *world) error) path {
		return path{"hidden/" + name, refused, func(w *world) error {
			err := run(w)
			if err != nil && !errors.Is(err, storage.ErrFilterOnHidden) {
				w.Errorf("%v, want ErrFilterOnHidden", err)
			}
			return err
		}}
	}
	return []path{
		not("Where", func(w *world) error { return w.as(w.clerk).Where("seen > ?", seenAt()).Find(&[]person{}).Error }),
		not("Where by struct", func(w *world) error { return w.as(w.clerk).Where(&person{Seen: seenAt()}).Find(&[]person{}).Error }),
		not("Order", func(w *world) error { return w.as(w.clerk).Order("Seen").Find(&[]person{}).Error }),
		not("Group", func(w *world) error { return w.as(w.clerk).Select("id").Group("id, seen").Find(&[]person{}).Error }),
		not("Having", func(w *world) error {
			return w.as(w.clerk).Select("id").Group("id").Having("max(seen) > ?", seenAt()).Find(&[]person{}).Error
		}),
		not("Count", func(w *world) error {
			var n int64
			return w.as(w.clerk).Model(&person{}).Where("seen > ?", seenAt()).Count(&n).Error
		}),
		not("Update", func(w *world) error {
			return w.as(w.clerk).Model(&person{}).Where("seen > ?", seenAt()).Update("status", "x").Error
		}),
		not("Delete", func(w *world) error { return w.as(w.clerk).Where("seen > ?", seenAt()).Delete(&person{}).Error }),
		{"hidden/Match", refused, func(w *world) error {
			ctx := accesstest.AsIn(w, w.Context(), w.tenant, "clerk", access.Operations) // sees nothing at all
			err := w.as(ctx).Where(storage.Match("Name", "quill")).Find(&[]person{}).Error
			if err != nil && !errors.Is(err, storage.ErrFilterOnHidden) {
				w.Errorf("%v, want ErrFilterOnHidden", err)
			}
			return err
		}},
		{"hidden/what is seen may be asked for", works, func(w *world) error {
			var ps []person
			err := w.as(w.clerk).Where("status = ?", "admitted").Where(storage.Match("Name", "quill")).Find(&ps).Error
			w.ids(ps, w.alice.ID)
			return err
		}},
	}
}

// plainPaths are those of models without PHI: as with plain GORM.
func plainPaths() []path {
	return []path{
		{"plain/every kind of statement", works, func(w *world) error {
			db := w.as(context.Background())
			label := "w " + w.tenant
			x := widget{Label: label, Parts: []part{{Label: "cog"}}}
			if err := db.Create(&x).Error; err != nil {
				return err
			}
			if x.ID == 0 || x.Parts[0].WidgetID != x.ID {
				w.Error("IDs were not set")
			}
			x.Count = 3
			w.must(db.Save(&x).Error)
			w.must(db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "label"}}, DoUpdates: clause.AssignmentColumns([]string{"count"})}).Create(&widget{Label: label, Count: 5}).Error)
			w.must(db.Model(&widget{}).Where("id = ?", x.ID).Update("count", gorm.Expr("count + 1")).Error)
			var list []widget
			w.must(db.Preload("Parts").Where("label = ?", label).Find(&list).Error)
			if len(list) != 1 || list[0].Count != 6 || len(list[0].Parts) != 1 {
				w.Errorf("read %+v", list)
			}
			var labels []string
			w.must(db.Model(&widget{}).Where("id = ?", x.ID).Pluck("label", &labels).Error)
			m := map[string]any{}
			w.must(db.Model(&widget{}).Where("id = ?", x.ID).Take(&m).Error)
			var n int
			w.must(db.Raw(w.q("SELECT count(*) FROM dialect_widgets WHERE label = ?"), label).Scan(&n).Error)
			w.must(db.Exec(w.q("UPDATE dialect_widgets SET count = 9 WHERE label = ?"), label).Error)
			if len(labels) != 1 || n != 1 || m["label"] != label {
				w.Errorf("%v %d %v", labels, n, m["label"])
			}
			w.must(db.Joins("JOIN dialect_parts ON dialect_parts.widget_id = dialect_widgets.id").Where("dialect_widgets.label = ?", label).Find(&list).Error)
			w.must(db.Where("widget_id = ?", x.ID).Delete(&part{}).Error)
			w.must(db.Where("label = ?", label).Delete(&widget{}).Error)
			for _, ev := range w.db.Trail.Events() {
				for _, o := range ev.Objects {
					if o.Type == "widget" || o.Type == "part" {
						w.Errorf("a model without PHI is in the trail: %s", ev.Type)
					}
				}
			}
			return nil
		}},
		{"plain/a rolled back transaction", works, func(w *world) error {
			label := "r " + w.tenant
			_ = w.do().Transaction(func(tx *gorm.DB) error {
				w.must(tx.Create(&widget{Label: label}).Error)
				return errors.New("no")
			})
			if w.count("dialect_widgets", "label = ?", label) != 0 {
				w.Error("the row is there")
			}
			return nil
		}},
	}
}

// txPaths are transactions, savepoints and concurrent use.
func txPaths() []path {
	fail := errors.New("the app changed its mind")
	nothing := func(w *world, id string) {
		w.Helper()
		if id == "" {
			w.Fatal("no ID was noted before the rollback")
		}
		for _, table := range []string{"dialect_people WHERE id", "phi_index WHERE record_id", "phi_subject_keys WHERE subject_id"} {
			name, column, _ := strings.Cut(table, " WHERE ")
			if n := w.count(name, column+" = ?", id); n != 0 {
				w.Errorf("%d rows in %s after a rollback", n, name)
			}
		}
	}
	return []path{
		{"tx/committed", works, func(w *world) error {
			p := newPerson()
			err := w.do().Transaction(func(tx *gorm.DB) error {
				if err := tx.Create(&p).Error; err != nil {
					return err
				}
				v := visit{PersonID: p.ID, Reason: storage.Seal(reasonAlice)}
				if err := tx.Create(&v).Error; err != nil {
					return err
				}
				if err := storage.Reveal(storage.InTx(w.ctx, tx), &p); err != nil {
					return fmt.Errorf("reveal in the transaction: %w", err)
				}
				wants(w, "Name", p.Name, nameNew)
				return storage.Reveal(storage.InTx(w.ctx, tx), &v)
			})
			w.isNew(p.ID)
			return err
		}},
		{"tx/rolled back", works, func(w *world) error {
			p, id := newPerson(), ""
			err := w.do().Transaction(func(tx *gorm.DB) error {
				w.must(tx.Create(&p).Error)
				id = p.ID
				w.must(tx.Model(&person{}).Where("id = ?", w.alice.ID).Update("name", storage.Seal(nameNew)).Error)
				return fail
			})
			nothing(w, id)
			w.kept()
			w.found("quill", w.alice.ID)
			w.found("kettle")
			if !errors.Is(err, fail) {
				return err
			}
			return nil
		}},
		{"tx/begin, commit and rollback by hand", works, func(w *world) error {
			tx := w.do().Begin()
			p, q := newPerson(), person{Name: storage.Seal("Gone Again")}
			w.must(tx.Create(&p).Error)
			w.must(tx.Commit().Error)
			tx = w.do().Begin()
			w.must(tx.Create(&q).Error)
			id := q.ID
			w.must(tx.Rollback().Error)
			w.isNew(p.ID)
			nothing(w, id)
			return nil
		}},
		{"tx/nested, inner rolled back", works, func(w *world) error {
			var p, q person
			id := ""
			err := w.do().Transaction(func(tx *gorm.DB) error {
				p = newPerson()
				w.must(tx.Create(&p).Error)
				if err := tx.Transaction(func(tx *gorm.DB) error {
					q = person{Name: storage.Seal("Gone Again")}
					w.must(tx.Create(&q).Error)
					id = q.ID
					return fail
				}); !errors.Is(err, fail) {
					w.Errorf("inner: %v", err)
				}
				return nil
			})
			w.isNew(p.ID)
			nothing(w, id)
			return err
		}},
		{"tx/nested, both committed", works, func(w *world) error {
			p := newPerson()
			err := w.do().Transaction(func(tx *gorm.DB) error {
				return tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&p).Error })
			})
			w.isNew(p.ID)
			return err
		}},
		{"tx/the same patient again after RollbackTo", works, func(w *world) error {
			p := newPerson()
			tx := w.do().Begin()
			w.must(tx.SavePoint("here").Error)
			w.must(tx.Create(&p).Error)
			id := p.ID
			w.must(tx.RollbackTo("here").Error)
			p = newPerson()
			p.ID = id
			w.must(tx.Create(&p).Error)
			if err := tx.Commit().Error; err != nil {
				return err
			}
			w.isNew(id)
			return nil
		}},
		{"tx/the same patient again after a rollback", works, func(w *world) error {
			p := newPerson()
			tx := w.do().Begin()
			w.must(tx.Create(&p).Error)
			id := p.ID
			w.must(tx.Rollback().Error)
			p = newPerson()
			p.ID = id
			if err := w.do().Create(&p).Error; err != nil {
				return err
			}
			w.isNew(id)
			return nil
		}},
		{"tx/a statement that fails and is ignored leaves nothing", works, func(w *world) error {
			p := newPerson()
			dup := person{MRN: storage.Seal(mrnAlice), Name: storage.Seal("Gone Again")}
			err := w.do().Transaction(func(tx *gorm.DB) error {
				w.must(tx.Create(&p).Error)
				if err := tx.Create(&dup).Error; !errors.Is(err, storage.ErrDuplicate) {
					w.Errorf("Create of a duplicate = %v, want ErrDuplicate", err)
				}
				return nil
			})
			w.isNew(p.ID)
			if n := w.count("dialect_people", "tenant_id = ?", w.tenant); n != 3 {
				w.Errorf("%d people, want 3: the duplicate was stored", n)
			}
			w.found("gone")
			return err
		}},
		{"tx/PrepareStmt", works, func(w *world) error {
			p := newPerson()
			err := w.do().Session(&gorm.Session{PrepareStmt: true}).Transaction(func(tx *gorm.DB) error {
				if err := tx.Create(&p).Error; err != nil {
					return err
				}
				return tx.Transaction(func(tx *gorm.DB) error { return tx.Take(&person{}, "id = ?", p.ID).Error })
			})
			w.isNew(p.ID)
			return err
		}},
		{"tx/on a connection of its own", works, func(w *world) error {
			p := newPerson()
			err := w.do().Connection(func(tx *gorm.DB) error { return tx.Create(&p).Error })
			if errors.Is(err, storage.ErrRefused) {
				return nil
			}
			w.isNew(p.ID)
			return err
		}},
		{"tx/many at once", works, func(w *world) error {
			var wg sync.WaitGroup
			var mu sync.Mutex
			var ids []string
			for range 4 {
				wg.Go(func() {
					p := person{Name: storage.Seal("Parallel Writer"), Seen: seenAt()}
					if err := w.do().Create(&p).Error; err != nil {
						w.Errorf("Create: %v", err)
						return
					}
					var q person
					if err := w.do().Take(&q, "id = ?", p.ID).Error; err != nil {
						w.Errorf("Take: %v", err)
						return
					}
					if err := storage.Reveal(w.ctx, &q); err != nil {
						w.Errorf("Reveal: %v", err)
					}
					wants(w, "Name", q.Name, "Parallel Writer")
					if err := w.do().Model(&q).Update("status", "x").Error; err != nil {
						w.Errorf("Update: %v", err)
					}
					mu.Lock()
					ids = append(ids, q.ID)
					mu.Unlock()
				})
			}
			wg.Wait()
			w.found("para wri", ids...)
			return nil
		}},
	}
}
