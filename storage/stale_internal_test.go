// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"gorm.io/gorm"
)

type stateError string

func (e stateError) Error() string    { return "refused" }
func (e stateError) SQLState() string { return string(e) }

// A stalePool refuses the first queries with a state.
type stalePool struct {
	gorm.ConnPool
	state stateError
	left  int
	asked int
}

func (s *stalePool) QueryContext(context.Context, string, ...any) (*sql.Rows, error) {
	s.asked++
	if s.left--; s.left >= 0 {
		return nil, s.state
	}
	return nil, nil
}

type staleTx struct {
	stalePool
	gorm.TxCommitter
}

func (*staleTx) StmtContext(context.Context, *sql.Stmt) *sql.Stmt { return nil }

func TestAStalePlanIsAskedAgain(t *testing.T) {
	t.Parallel()
	query := func(c gorm.ConnPool) error {
		_, err := (&built{ConnPool: c, check: func(string) error { return nil }}).QueryContext(t.Context(), "SELECT 1")
		return err
	}
	var state stateError
	if p := (&stalePool{state: "0A000", left: 3}); query(p) != nil || p.asked != 4 {
		t.Errorf("three stale connections: asked %d times", p.asked)
	}
	if p := (&stalePool{state: "0A000", left: 1000}); !errors.As(query(p), &state) || p.asked > 11 {
		t.Errorf("asked without end: %d times", p.asked)
	}
	if p := (&stalePool{state: "57014", left: 1}); !errors.As(query(p), &state) || p.asked != 1 {
		t.Errorf("another error: asked %d times", p.asked)
	}
	if p := (&staleTx{stalePool: stalePool{state: "0A000", left: 1}}); !errors.As(query(p), &state) || p.asked != 1 {
		t.Errorf("in a transaction: asked %d times", p.asked)
	}
}
