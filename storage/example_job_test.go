// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
	"github.com/part164/part164/storage/storagetest"
)

// Member is a table that was there before storage, whose column name holds
// plaintext. Step 1: the record, the tag, and a column for what is sealed.
type Member struct {
	storage.PatientRecord
	Name storage.Sealed[string] `gorm:"column:name_sealed" phi:"name,search=name,from=name"`
}

// ResourceType is how the policies call it.
func (Member) ResourceType() string { return "patient" }

// From plaintext to a sealed column, while the app runs.
func ExampleRunJob_seal() {
	tb := &exampleTB{}
	defer tb.end()
	path := tb.TempDir() + "/app.db"
	before, err := gorm.Open(sqlite.Open(path), &gorm.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	before.Exec("CREATE TABLE members (id varchar(36) PRIMARY KEY, name text)")
	before.Exec("INSERT INTO members VALUES ('0190f2d4-7c1e-7000-8000-000000000001', 'Jane Roe')")

	// Step 2: Migrate, which storagetest.Open calls, adds what is missing.
	db := storagetest.Open(tb, sqlite.Open(path), func(*storage.Config) {}, &Member{})

	// Step 3: a service with the role of maintenance runs the job, dry first.
	service := access.Principal{ID: "sealing", Tenant: "clinic", Kind: access.Service, Roles: []string{"maintenance"}}
	ctx, end := access.Job(context.Background(), service, access.RecordManagement)
	defer end()
	for _, dry := range []bool{true, false} {
		report, err := storage.RunJob(ctx, db.DB, storage.Job{Kind: storage.SealColumns, Adopt: true, DryRun: dry})
		fmt.Println("done:", report.Done, err)
	}

	// Step 4: nothing is left in the old column; it goes. Step 5 is to take
	// from= out of the tag.
	report, err := storage.RunJob(ctx, db.DB, storage.Job{Kind: storage.DropColumns})
	fmt.Println("dropped:", report.Done, err)
	fmt.Println("columns left:", db.Migrator().HasColumn(&Member{}, "name_sealed"), before.Migrator().HasColumn("members", "name"))

	physician := access.Principal{ID: "u-17", Tenant: "clinic", Kind: access.Human, Roles: []string{"physician"}}
	ctx = access.With(context.Background(), physician, access.Treatment)
	var m Member
	if err := db.WithContext(ctx).Where(storage.Match("Name", "ja roe")).First(&m).Error; err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Name)
	if err := storage.Reveal(ctx, &m); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Name.Text(ctx))
	// Output:
	// done: true <nil>
	// done: true <nil>
	// dropped: true <nil>
	// columns left: true false
	// [PHI:name]
	// Jane Roe
}
