// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// A Date is a calendar date without a time or a zone, such as a date of birth:
//
//	y, m, d := t.Date()
//	p.BirthDate = storage.Seal(storage.Date{Year: y, Month: m, Day: d})
//
// The zero Date is none. Dates compare with ==. Text and JSON are ISO 8601,
// such as "1980-03-04", "" for none; a Sealed[Date] reads what a Sealed[string]
// with such a text has stored, and the other way round. A date that the
// calendar does not have is refused, going in and coming out.
type Date struct {
	Year  int // 1 to 9999
	Month time.Month
	Day   int
}

// IsZero reports whether there is no date.
func (d Date) IsZero() bool { return d == Date{} }

// Valid reports whether the calendar has the date. The zero Date is not valid.
func (d Date) Valid() bool {
	return d.Year >= 1 && d.Year <= 9999 && d.Month >= time.January && d.Month <= time.December &&
		d.Day >= 1 && d.Day <= time.Date(d.Year, d.Month+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// In returns the time at which the date begins in a location.
func (d Date) In(loc *time.Location) time.Time {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, loc)
}

// Compare returns -1 where d is before e, 1 where it is after, else 0.
func (d Date) Compare(e Date) int {
	return cmp.Or(cmp.Compare(d.Year, e.Year), cmp.Compare(d.Month, e.Month), cmp.Compare(d.Day, e.Day))
}

// String returns the date as 2006-01-02, "" for none.
func (d Date) String() string {
	if d.IsZero() {
		return ""
	}
	return fmt.Sprintf("%04d-%02d-%02d", d.Year, int(d.Month), d.Day)
}

var errDate = errors.New("storage: no date of the calendar: write it as 2006-01-02") // never the text: it may be PHI

// MarshalText implements encoding.TextMarshaler.
func (d Date) MarshalText() ([]byte, error) {
	if !d.IsZero() && !d.Valid() {
		return nil, errDate
	}
	return []byte(d.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Date) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Date{}
		return nil
	}
	t, err := time.Parse(time.DateOnly, string(text))
	if err != nil {
		return errDate
	}
	var x Date
	x.Year, x.Month, x.Day = t.Date()
	if !x.Valid() {
		return errDate
	}
	*d = x
	return nil
}

// Value implements [driver.Valuer], for a column in clear. None is NULL.
func (d Date) Value() (driver.Value, error) {
	switch {
	case d.IsZero():
		return nil, nil
	case !d.Valid():
		return nil, errDate
	}
	return d.String(), nil
}

// Scan implements [database/sql.Scanner].
func (d *Date) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*d = Date{}
	case time.Time:
		d.Year, d.Month, d.Day = v.Date()
	case string:
		return d.UnmarshalText([]byte(v[:min(len(v), len(time.DateOnly))]))
	case []byte:
		return d.UnmarshalText(v[:min(len(v), len(time.DateOnly))])
	default:
		return errDate
	}
	return nil
}

// GormDataType implements GORM's schema.GormDataTypeInterface.
func (Date) GormDataType() string { return "date" }
