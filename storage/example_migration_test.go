// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
)

// A Referral is a record about a patient.
type Referral struct {
	storage.Record
	PatientID string                 `gorm:"size:36;index" phi:"subject"`
	Reason    storage.Sealed[string] `phi:"clinical"`
}

// A database that is changed by reviewed SQL only: commit what this prints as
// your next migration, behind the files in storage.Migrations.
func ExampleMigrationSQL() {
	dir, err := os.MkdirTemp("", "scratch")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	text, err := storage.MigrationSQL(sqlite.Open(filepath.Join(dir, "scratch.db")), &Referral{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		fmt.Println(line[:min(len(line), 60)])
	}
	// Output:
	// -- Tables with PHI, as storage.Migrate makes them.
	//
	// -- +goose Up
	// CREATE TABLE `referrals` (`id` text,`tenant_id` text NOT NUL
	// CREATE INDEX `idx_referrals_patient_id` ON `referrals`(`pati
	// CREATE INDEX `idx_referrals_tenant_id` ON `referrals`(`tenan
	// -- +goose StatementBegin
	// CREATE TRIGGER `phi_cell_referrals_reason_i` BEFORE INSERT O
	// -- +goose StatementEnd
	// -- +goose StatementBegin
	// CREATE TRIGGER `phi_cell_referrals_reason_u` BEFORE UPDATE O
	// -- +goose StatementEnd
	// INSERT INTO `phi_tables` (`name`) VALUES ('referrals');
	//
	// -- +goose Down
	// -- Nothing: what is dropped here cannot be opened or made ag
}
