// SPDX-License-Identifier: Apache-2.0

package auditstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/sink"
)

// TestGuideComparesATable runs the commands of docs/guide-audit.md that hold
// the table against the journal, from the database's own client: all is there,
// and then one row is not.
func TestGuideComparesATable(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile(filepath.FromSlash("../../docs/guide-audit.md"))
	if err != nil {
		t.Fatal(err)
	}
	for engine, client := range map[string]string{"SQLite": "sqlite3", "PostgreSQL": "psql", "MariaDB": "mariadb"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			if _, err := osexec.LookPath(client); err != nil {
				t.Skip("needs the program " + client)
			}
			command := ""
			for l := range strings.Lines(string(guide)) {
				if strings.HasPrefix(l, client+" ") {
					command = l
				}
			}
			command, rest, _ := strings.Cut(command, " | ")
			if rest != "auditctl compare audit - --sink database\n" {
				t.Fatalf("the guide's command with %s ends with %q", client, rest)
			}
			d := databases[engine](t)
			dir, j, p := filled(t, d)
			if err := errors.Join(p.Close(), j.Close()); err != nil {
				t.Fatal(err)
			}
			database := d.dsn
			env := os.Environ()
			switch engine {
			case "PostgreSQL": // libpq takes no search_path
				at := strings.LastIndex(d.dsn, "search_path=")
				env = append(env, "PGOPTIONS=-c "+d.dsn[at:])
				database = strings.TrimRight(d.dsn[:at], " ?&")
			case "MariaDB":
				cfg, err := mysql.ParseDSN(d.dsn)
				if err != nil {
					t.Fatal(err)
				}
				host, port, err := net.SplitHostPort(cfg.Addr)
				if err != nil {
					t.Skip("PART164_TEST_MARIADB is no TCP address")
				}
				home := t.TempDir()
				text := fmt.Sprintf("[client]\nhost=%s\nport=%s\nuser=%s\npassword=%s\nprotocol=tcp\n", host, port, cfg.User, cfg.Passwd)
				if err := os.WriteFile(filepath.Join(home, ".my.cnf"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				env, database = append(env, "HOME="+home), cfg.DBName
			}
			compare := func() sink.Comparison { // as auditctl does
				t.Helper()
				cmd := osexec.Command("sh", "-c", command)
				cmd.Env = append(env, "DATABASE="+database)
				out, err := cmd.Output()
				if err != nil {
					t.Fatal(err)
				}
				cursors, err := audit.Cursors(dir)
				if err != nil {
					t.Fatal(err)
				}
				cmp, err := sink.Compare(t.Context(), dir, cursors["database"], func(yield func(sink.Copy, error) bool) {
					for doc := range bytes.Lines(out) {
						if c, err := sink.ReadCopy(doc); !yield(c, err) || err != nil {
							return
						}
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				return cmp
			}
			if cmp := compare(); !cmp.OK() || cmp.Copies < 20 || len(cmp.Differences) > 0 {
				t.Fatalf("Compare = %+v", cmp)
			}
			dropTriggers(t, d.raw)
			exec(t, d.raw, "DELETE FROM audit_events WHERE seq = 8")
			if cmp := compare(); fmt.Sprint(cmp.Differences) != fmt.Sprint([]sink.Difference{{Finding: sink.Missing, Event: j.Writer() + ".8"}}) {
				t.Errorf("one row less: Compare = %+v", cmp)
			}
		})
	}
}
