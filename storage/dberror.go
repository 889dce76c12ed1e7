// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"

	"github.com/part164/part164/storage/internal/again"
)

// A databaseError stands for the answer of a database server, whose own text
// may quote values: MariaDB names the duplicate entry, PostgreSQL the input
// that it cannot parse.
type databaseError struct {
	op, table string
	text      string // says nothing of values
	state     string // SQLSTATE; empty where the database has none
	kind      error  // one of GORM's; nil for most
}

func (e *databaseError) Error() string {
	return fmt.Sprintf("storage: %s %s: the database refused it: %s", e.op, e.table, e.text)
}

// SQLState is for apps that retry, after a deadlock for instance.
func (e *databaseError) SQLState() string { return e.state }

func (e *databaseError) Unwrap() error { return e.kind }

// clean replaces a server's error by one that quotes no value. Others pass:
// those of contexts, of the network, of GORM and of storage itself.
func (p *plugin) clean(op, table string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, gorm.ErrDuplicatedKey) || p.db.Name() == "sqlite" && strings.Contains(err.Error(), "UNIQUE constraint failed") {
		return ErrDuplicate // translated already, or by a driver of other types
	}
	state, number, cause := answer(err)
	if cause == nil {
		return err
	}
	if t, ok := p.db.Dialector.(gorm.ErrorTranslator); ok {
		kind := t.Translate(cause) // which may hold the driver's own still
		if errors.Is(kind, gorm.ErrDuplicatedKey) {
			return ErrDuplicate
		}
		for _, k := range []error{gorm.ErrForeignKeyViolated, gorm.ErrCheckConstraintViolated} {
			if errors.Is(kind, k) {
				return &databaseError{op: op, table: table, text: k.Error(), state: state, kind: k}
			}
		}
	}
	out := &databaseError{op: op, table: table, state: state}
	switch {
	case number == "":
		out.text = "SQLSTATE " + state
	case state == "":
		out.text = "error " + number
	default:
		out.text = "error " + number + ", SQLSTATE " + state
	}
	switch {
	case state == stalePlan:
		out.text += ": if the table's columns have just changed, do the transaction again"
	case again.InTheWay(out):
		out.text += ": another transaction was in its way: do the transaction again"
	case state == "42703", state == "42P01", state == "42883", state == "42S22", state == "42S02": // names of columns, tables and functions only
		out.text = cause.Error()
	case p.db.Name() == "sqlite": // its texts hold names
		out.text = cause.Error()
		if strings.Contains(out.text, "CHECK constraint") || strings.Contains(out.text, "part164: ") {
			out.kind = gorm.ErrCheckConstraintViolated
		}
	}
	return out
}

// stalePlan is feature_not_supported, with which PostgreSQL refuses a kept plan
// whose result would have other columns than before.
const stalePlan = "0A000"

// answer finds a server's answer in err: by the methods and fields that the
// drivers' errors have, since storage imports no driver.
func answer(err error) (state, number string, cause error) {
	for err != nil {
		if _, ours := err.(*databaseError); ours {
			return "", "", nil
		}
		if s, ok := err.(interface{ SQLState() string }); ok {
			return s.SQLState(), "", err
		}
		if s, ok := err.(interface{ Code() int }); ok {
			return "", fmt.Sprint(s.Code()), err
		}
		if v := reflect.Indirect(reflect.ValueOf(err)); v.Kind() == reflect.Struct && v.Type().Name() == "MySQLError" {
			if n := v.FieldByName("Number"); n.IsValid() && n.CanUint() {
				if s, ok := v.FieldByName("SQLState").Interface().([5]byte); ok && s != [5]byte{} {
					state = string(s[:])
				}
				return state, fmt.Sprint(n.Uint()), err
			}
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				if state, number, cause = answer(inner); cause != nil {
					return state, number, cause
				}
			}
			return "", "", nil
		default:
			return "", "", nil
		}
	}
	return "", "", nil
}
