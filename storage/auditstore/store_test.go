// SPDX-License-Identifier: Apache-2.0

package auditstore_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/audit/sinktest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/auditstore"
	"github.com/part164/part164/storage/sqlite"
)

// A database is one that a test has to itself.
type database struct {
	db   *gorm.DB // as the app opens it
	raw  *gorm.DB // as its owner does
	dsn  string
	open func(dsn string) gorm.Dialector
}

// databases opens an empty database on each engine that is there.
var databases = map[string]func(testing.TB) database{
	"SQLite": func(t testing.TB) database {
		return openDatabase(t, sqlite.Open, filepath.Join(t.TempDir(), "app.db"))
	},
	"PostgreSQL": func(t testing.TB) database {
		dsn := service(t, "PART164_TEST_POSTGRES", "PostgreSQL")
		name := randomName()
		admin := connect(t, postgres.Open(dsn))
		exec(t, admin, "CREATE SCHEMA "+name)
		t.Cleanup(func() { exec(t, admin, "DROP SCHEMA "+name+" CASCADE") })
		if strings.Contains(dsn, "://") {
			sep := "?"
			if strings.Contains(dsn, "?") {
				sep = "&"
			}
			dsn += sep + "search_path=" + name
		} else {
			dsn += " search_path=" + name
		}
		return openDatabase(t, postgres.Open, dsn)
	},
	"MariaDB": func(t testing.TB) database {
		dsn := service(t, "PART164_TEST_MARIADB", "MariaDB")
		name := randomName()
		admin := connect(t, mysql.Open(dsn))
		exec(t, admin, "CREATE DATABASE "+name)
		t.Cleanup(func() { exec(t, admin, "DROP DATABASE "+name) })
		return openDatabase(t, mysql.Open, databaseName.ReplaceAllString(dsn, "/"+name+"$1"))
	},
}

var databaseName = regexp.MustCompile(`/[^/?]*(\?|$)`)

func service(t testing.TB, env, name string) string {
	t.Helper()
	dsn := os.Getenv(env)
	if dsn == "" {
		t.Skipf("needs %s: set %s", name, env)
	}
	return dsn
}

func randomName() string {
	b := make([]byte, 6)
	rand.Read(b)
	return "auditstore_" + hex.EncodeToString(b)
}

func connect(t testing.TB, d gorm.Dialector) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(d, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return db
}

func exec(t testing.TB, db *gorm.DB, sql string, args ...any) {
	t.Helper()
	if err := db.Exec(sql, args...).Error; err != nil {
		t.Fatal(fmt.Errorf("%s: %w", sql, err))
	}
}

// guarded opens the database as the app does, with storage's plugin.
func guarded(t testing.TB, d gorm.Dialector) *gorm.DB {
	t.Helper()
	db, err := storage.Open(d, storage.Config{
		KEK: cryptotest.NewKEK(), Audit: audittest.New(t), Access: rbac.Starter(), Minimize: minimize.Starter(), Development: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = storage.Close(db) })
	return db
}

func openDatabase(t testing.TB, open func(string) gorm.Dialector, dsn string) database {
	t.Helper()
	out := database{db: guarded(t, open(dsn)), raw: connect(t, open(dsn)), dsn: dsn, open: open}
	for range 2 { // the second time changes nothing
		if err := auditstore.Migrate(t.Context(), out.db); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func open(t testing.TB, db *gorm.DB) *auditstore.Store {
	t.Helper()
	s, err := auditstore.New(db, auditstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// onEach runs a test on every engine.
func onEach(t *testing.T, test func(t *testing.T, open func(testing.TB) database)) {
	for name, open := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open)
		})
	}
}

func copies(t testing.TB, s *auditstore.Store) []sink.Copy {
	t.Helper()
	var out []sink.Copy
	for c, err := range s.Copies(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func TestConformance(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, openOne func(testing.TB) database) {
		sinktest.TestSink(t, audittest.Dir, func(t testing.TB) *sinktest.Target {
			d := openOne(t)
			s := open(t, d.db)
			return &sinktest.Target{
				Once:     true,
				Open:     func(t testing.TB) sink.Sink { return open(t, d.db) },
				Received: func(t testing.TB) []sink.Copy { return copies(t, s) },
				Down: func(t testing.TB, down bool) {
					if down {
						exec(t, d.raw, "ALTER TABLE audit_event_patients RENAME TO gone")
					} else {
						exec(t, d.raw, "ALTER TABLE gone RENAME TO audit_event_patients")
					}
				},
				Tamper: func(t testing.TB, writer string, seq uint64) {
					dropTriggers(t, d.raw)
					exec(t, d.raw, "UPDATE audit_events SET actor = ? WHERE writer = ? AND seq = ?", "u-999", writer, seq)
				},
			}
		})
	})
}

// dropTriggers is what the owner of the database can do, and nobody else.
func dropTriggers(t testing.TB, db *gorm.DB) {
	t.Helper()
	switch db.Name() {
	case "postgres":
		exec(t, db, "DROP TRIGGER audit_events_change ON audit_events")
	default:
		exec(t, db, "DROP TRIGGER audit_events_update")
		exec(t, db, "DROP TRIGGER audit_events_delete")
	}
}

// filled returns a database with the events of a small journal.
func filled(t *testing.T, d database) (dir string, j *audit.Journal, p *sink.Pipe) {
	t.Helper()
	dir = filepath.Join(audittest.Dir(t), "audit")
	j, err := audit.Open(dir, audit.Config{Development: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	if p, err = sink.Open(j, open(t, d.db), sink.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	record(t, j, 20)
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dir, j, p
}

func record(t testing.TB, j *audit.Journal, n int) (ids []string) {
	t.Helper()
	ctx, end := access.Job(context.Background(), access.Principal{ID: "s-test", Tenant: "t-1", Kind: access.Service}, access.Operations)
	defer end()
	for i := range n {
		ev := audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: []audit.Object{
			{Type: "patient", Record: fmt.Sprint("p-", i), Patient: fmt.Sprint("p-", i), Fields: []string{"name"}},
			{Type: "patient", Record: "p-all", Patient: "p-all", Fields: []string{"name"}},
		}}
		r, err := j.Record(ctx, ev)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

// TestRowsCanOnlyBeAdded: whoever can write to the tables cannot change or
// remove what is there, nor put another row in its place.
func TestRowsCanOnlyBeAdded(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, openOne func(testing.TB) database) {
		d := openOne(t)
		_, j, _ := filled(t, d)
		before := copies(t, open(t, d.db))
		attacks := []string{
			"UPDATE audit_events SET actor = 'u-2'",
			"UPDATE audit_events SET line = ''",
			"UPDATE audit_events SET seq = seq + 1000",
			"DELETE FROM audit_events",
			"DELETE FROM audit_events WHERE seq = 8",
			"UPDATE audit_event_patients SET patient = 'p'",
			"DELETE FROM audit_event_patients",
			"INSERT INTO audit_events SELECT * FROM audit_events",
		}
		switch d.raw.Name() {
		case "sqlite":
			attacks = append(attacks, "INSERT OR REPLACE INTO audit_events SELECT writer, seq, leaf, 0, type, outcome, reason, purpose, tenant, 'u-2', line FROM audit_events",
				"PRAGMA recursive_triggers = 0; REPLACE INTO audit_events SELECT writer, seq, leaf, 0, type, outcome, reason, purpose, tenant, 'u-2', line FROM audit_events",
				"UPDATE OR REPLACE audit_events SET actor = 'u-2'")
		case "postgres":
			attacks = append(attacks, "TRUNCATE audit_events", "TRUNCATE audit_event_patients CASCADE",
				"INSERT INTO audit_events SELECT * FROM audit_events ON CONFLICT (writer, seq) DO UPDATE SET actor = 'u-2'",
				"SET session_replication_role = replica; DELETE FROM audit_events")
		case "mysql":
			attacks = append(attacks, "REPLACE INTO audit_events SELECT writer, seq, leaf, 0, type, outcome, reason, purpose, tenant, 'u-2', line FROM audit_events",
				"INSERT INTO audit_events SELECT * FROM audit_events ON DUPLICATE KEY UPDATE actor = 'u-2'")
		}
		for _, sql := range attacks {
			if err := d.raw.Exec(sql).Error; err == nil {
				t.Errorf("%s: nothing refuses it", sql)
			}
		}
		after := copies(t, open(t, d.db))
		if fmt.Sprint(before) != fmt.Sprint(after) || len(after) < 20 {
			t.Errorf("%d events before, %d after", len(before), len(after))
		}
		var n int64
		if err := d.raw.Table("audit_event_patients").Where("patient = ?", j.Pseudonym("t-1", "p-all")).Count(&n).Error; err != nil || n != 20 {
			t.Errorf("a patient of 20 events is found in %d, %v", n, err)
		}
	})
}

// asUser returns PostgreSQL's dsn, of keywords or a URL, for another user.
func asUser(t testing.TB, dsn, user, secret string) string {
	t.Helper()
	if !strings.Contains(dsn, "://") {
		return dsn + " user=" + user + " password=" + secret
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, secret)
	return u.String()
}

// TestGrants: a user with these rights delivers, and can do nothing else even
// where the triggers are gone.
func TestGrants(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"PostgreSQL", "MariaDB"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			d := databases[engine](t)
			_, j, p := filled(t, d)
			user, secret := "app_"+randomName()[len("auditstore_"):], randomName()
			host, dsn := "", ""
			if engine == "MariaDB" {
				host = "127.0.0.1"
				exec(t, d.raw, "CREATE USER '"+user+"'@'"+host+"' IDENTIFIED BY '"+secret+"'")
				t.Cleanup(func() { exec(t, d.raw, "DROP USER '"+user+"'@'"+host+"'") })
				dsn = user + ":" + secret + d.dsn[strings.LastIndexByte(d.dsn, '@'):]
			} else {
				exec(t, d.raw, "CREATE ROLE "+user+" LOGIN PASSWORD '"+secret+"'")
				t.Cleanup(func() { exec(t, d.raw, "DROP OWNED BY "+user); exec(t, d.raw, "DROP ROLE "+user) })
				schema := d.dsn[strings.LastIndexByte(d.dsn, '=')+1:]
				exec(t, d.raw, "GRANT USAGE ON SCHEMA "+schema+" TO "+user)
				dsn = asUser(t, d.dsn, user, secret)
			}
			statements, err := auditstore.Grants(d.db, user, host)
			if err != nil {
				t.Fatal(err)
			}
			for _, sql := range statements {
				exec(t, d.raw, sql)
			}
			dropTriggers(t, d.raw)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			app := guarded(t, d.open(dsn))
			p, err = sink.Open(j, open(t, app), sink.Config{})
			if err != nil {
				t.Fatal(err)
			}
			record(t, j, 5)
			if err := p.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			asApp := connect(t, d.open(dsn))
			for _, sql := range []string{"UPDATE audit_events SET actor = 'u-2'", "DELETE FROM audit_events", "TRUNCATE TABLE audit_events", "DROP TABLE audit_events"} {
				if err := asApp.Exec(sql).Error; err == nil {
					t.Errorf("%s: the app's user may", sql)
				}
			}
			if _, err := auditstore.Grants(d.db, "u'; DROP TABLE x; --", host); err == nil {
				t.Error("a user's name with a quote passes")
			}
		})
	}
	d := databases["SQLite"](t)
	if _, err := auditstore.Grants(d.db, "app", ""); err == nil {
		t.Error("SQLite has users")
	}
}

// TestAJournalThatWasSetBack: the same sequences with other events are not
// taken for repetitions.
func TestAJournalThatWasSetBack(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, openOne func(testing.TB) database) {
		d := openOne(t)
		s := open(t, d.db)
		dir, j, p := filled(t, d)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		var lines []audit.Line
		for l, err := range j.Read(t.Context(), audit.Position{}) {
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l)
		}
		before := len(copies(t, s))
		lines[7].Leaf[0] ^= 1
		if n, err := s.Deliver(t.Context(), lines[5:9]); n != 0 || err == nil || !strings.Contains(err.Error(), lines[7].ID) {
			t.Errorf("%d accepted, %v", n, err)
		}
		if got := len(copies(t, s)); got != before {
			t.Errorf("%d rows, were %d", got, before)
		}
		cmp, err := sink.Compare(t.Context(), dir, audit.Position{}, s.Copies(t.Context(), j.Writer()))
		if err != nil || !cmp.OK() {
			t.Errorf("Compare = %+v, %v", cmp, err)
		}
	})
}

// TestCompareNamesEach: missing, extra and different rows, each by its name.
func TestCompareNamesEach(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, openOne func(testing.TB) database) {
		d := openOne(t)
		dir, j, _ := filled(t, d)
		dropTriggers(t, d.raw)
		w := j.Writer()
		exec(t, d.raw, "DELETE FROM audit_events WHERE writer = ? AND seq = 8", w)
		exec(t, d.raw, "UPDATE audit_events SET tenant = 't-2' WHERE writer = ? AND seq = 9", w)
		exec(t, d.raw, "UPDATE audit_events SET seq = 1 WHERE writer = ? AND seq = 10", w) // 1 is a checkpoint
		var line []byte
		if err := d.raw.Raw("SELECT line FROM audit_events WHERE writer = ? AND seq = 11", w).Row().Scan(&line); err != nil {
			t.Fatal(err)
		}
		exec(t, d.raw, "UPDATE audit_events SET line = ? WHERE writer = ? AND seq = 11", []byte(strings.Replace(string(line), "success", "failure", 1)), w)
		cmp, err := sink.Compare(t.Context(), dir, audit.Position{}, open(t, d.db).Copies(t.Context(), ""))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprint([]sink.Difference{
			{Finding: sink.Missing, Event: w + ".8"}, {Finding: sink.Different, Event: w + ".9"}, {Finding: sink.Missing, Event: w + ".10"},
			{Finding: sink.Different, Event: w + ".11"}, {Finding: sink.Extra, Event: w + ".1"},
		})
		if got := fmt.Sprint(cmp.Differences); got != want || cmp.OK() {
			t.Errorf("Compare names %s, want %s", got, want)
		}
	})
}

func TestNew(t *testing.T) {
	t.Parallel()
	if _, err := auditstore.New(nil, auditstore.Config{}); err == nil {
		t.Error("no database passes")
	}
	if err := auditstore.Migrate(t.Context(), nil); err == nil {
		t.Error("no database is migrated")
	}
	d := databases["SQLite"](t)
	if _, err := auditstore.New(d.db, auditstore.Config{Recipient: "Acme Inc."}); err == nil {
		t.Error("a recipient with a name passes")
	}
	t.Run("unchecked way", func(t *testing.T) {
		d := databases["PostgreSQL"](t)
		if _, err := auditstore.New(d.raw, auditstore.Config{}); err == nil || !strings.Contains(err.Error(), "storage.Open") {
			t.Errorf("a database whose way was not checked: %v", err)
		}
	})
}
