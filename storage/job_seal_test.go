// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// maintenance returns the context of a job.
func maintenance(t testing.TB) context.Context {
	t.Helper()
	return maintenanceIn(t, accesstest.Tenant)
}

func maintenanceIn(t testing.TB, tenant string) context.Context {
	t.Helper()
	p := accesstest.Principal(tenant, "maintenance")
	p.Kind = access.Service
	ctx, end := access.Job(t.Context(), p, access.RecordManagement)
	t.Cleanup(end)
	return ctx
}

// runJob runs a job to its end.
func runJob(t testing.TB, db *storagetest.DB, job storage.Job) storage.JobReport {
	t.Helper()
	r, err := storage.RunJob(maintenance(t), db.DB, job)
	if err != nil || !r.Done {
		t.Fatalf("RunJob(%s) = %+v, %v", job.Kind, r, err)
	}
	return r
}

// oldClient is a table as an app without storage has it.
type oldClient struct {
	ID     string `gorm:"primaryKey;size:36"`
	Name   string
	Born   string
	Visits int
	Seen   time.Time
	Plan   *string `gorm:"size:200"`
}

func (oldClient) TableName() string { return "clients" }

// Client is the same table with its columns on the way into sealed ones.
type Client struct {
	storage.PatientRecord
	Name   storage.Sealed[string]    `gorm:"column:name_sealed" phi:"name,search=name,from=name"`
	Born   storage.Sealed[string]    `gorm:"column:born_sealed" phi:"dob,search=exact,from=born"`
	Visits storage.Sealed[int]       `gorm:"column:visits_sealed" phi:"clinical,from=visits"`
	Seen   storage.Sealed[time.Time] `gorm:"column:seen_sealed" phi:"date,from=seen"`
	Plan   storage.Sealed[string]    `gorm:"column:plan_sealed" phi:"mrn,search=exact,unique,from=plan"`
}

var seen = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// oldClients fills the old table with n rows, and returns their IDs in order.
func oldClients(t testing.TB, d gorm.Dialector, n int) []string {
	t.Helper()
	db, err := gorm.Open(d, &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.AutoMigrate(&oldClient{}); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range n {
		plan := fmt.Sprintf("PLAN-%04d", i)
		c := oldClient{ID: uuid.Must(uuid.NewV7()).String(), Name: fmt.Sprintf("Secretname%04d", i), Born: "1980-02-03", Visits: i, Seen: seen, Plan: &plan}
		if i%5 == 4 {
			c.Plan = nil
		}
		if err := db.Create(&c).Error; err != nil {
			t.Fatal(err)
		}
		ids = append(ids, c.ID)
	}
	c, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return ids
}

// plaintexts counts the values in the old columns, past storage.
func plaintexts(t testing.TB, db *storagetest.DB) int {
	t.Helper()
	c, err := db.DB.DB()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := c.QueryRow("SELECT count(name)+count(born)+count(visits)+count(seen)+count(plan) FROM clients").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func readClients(t testing.TB, db *storagetest.DB, ids []string) {
	t.Helper()
	ctx := physician(t)
	var got []Client
	if err := db.WithContext(ctx).Order("id").Find(&got).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(ctx, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(ids) {
		t.Errorf("%d clients are read, want %d", len(got), len(ids))
	}
	for i, c := range got {
		plan := fmt.Sprintf("PLAN-%04d", i)
		if i%5 == 4 {
			plan = ""
		}
		shows(t, ctx, c.Name, fmt.Sprintf("Secretname%04d", i))
		shows(t, ctx, c.Born, "1980-02-03")
		shows(t, ctx, c.Plan, plan)
		if n, err := c.Visits.Get(ctx); n != i || err != nil {
			t.Errorf("client %d: Visits = %d, %v", i, n, err)
		}
		if s, err := c.Seen.Get(ctx); !s.Equal(seen) || err != nil {
			t.Errorf("client %d: Seen = %v, %v", i, s, err)
		}
	}
}

func TestSealColumnsOnline(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		const n = 23
		ids := oldClients(t, d, n)
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Client{})
		ctx := physician(t)

		var none []Client
		if err := db.WithContext(ctx).Find(&none).Error; err != nil || len(none) != 0 {
			t.Errorf("before anybody adopted them, %d rows are seen, %v; want none", len(none), err)
		}
		dry := runJob(t, db, storage.Job{Kind: storage.SealColumns, Adopt: true, DryRun: true})
		if dry.Changed == 0 || plaintexts(t, db) < 4*n {
			t.Errorf("dry run: %+v, %d values in clear left", dry, plaintexts(t, db))
		}
		if _, err := db.DB.DB(); err != nil {
			t.Fatal(err)
		}
		adoptAll(t, db)

		// While nothing is sealed yet, all is read.
		if err := storage.Settle(ctx, db.DB); err != nil { // so that no event of a write comes late
			t.Fatal(err)
		}
		first := len(db.Trail.Events())
		readClients(t, db, ids)
		audittest.Want(t, db.Trail, audit.Event{Type: audit.Revealed})
		if ev := db.Trail.Events()[first]; len(ev.Objects) != n || !slices.Contains(ev.Objects[0].Fields, "Name") {
			t.Errorf("the reveal of what is not sealed yet is recorded as %+v", ev)
		}
		c := one(t, db, ctx, ids[3])
		if _, err := c.Name.Get(ctx); !errors.Is(err, storage.ErrSealed) || c.Name.IsNull() || strings.Contains(fmt.Sprintf("%v %+v", c, c.Name), "Secret") {
			t.Errorf("before Reveal: %v, null %v, printed %v", err, c.Name.IsNull(), c.Name)
		}
		if err := db.WithContext(ctx).Where("name = ?", "Secretname0003").Find(&none).Error; !errors.Is(err, storage.ErrRefused) {
			t.Errorf("a condition on the old column = %v, want ErrRefused", err)
		}

		// A write goes to the sealed column and clears the old one.
		before := plaintexts(t, db)
		if err := db.WithContext(ctx).Model(&c).Updates(Client{Name: storage.Seal("Secretname0003")}).Error; err != nil {
			t.Fatal(err)
		}
		if got := plaintexts(t, db); got != before-1 {
			t.Errorf("a write left %d values in clear of %d", got, before)
		}
		c = one(t, db, ctx, ids[4]) // an untouched Save
		if err := db.WithContext(ctx).Save(&c).Error; err != nil || c.Version != 1 || plaintexts(t, db) != before-1 {
			t.Errorf("Save of what was read = %v, version %d", err, c.Version)
		}
		if err := db.WithContext(ctx).Model(&c).Updates(map[string]any{"visits_sealed": nil}).Error; err != nil || plaintexts(t, db) != before-2 {
			t.Errorf("NULL leaves the old value: %v", err)
		}
		if err := db.WithContext(ctx).Model(&c).Updates(map[string]any{"visits_sealed": storage.Seal(4)}).Error; err != nil {
			t.Fatal(err)
		}

		from := len(db.Trail.Events())
		r := runJob(t, db, storage.Job{Kind: storage.SealColumns, Batch: 5})
		if r.Rows != n || r.Changed != n || len(r.Skipped) != 0 {
			t.Errorf("report %+v", r)
		}
		if got := plaintexts(t, db); got != 0 {
			t.Errorf("%d values are left in clear", got)
		}
		readClients(t, db, ids)
		var attempts []audit.Stored
		for _, ev := range db.Trail.Events()[from:] {
			if ev.Type == audit.WriteAttempt {
				attempts = append(attempts, ev)
			}
		}
		if len(attempts) != 5 || attempts[0].Reason != audit.ReasonMigration || len(attempts[0].Objects) != 5 {
			t.Errorf("%d attempts, the first %+v; want one a batch with its 5 patients", len(attempts), attempts[0])
		}
		var found []Client
		if err := db.WithContext(ctx).Where(storage.Match("Name", "secretname0007")).Find(&found).Error; err != nil || len(found) != 1 || found[0].ID != ids[7] {
			t.Errorf("the index: %d rows, %v", len(found), err)
		}
		for _, col := range []string{"name_sealed", "born_sealed", "visits_sealed", "seen_sealed"} {
			if raw := storagetest.RawColumn(t, db.DB, "clients", col, ids[7]); len(raw) < 34 || bytes.Contains(raw, []byte("Secret")) {
				t.Errorf("%s holds %q", col, raw)
			}
		}

		clean(t, db)

		// The old column is closed, then it is gone.
		raw, err := db.DB.DB()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := raw.Exec("UPDATE clients SET name = 'Secretname' WHERE id = '" + ids[0] + "'"); err == nil {
			t.Error("the old column takes plaintext again")
		}
		runJob(t, db, storage.Job{Kind: storage.DropColumns})
		if err := raw.QueryRow("SELECT name FROM clients LIMIT 1").Scan(new(sql.NullString)); err == nil {
			t.Error("the old column is still there")
		}
		readClients(t, db, ids)
		if err := db.WithContext(ctx).Create(&Client{Name: storage.Seal("New")}).Error; err != nil {
			t.Error(err)
		}
	})
}

func one(t testing.TB, db *storagetest.DB, ctx context.Context, id string) Client {
	t.Helper()
	var c Client
	if err := db.WithContext(ctx).Take(&c, "id = ?", id).Error; err != nil {
		t.Fatal(err)
	}
	return c
}

// adoptAll runs a seal job with Adopt that stops behind the adoption.
func adoptAll(t testing.TB, db *storagetest.DB) {
	t.Helper()
	ctx, cancel := context.WithCancel(maintenance(t))
	defer cancel()
	_, err := storage.RunJob(ctx, db.DB, storage.Job{Kind: storage.SealColumns, Adopt: true, Name: "adopt", Progress: func(r storage.JobReport) {
		if r.Changed >= 23 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("RunJob, cancelled = %v", err)
	}
}

// A value in the old column is shown as a sealed one is: to those who may see
// it, masked where the policy masks, and not before it was recorded.
func TestAnOldValueIsSealedToTheApp(t *testing.T) {
	t.Parallel()
	type Masked struct {
		storage.PatientRecord
		Name storage.Sealed[string] `gorm:"column:name_sealed" phi:"ssn,from=name"`
		Born storage.Sealed[string] `gorm:"column:born_sealed" phi:"psychotherapy,from=born"`
	}
	d := openSQLite(t)
	db, err := gorm.Open(d, &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Exec("CREATE TABLE maskeds (id varchar(36) PRIMARY KEY, tenant_id varchar(64), version bigint, name text, born text)").Error; err != nil {
		t.Fatal(err)
	}
	id := storagetest.SeededIDs(7)()
	if err := db.Exec("INSERT INTO maskeds VALUES (?, ?, 1, '123-45-6789', 'a secret')", id, accesstest.Tenant).Error; err != nil {
		t.Fatal(err)
	}
	if c, err := db.DB(); err == nil {
		_ = c.Close()
	}
	policy := accesstest.Allow()
	s := storagetest.Open(t, d, func(c *storage.Config) { c.Access = policy }, &Masked{})
	ctx := physician(t)
	read := func() (m Masked) {
		t.Helper()
		if err := s.WithContext(ctx).Take(&m, "id = ?", id).Error; err != nil {
			t.Fatal(err)
		}
		return m
	}
	m, denied, unrecorded := read(), read(), read()
	s.Trail.Reset()
	if err := storage.Reveal(ctx, &m); err != nil {
		t.Fatal(err)
	}
	if got := m.Name.Text(ctx); got != "***-**-6789" {
		t.Errorf("Name = %q, want the mask", got)
	}
	if _, err := m.Born.Get(ctx); !errors.Is(err, storage.ErrWithheld) {
		t.Errorf("Born = %v, want ErrWithheld", err)
	}
	if evs := s.Trail.Events(); len(evs) != 1 || evs[0].Type != audit.Revealed || !slices.Equal(evs[0].Objects[0].Fields, []string{"Name"}) {
		t.Errorf("recorded: %+v, want a reveal of Name", evs)
	}
	s.Trail.Fail(errors.New("disk full"))
	if err := storage.Reveal(ctx, &unrecorded); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Reveal with the trail down = %v", err)
	}
	s.Trail.Fail(nil)
	policy.Rules = nil
	if err := storage.Reveal(ctx, &denied); !errors.Is(err, access.ErrDenied) {
		t.Errorf("Reveal where the policy denies = %v", err)
	}
	for what, x := range map[string]Masked{"denied": denied, "unrecorded": unrecorded} {
		if _, err := x.Name.Get(ctx); !errors.Is(err, storage.ErrSealed) {
			t.Errorf("%s: Name = %v, want ErrSealed", what, err)
		}
	}
}
