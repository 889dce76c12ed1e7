// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/storage"
)

// A faraway dialector is called sqlite, and what its driver connects to is out
// of sight, as with drivers of servers that speak SQLite's language.
type faraway struct{ gorm.Dialector }

func (f faraway) Initialize(db *gorm.DB) error {
	if err := f.Dialector.Initialize(db); err != nil {
		return err
	}
	inner, err := db.DB()
	if err != nil {
		return err
	}
	db.ConnPool = sql.OpenDB(farConnector{inner})
	return nil
}

type farConnector struct{ db *sql.DB }

func (c farConnector) Driver() driver.Driver { return c.db.Driver() }
func (c farConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	var dc driver.Conn
	err = conn.Raw(func(v any) error { dc = v.(driver.Conn); return nil })
	return farConn{func() driver.Conn { return dc }, conn}, err
}

type farConn struct {
	far  func() driver.Conn
	conn *sql.Conn
}

func (c farConn) Prepare(q string) (driver.Stmt, error) { return c.far().Prepare(q) }
func (c farConn) Begin() (driver.Tx, error) {
	return c.far().(driver.ConnBeginTx).BeginTx(context.Background(), driver.TxOptions{})
}
func (c farConn) Close() error { return c.conn.Close() }

func TestASQLiteOfElsewhereIsRefused(t *testing.T) {
	t.Parallel()
	_, err := storage.Open(faraway{openSQLite(t)}, config(t))
	if !errors.Is(err, storage.ErrRefused) || !strings.Contains(err.Error(), "SQLite") {
		t.Errorf("Open of a SQLite that nobody sees = %v", err)
	}
	cfg := config(t)
	cfg.Deviations = []access.Deviation{{Citation: "164.312(e)(1)", Reason: "a replica beside the app", Alternative: "WireGuard", Owner: "security", ReviewBy: time.Now().AddDate(1, 0, 0)}}
	db, err := storage.Open(faraway{openSQLite(t)}, cfg)
	if err != nil {
		t.Fatalf("with a deviation: %v", err)
	}
	closed(t, db)
}
