// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage/sqlite"
)

// keyDB is the key tables of a database of Open, as cryptotest sees them.
type keyDB struct{ p *plugin }

func (d keyDB) Rows() crypto.KeyRows { return &keyRows{plugin: d.p, conn: inner(d.p.pool)} }

func (d keyDB) Begin(ctx context.Context) (cryptotest.Tx, error) {
	tx, err := d.p.pool.begin(context.WithoutCancel(ctx), nil)
	if err != nil {
		return nil, err
	}
	return &keyTx{&keyRows{plugin: d.p, conn: tx.Tx}, tx}, nil
}

// Shred is what storage.Shred does to the key tables.
func (d keyDB) Shred(ctx context.Context, tenant, subject string) error {
	tx, err := d.begin(ctx)
	if err != nil {
		return err
	}
	mac, err := d.p.metaMAC(ctx)
	if err == nil {
		_, err = d.p.erase(ctx, tx.Tx, mac, nil, tenant, subject, true)
	}
	if err != nil {
		return errors.Join(err, tx.Tx.Rollback())
	}
	return tx.Tx.Commit()
}

// begin gives up when ctx is done, for which SQLite's busy timeout does not
// look.
func (d keyDB) begin(ctx context.Context) (*txConn, error) {
	type begun struct {
		tx  *txConn
		err error
	}
	ch := make(chan begun, 1)
	go func() {
		tx, err := d.p.pool.begin(context.WithoutCancel(ctx), nil)
		ch <- begun{tx, err}
	}()
	select {
	case b := <-ch:
		return b.tx, b.err
	case <-ctx.Done():
		go func() {
			if b := <-ch; b.err == nil {
				_ = b.tx.Tx.Rollback()
			}
		}()
		return nil, ctx.Err()
	}
}

type keyTx struct {
	*keyRows
	tx *txConn
}

func (t *keyTx) Savepoint(name string) error {
	_, err := t.tx.Tx.ExecContext(context.Background(), "SAVEPOINT "+name)
	return err
}

func (t *keyTx) RollbackTo(name string) error {
	_, err := t.tx.Tx.ExecContext(context.Background(), "ROLLBACK TO SAVEPOINT "+name)
	return err
}

func (t *keyTx) Commit() error   { return t.tx.Tx.Commit() }
func (t *keyTx) Rollback() error { return t.tx.Tx.Rollback() }

func TestKeyRowsKeepTheContract(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) gorm.Dialector{
		"SQLite":     func(t *testing.T) gorm.Dialector { return sqlite.Open(filepath.Join(t.TempDir(), "keys.db")) },
		"PostgreSQL": openPostgresSchema,
		"MariaDB":    openMariaDatabase,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cryptotest.TestKeyRows(t, func(t *testing.T) cryptotest.DB {
				db, err := Open(open(t), Config{
					KEK: cryptotest.NewKEK(), Audit: audittest.New(t), Access: accesstest.Allow(), Minimize: minimize.Starter(),
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := Close(db); err != nil {
						t.Error(err)
					}
				})
				if err := Migrate(t.Context(), db); err != nil {
					t.Fatal(err)
				}
				p, err := pluginOf(db)
				if err != nil {
					t.Fatal(err)
				}
				return keyDB{p}
			})
		})
	}
}

func openPostgresSchema(t *testing.T) gorm.Dialector {
	t.Helper()
	dsn := os.Getenv("PART164_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("no PostgreSQL: PART164_TEST_POSTGRES is empty")
	}
	schema := "k_" + strings.ToLower(rand.Text())
	temporary(t, postgres.Open(dsn), "CREATE SCHEMA "+schema, "DROP SCHEMA "+schema+" CASCADE")
	return postgres.Open(dsn + " search_path=" + schema)
}

func openMariaDatabase(t *testing.T) gorm.Dialector {
	t.Helper()
	dsn := os.Getenv("PART164_TEST_MARIADB")
	if dsn == "" {
		t.Skip("no MariaDB: PART164_TEST_MARIADB is empty")
	}
	name := "k_" + strings.ToLower(rand.Text())
	temporary(t, mysql.Open(dsn), "CREATE DATABASE "+name, "DROP DATABASE "+name)
	head, tail, _ := strings.Cut(dsn, "/")
	_, params, _ := strings.Cut(tail, "?")
	return mysql.Open(head + "/" + name + "?" + params)
}

// temporary runs one statement now and one at the end of the test.
func temporary(t *testing.T, d gorm.Dialector, create, drop string) {
	t.Helper()
	db, err := gorm.Open(d, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Exec(create).Error; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Exec(drop).Error; err != nil {
			t.Error(err)
		}
		if c, err := db.DB(); err == nil {
			_ = c.Close()
		}
	})
}

func TestSavepointSeesWhatSteersATransaction(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"SAVEPOINT sp1":                         "savepoint sp1",
		`savepoint "sp1";`:                      "savepoint sp1",
		"RELEASE SAVEPOINT sp1":                 "release sp1",
		"release sp1":                           "release sp1",
		"ROLLBACK TO SAVEPOINT sp1":             "rollback sp1",
		"ROLLBACK TO sp1":                       "rollback sp1",
		"ROLLBACK TRANSACTION TO SAVEPOINT sp1": "rollback sp1",
		"COMMIT":                                "end ",
		" commit ; ":                            "end ",
		"COMMIT AND CHAIN":                      "end ",
		"ROLLBACK":                              "end ",
		"END":                                   "end ",
		"BEGIN":                                 "end ",
		"START TRANSACTION":                     "end ",
		"/* x */ COMMIT":                        "end ",
		"-- x\nROLLBACK":                        "end ",
		"ROLLBACK; BEGIN":                       "end ",
		"SELECT 1; COMMIT":                      "end ",
		"SAVEPOINT a; ROLLBACK TO a":            "end ",
		"RELEASE a, b, c":                       "end ",
		"SELECT 1":                              " ",
		"UPDATE t SET commit_id = 1":            " ",
		"SELECT CASE WHEN a THEN b END FROM t":  " ",
		"":                                      " ",
		";":                                     " ",
		"SELECT 'commit' -- it":                 " ",
	} {
		verb, name := savepoint(text)
		if got := verb + " " + name; got != want {
			t.Errorf("savepoint(%q) = %q, want %q", text, got, want)
		}
	}
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{"a = 'b'", "(a OR b)", `"x" = $1`, "a) OR (b", "E'\\' OR 1=1 --'", "$$ ' $$ ) (", "`a` /* b */", "U&\"\\0061\"", "'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		at := 0
		plain := scan(sql, func(w string, depth, end int) {
			if end < at || end > len(sql) {
				t.Errorf("a word ends at %d of %d, after %d", end, len(sql), at)
			}
			at = end
			if depth < 0 && w == "" {
				t.Error("no word")
			}
		})
		if plain && strings.ContainsAny(sql, ";\\") && !strings.ContainsAny(sql, "'\"`") {
			t.Errorf("%q is plain", sql)
		}
		// What is plain stays so in brackets, and what is in brackets cannot
		// close them.
		if plain && !words("("+sql+")", func(string, int) {}) {
			t.Errorf("%q is plain, and not in brackets", sql)
		}
	})
}
