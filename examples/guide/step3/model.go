// SPDX-License-Identifier: Apache-2.0

// Step 3 of docs/guide-storage.md: the model with sealed fields beside the old
// columns, and its test.
package step3

import (
	"time"

	"github.com/part164/part164/storage"
)

type Patient struct {
	storage.PatientRecord                        // ID, TenantID, Version, CreatedAt, UpdatedAt
	MRN                   storage.Sealed[string] `gorm:"column:mrn_sealed" phi:"mrn,search=exact,unique,from=mrn"`
	Name                  storage.Sealed[string] `gorm:"column:name_sealed" phi:"name,search=name,from=name"`
	Phone                 storage.Sealed[string] `gorm:"column:phone_sealed" phi:"phone,from=phone"`
	Notes                 storage.Sealed[string] `gorm:"column:notes_sealed" phi:"text,from=notes"`
	NextVisit             time.Time              `gorm:"index" phi:"date,clear"` // sorted by: stays in clear
}
