// SPDX-License-Identifier: Apache-2.0

package storage

import "time"

// A Record is embedded by every model that holds PHI. storage fills it in: an
// app reads it and leaves it alone.
type Record struct {
	ID        string    `gorm:"primaryKey;size:36" phi:"-"` // UUID version 7, made before the insert because the cells are bound to it
	TenantID  string    `gorm:"size:64;not null;index" phi:"-"`
	Version   int64     `gorm:"not null" phi:"-"` // 1 at creation, one more at each write
	CreatedAt time.Time `phi:"-"`
	UpdatedAt time.Time `phi:"-"`

	load *load
}

// A PatientRecord is embedded by the model of the patient. It is its own
// subject: its cells are sealed under the patient's own key.
type PatientRecord struct {
	Record

	// MergedInto is the ID of the patient that this duplicate was merged into,
	// by a job; empty for all others. storage fills it in.
	MergedInto string `gorm:"size:36" phi:"-"`
}

// A load remembers which record a struct was read from and with which columns,
// so that Save writes back only those. It is immutable.
type load struct {
	columns map[string]bool // nil: every column
	row     func() *row
}

func (l *load) has(column string) bool { return l != nil && (l.columns == nil || l.columns[column]) }

// of is the record that the struct was read from, or written to; nil: neither.
func (l *load) of() *row {
	if l == nil || l.row == nil {
		return nil
	}
	return l.row()
}
