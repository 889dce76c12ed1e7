// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// schema is what a database says about its tables.
func schema(t *testing.T, raw *sql.DB, dialect string) string {
	t.Helper()
	query := map[string]string{
		"sqlite": "SELECT coalesce(sql, name) FROM sqlite_master ORDER BY type, name",
		"postgres": `SELECT conname || ' ' || pg_get_constraintdef(oid) || convalidated FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
			UNION ALL SELECT table_name || '.' || column_name || ' ' || data_type || is_nullable FROM information_schema.columns WHERE table_schema = current_schema()
			UNION ALL SELECT indexname || indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1`,
		"mysql": `SELECT concat(table_name, constraint_name, check_clause) FROM information_schema.check_constraints WHERE constraint_schema = database()
			UNION ALL SELECT concat(table_name, '.', column_name, ' ', column_type, is_nullable) FROM information_schema.columns WHERE table_schema = database() ORDER BY 1`,
	}[dialect]
	rows, err := raw.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var b strings.Builder
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		b.WriteString(s + "\n")
	}
	return b.String()
}

// mark writes a query with ? for the dialect.
func mark(dialect, query string) string {
	for i := 1; dialect == "postgres" && strings.Contains(query, "?"); i++ {
		query = strings.Replace(query, "?", fmt.Sprintf("$%d", i), 1)
	}
	return query
}

func TestTheDatabaseRefusesPlaintext(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &Encounter{})
		ctx := physician(t)
		p := created(t, db, ctx, jane())
		good := storagetest.RawColumn(t, db.DB, "patients", "name", p.ID)
		raw := admin(t, d)
		insert := func(id string, v any) error {
			_, err := raw.Exec(mark(db.Name(), "INSERT INTO patients (id, tenant_id, version, name) VALUES (?, 't-test', 1, ?)"), id, v)
			return err
		}
		update := func(v any) error {
			_, err := raw.Exec(mark(db.Name(), "UPDATE patients SET name = ? WHERE id = ?"), v, p.ID)
			return err
		}
		short := append([]byte{crypto.CellVersion, crypto.CellAES256GCM}, make([]byte, crypto.CellOverhead-3)...)
		for name, v := range map[string]any{
			"text": "Jane Roe", "long text": strings.Repeat("Jane Roe ", 20), "bytes": []byte(strings.Repeat("Jane Roe ", 20)), "an empty string": "", "empty bytes": []byte{},
			"a cell cut short": short, "the placeholder": "[PHI:name]" + strings.Repeat(" ", 40), "hex of a cell": fmt.Sprintf("%x", good), "another version": append([]byte{0xFA, 1}, good[2:]...),
		} {
			if err := insert("0190f2d4-0000-7000-8000-0000000000a1", v); err == nil {
				t.Errorf("INSERT of %s is taken", name)
			} else if strings.Contains(err.Error(), "Jane") && db.Name() == "sqlite" {
				t.Errorf("INSERT of %s: the error quotes it", name)
			}
			if err := update(v); err == nil {
				t.Errorf("UPDATE to %s is taken", name)
			}
		}
		if db.Name() == "sqlite" {
			if _, err := raw.Exec("INSERT OR REPLACE INTO patients (id, tenant_id, version, name) VALUES (?, 't-test', 1, 'Jane Roe')", p.ID); err == nil {
				t.Error("INSERT OR REPLACE of text is taken")
			}
			if _, err := raw.Exec("INSERT INTO patients (id, tenant_id, version, name) VALUES (?, 't-test', 1, 5) ON CONFLICT (id) DO UPDATE SET name = 'Jane Roe'", p.ID); err == nil {
				t.Error("an upsert of text is taken")
			}
		}
		if got := storagetest.RawColumn(t, db.DB, "patients", "name", p.ID); !slices.Equal(got, good) {
			t.Error("the stored cell changed")
		}
		if err := insert("0190f2d4-0000-7000-8000-0000000000a2", nil); err != nil {
			t.Errorf("INSERT of NULL: %v", err)
		}
		if err := insert("0190f2d4-0000-7000-8000-0000000000a3", good); err != nil {
			t.Errorf("INSERT of a cell: %v", err)
		}
		if err := errors.Join(update(nil), update(good)); err != nil {
			t.Errorf("UPDATE to NULL and a cell: %v", err)
		}
	})
}

func TestMigrateAgainChangesNothing(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &Encounter{})
		raw := admin(t, d)
		created(t, db, physician(t), jane())
		before := schema(t, raw, db.Name())
		for range 2 {
			if err := storage.Migrate(t.Context(), db.DB, &Patient{}, &Encounter{}); err != nil {
				t.Fatal(err)
			}
		}
		if after := schema(t, raw, db.Name()); after != before {
			t.Errorf("the schema changed:\n%s\nwas\n%s", after, before)
		}
	})
}

// An older app's tables, with children, cascades, triggers and other types
// than Migrate would give them.
func TestMigrateLosesNothingOfAnOldDatabase(t *testing.T) {
	t.Parallel()
	type OldPatient struct {
		storage.PatientRecord
		Name   storage.Sealed[string] `phi:"name"`
		MRN    storage.Sealed[string] `phi:"mrn,search=exact"` // new
		Status string                 `phi:"operational,clear" gorm:"size:80;not null;default:'new';check:old_status,status <> 'bad'"`
		Note   string                 `phi:"-" gorm:"size:200"`
	}
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		raw := admin(t, d)
		run := func(query string) {
			t.Helper()
			if _, err := raw.Exec(query); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		blob := map[string]string{"sqlite": "blob", "postgres": "bytea", "mysql": "longblob"}[d.Name()]
		run("CREATE TABLE old_patients (id varchar(36) PRIMARY KEY, tenant_id varchar(32) NOT NULL, version bigint, status varchar(20), name " + blob + ")")
		run("CREATE TABLE old_children (id int PRIMARY KEY, patient_id varchar(36) NOT NULL, CONSTRAINT old_fk FOREIGN KEY (patient_id) REFERENCES old_patients(id) ON DELETE CASCADE)")
		run("CREATE TABLE old_log (n int)")
		switch d.Name() {
		case "sqlite":
			run("CREATE TRIGGER old_trigger AFTER UPDATE ON old_patients BEGIN INSERT INTO old_log VALUES (1); END")
		case "postgres":
			run("CREATE FUNCTION old_f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO old_log VALUES (1); RETURN NEW; END'")
			run("CREATE TRIGGER old_trigger AFTER UPDATE ON old_patients FOR EACH ROW EXECUTE FUNCTION old_f()")
		case "mysql":
			run("CREATE TRIGGER old_trigger AFTER UPDATE ON old_patients FOR EACH ROW INSERT INTO old_log VALUES (1)")
		}
		const id = "0190f2d4-0000-7000-8000-0000000000a1"
		run("INSERT INTO old_patients (id, tenant_id, version, status) VALUES ('" + id + "', 't-test', 1, 'old')")
		run("INSERT INTO old_children VALUES (1, '" + id + "')")
		run("INSERT INTO old_children VALUES (2, '" + id + "')")
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access = accesstest.Allow() }, &OldPatient{})
		if err := storage.Migrate(t.Context(), db.DB, &OldPatient{}); err != nil {
			t.Fatal(err)
		}
		count := func(table string, want int) {
			t.Helper()
			var n int
			if err := raw.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil || n != want {
				t.Errorf("%s: %d rows, %v; want %d", table, n, err, want)
			}
		}
		count("old_patients", 1)
		count("old_children", 2)
		ctx := physician(t)
		var p OldPatient
		if err := db.WithContext(ctx).Take(&p, "id = ?", id).Error; err != nil {
			t.Fatal(err)
		}
		p.Name, p.MRN, p.Note = storage.Seal("Jane Roe"), storage.Seal("MRN-123456"), "x"
		if err := db.WithContext(ctx).Save(&p).Error; err != nil {
			t.Fatal(err)
		}
		count("old_log", 1) // the trigger is still there
		for _, column := range []string{"name", "mrn"} {
			if _, err := raw.Exec("UPDATE old_patients SET " + column + " = 'plain'"); err == nil {
				t.Errorf("the column %s takes plaintext", column)
			}
		}
		var found []OldPatient
		if err := db.WithContext(ctx).Where(storage.Match("MRN", "mrn123456")).Find(&found).Error; err != nil || len(found) != 1 {
			t.Errorf("a search of the new column found %d, %v; want 1", len(found), err)
		}
		run("DELETE FROM old_patients")
		count("old_children", 0) // and the cascade
	})
}

func TestMigrateNamesPlaintextThatIsThere(t *testing.T) {
	t.Parallel()
	type Legacy struct {
		storage.PatientRecord
		Name storage.Sealed[string] `phi:"name"`
	}
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		raw := admin(t, d)
		blob := map[string]string{"sqlite": "text", "postgres": "bytea", "mysql": "longblob"}[d.Name()]
		exec(t, raw, "CREATE TABLE legacies (id varchar(36) PRIMARY KEY, tenant_id varchar(64) NOT NULL, version bigint NOT NULL, name "+blob+")")
		exec(t, raw, "INSERT INTO legacies VALUES ('0190f2d4-0000-7000-8000-0000000000a1', 't-test', 1, 'Jane Roe')")
		db := storagetest.Open(t, d, func(*storage.Config) {})
		err := storage.Migrate(t.Context(), db.DB, &Legacy{})
		if err == nil || !strings.Contains(err.Error(), "legacies.name") || !strings.Contains(err.Error(), "1 rows") || strings.Contains(err.Error(), "Jane") {
			t.Errorf("Migrate = %v, want an error that names the column", err)
		}
		var s string
		if err := raw.QueryRow("SELECT name FROM legacies").Scan(&s); err != nil || s != "Jane Roe" {
			t.Errorf("the old value is %q, %v", s, err)
		}
	})
}

func TestIdentifiersAreShort(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access = accesstest.Allow() }, &AVeryLongNameForAModelThatHoldsSomethingAboutPatients{})
		raw := admin(t, d)
		query := map[string]string{
			"sqlite":   "SELECT name FROM sqlite_master WHERE name LIKE '%phi%' OR tbl_name LIKE 'phi%'",
			"postgres": "SELECT conname FROM pg_constraint WHERE connamespace = current_schema()::regnamespace AND conname LIKE '%phi%' UNION SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND tablename LIKE 'phi%'",
			"mysql":    "SELECT constraint_name FROM information_schema.check_constraints WHERE constraint_schema = database() UNION SELECT index_name FROM information_schema.statistics WHERE table_schema = database() AND table_name LIKE 'phi%'",
		}[db.Name()]
		rows, err := raw.Query(query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		cells := 0
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				t.Fatal(err)
			}
			if len(name) > 60 {
				t.Errorf("%s has %d bytes", name, len(name))
			}
			if strings.HasPrefix(name, "phi_cell_") {
				cells++
			}
		}
		if cells < 2 {
			t.Errorf("%d constraints for two columns", cells)
		}
		ctx := physician(t)
		x := AVeryLongNameForAModelThatHoldsSomethingAboutPatients{AFieldWithANameThatIsLongTooAndGoesOnForAWhile: storage.Seal("a"), AFieldWithANameThatIsLongTooAndGoesOnForAWhil2: storage.Seal("b")}
		if err := db.WithContext(ctx).Create(&x).Error; err != nil {
			t.Fatal(err)
		}
	})
}

// AVeryLongNameForAModelThatHoldsSomethingAboutPatients has columns whose
// constraints would be named alike if they were just cut.
type AVeryLongNameForAModelThatHoldsSomethingAboutPatients struct {
	storage.PatientRecord
	AFieldWithANameThatIsLongTooAndGoesOnForAWhile storage.Sealed[string] `phi:"text,as=long.first,search=exact"`
	AFieldWithANameThatIsLongTooAndGoesOnForAWhil2 storage.Sealed[string] `phi:"text"`
}

func (AVeryLongNameForAModelThatHoldsSomethingAboutPatients) TableName() string {
	return "a_long_table_name_of_the_app"
}

func TestMigrateRefusesBadModels(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t)
	for want, m := range map[string]any{
		"no phi tag": &struct {
			storage.PatientRecord
			Name  storage.Sealed[string] `phi:"name"`
			Other string
		}{},
		"Sealed without a phi tag": &struct {
			storage.PatientRecord
			Name storage.Sealed[string]
		}{},
		"PHI in clear": &struct {
			storage.PatientRecord
			Name string `phi:"name"`
		}{},
		"Sealed and clear": &struct {
			storage.PatientRecord
			Name storage.Sealed[string] `phi:"name,clear"`
		}{},
		"unknown class": &struct {
			storage.PatientRecord
			Name storage.Sealed[string] `phi:"nmae"`
		}{},
		"give it a class": &struct {
			storage.PatientRecord
			Name storage.Sealed[string] `phi:"-"`
		}{},
		"embed storage.Record": &struct {
			ID   string
			Name storage.Sealed[string] `phi:"name"`
		}{},
		"a second subject": &struct {
			storage.PatientRecord
			Other string                 `phi:"subject"`
			Name  storage.Sealed[string] `phi:"name"`
		}{},
		"string that holds": &struct {
			storage.Record
			Other int                    `phi:"subject"`
			Name  storage.Sealed[string] `phi:"name"`
		}{},
		"indexed, unique or checked": &struct {
			storage.PatientRecord
			Name storage.Sealed[string] `phi:"name" gorm:"index"`
		}{},
		"unique or checked by": &struct {
			storage.PatientRecord
			Name storage.Sealed[string] `phi:"name" gorm:"uniqueIndex"`
		}{},
		"primary key": &struct {
			storage.PatientRecord
			Key  uint                   `phi:"-" gorm:"primaryKey;autoIncrement"`
			Name storage.Sealed[string] `phi:"name"`
		}{},
		"from=": &struct {
			storage.PatientRecord
			Name storage.Sealed[string] `phi:"name,from=name"`
		}{},
		"from= on what is no Sealed": &struct {
			storage.PatientRecord
			Name string `phi:"name,from=old_name"`
		}{},
		"serializer": &struct {
			storage.PatientRecord
			Name storage.Sealed[string] `phi:"name" gorm:"serializer:json"`
		}{},
		"holds Sealed values": &struct {
			storage.PatientRecord
			Name  storage.Sealed[string]   `phi:"name"`
			Names []storage.Sealed[string] `phi:"name,clear" gorm:"serializer:json"`
		}{},
		"has no phi tag: give": &struct {
			storage.PatientRecord
			Name string
		}{},
	} {
		err := storage.Migrate(t.Context(), db.DB, m)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Migrate of a model with fault %q = %v", want, err)
		}
		if err == nil || !strings.Contains(err.Error(), "storage: ") {
			continue
		}
	}
}

// A model whose table is called as one of its columns.
func TestATableCalledAsItsColumn(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &notes{})
	ctx := physician(t)
	n := notes{PatientID: storagetest.SeededIDs(1)(), Notes: storage.Seal("text")}
	if err := db.WithContext(ctx).Create(&n).Error; err != nil {
		t.Fatal(err)
	}
	var m notes
	if err := db.WithContext(ctx).Where("id = ?", n.ID).Take(&m).Error; err != nil {
		t.Fatal(err)
	}
	if err := db.WithContext(ctx).Save(&m).Error; err != nil {
		t.Error(err)
	}
	if err := db.WithContext(ctx).Where("notes IS NULL").Find(&[]notes{}).Error; !errors.Is(err, storage.ErrRefused) {
		t.Errorf("a condition on the column = %v, want ErrRefused", err)
	}
	if err := db.WithContext(ctx).Where("notes.notes IS NULL").Find(&[]notes{}).Error; !errors.Is(err, storage.ErrRefused) {
		t.Errorf("a condition on the qualified column = %v, want ErrRefused", err)
	}
}

type notes struct {
	storage.Record
	PatientID string                 `phi:"subject" gorm:"size:36"`
	Notes     storage.Sealed[string] `phi:"text"`
}

func (notes) TableName() string { return "notes" }

// A table that is named with its schema is guarded as well.
func TestATableWithItsSchema(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &qualified{})
	ctx := physician(t)
	q := qualified{PatientID: storagetest.SeededIDs(1)(), Text: storage.Seal("text")}
	if err := db.WithContext(ctx).Create(&q).Error; err != nil {
		t.Fatal(err)
	}
	var got qualified
	if err := db.WithContext(ctx).Take(&got).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(ctx, &got); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"SELECT text FROM main.qualified", "SELECT text FROM qualified", `SELECT text FROM "main"."qualified"`} {
		if err := db.WithContext(ctx).Raw(text).Scan(&[][]byte{}).Error; !errors.Is(err, storage.ErrRefused) {
			t.Errorf("%s = %v, want ErrRefused", text, err)
		}
	}
}

type qualified struct {
	storage.Record
	PatientID string                 `phi:"subject" gorm:"size:36"`
	Text      storage.Sealed[string] `phi:"text"`
}

func (qualified) TableName() string { return "main.qualified" }
