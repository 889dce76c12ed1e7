// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/storage/internal/table"
)

// A Store keeps what access decisions rest on. Make it with [New]; it is safe
// for concurrent use.
type Store struct {
	db   *gorm.DB
	sign *signer
}

// New returns the store in db, whose tables [Migrate] made. It answers once db
// has the plugin of storage, and storage.Migrate has made its tables: before,
// every question and every change is an error.
func New(db *gorm.DB) *Store { return &Store{db, &signer{db: db}} }

// Migrate creates the tables, or adds what a newer version needs. It may be
// called at every start.
func Migrate(ctx context.Context, db *gorm.DB) error {
	if err := table.Quiet(db).WithContext(ctx).AutoMigrate(tables()...); err != nil {
		return fmt.Errorf("accessstore: migrate: %w", err)
	}
	return nil
}

// tables are the rows of all tables, in the order in which they are made.
func tables() []any {
	return []any{
		&relationRow{},
		&directiveRow{}, &termRow{},
		&grantRow{}, &stepRow{}, &lockRow{},
	}
}

// A key is an ID as the tables keep it.
type key = table.ID

// Times of relations and directives are microseconds since 1970, so that every database compares them alike,
// and so that the years 1 to 9999 have room.

// forever stands for the end of what has none.
const forever = int64(1<<63 - 1)

func micros(t time.Time) int64 { return t.UnixMicro() }

func fromMicros(n int64) time.Time { return time.UnixMicro(n).UTC() }

// untilMicros and fromUntil are of an end, where the zero time is none.
func untilMicros(t time.Time) int64 {
	if t.IsZero() {
		return forever
	}
	return micros(t)
}

func fromUntil(n int64) time.Time {
	if n == forever {
		return time.Time{}
	}
	return fromMicros(n)
}
