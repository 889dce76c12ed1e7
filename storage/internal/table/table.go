// SPDX-License-Identifier: Apache-2.0

// Package table has what the tables of the stores share.
package table

import (
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"
)

// Quiet returns db without its logger, since arguments may be IDs of patients,
// and without a transaction around each single statement.
func Quiet(db *gorm.DB) *gorm.DB {
	return db.Session(&gorm.Session{NewDB: true, Logger: logger.Discard, SkipDefaultTransaction: true})
}

// An ID is an identifier of up to 64 ASCII bytes that is compared byte by byte
// on every database: MariaDB's collations would take "u-1", "U-1" and "u-1 " for
// one.
type ID string

// GormDataType implements schema.GormDataTypeInterface.
func (ID) GormDataType() string { return "part164_id" }

// GormDBDataType implements gorm's migrator interface.
func (ID) GormDBDataType(db *gorm.DB, _ *schema.Field) string {
	if db.Name() == "mysql" {
		return "varbinary(64)"
	}
	return "varchar(64)"
}

// Nanos is a time as nanoseconds since 1970, which every database compares and
// adds alike; 0 stands for the zero time.
func Nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// Time is the time, in UTC, that [Nanos] wrote.
func Time(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}
