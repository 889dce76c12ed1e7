// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

type farAway struct{ net.Conn }

func (farAway) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 5432} }

// GORM lets a statement run on one connection of the pool, and plugins put
// pools of their own under it.
func TestOtherConnectionsAreMeasuredToo(t *testing.T) {
	t.Parallel()
	if os.Getenv("PART164_TEST_POSTGRES") == "" {
		t.Skip("no PostgreSQL: PART164_TEST_POSTGRES is empty")
	}
	cfg, err := pgx.ParseConfig(openPostgres(t).(*postgres.Dialector).Config.DSN)
	if err != nil {
		t.Fatal(err)
	}
	var moved atomic.Bool
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err == nil && moved.Load() {
			c = farAway{c}
		}
		return c, err
	}
	pool := stdlib.OpenDB(*cfg)
	db := storagetest.Open(t, postgres.New(postgres.Config{Conn: pool}), func(*storage.Config) {}, &Patient{})
	ctx := physician(t)
	p := jane()
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		t.Fatal(err)
	}
	find := func(tx *gorm.DB) error { return tx.Find(&[]Patient{}).Error }
	if err := db.WithContext(ctx).Connection(find); err != nil {
		t.Errorf("on a connection to this machine: %v", err)
	}
	moved.Store(true)
	pool.SetMaxIdleConns(-1) // the next one is new
	wantRefused(t, "Find", find(db.WithContext(ctx)))
	wantRefused(t, "Connection", db.WithContext(ctx).Connection(find))
	moved.Store(false)
	if err := db.Callback().Query().Before("gorm:query").Register("app:replica", func(tx *gorm.DB) { tx.Statement.ConnPool = pool }); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "another plugin's pool", find(db.WithContext(ctx)))
	if err := db.Callback().Query().Remove("app:replica"); err != nil {
		t.Fatal(err)
	}
}
