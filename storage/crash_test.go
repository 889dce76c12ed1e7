// SPDX-License-Identifier: Apache-2.0

//go:build unix

package storage_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage"
)

// A process that writes dies at every step of its writes in turn: before and
// after each call of its trail, each statement and each end of a transaction.

const crashStep = "PART164_CRASH_STEP" // the step at which a writer kills itself; 0: it goes on until it is killed

// steps counts, once it is armed, and kills the process at one of them.
type steps struct {
	armed atomic.Bool
	n     atomic.Int64
	at    int64
}

func (s *steps) step() {
	if s.armed.Load() && s.n.Add(1) == s.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

type stepTrail struct {
	*audit.Journal
	*steps
}

func (s stepTrail) Attempt(ctx context.Context, ev audit.Event) (audit.Ticket, error) {
	s.step()
	defer s.step()
	return s.Journal.Attempt(ctx, ev)
}

func (s stepTrail) Commit(ctx context.Context, tickets []audit.Ticket) ([]audit.Ticket, error) {
	s.step()
	defer s.step()
	return s.Journal.Commit(ctx, tickets)
}

func (s stepTrail) Rollback(ctx context.Context, tickets []audit.Ticket) error {
	s.step()
	defer s.step()
	return s.Journal.Rollback(ctx, tickets)
}

type stepPool struct {
	*sql.DB
	*steps
}

func (p stepPool) GetDBConn() (*sql.DB, error) { return p.DB, nil }

func (p stepPool) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	p.step()
	defer p.step()
	return p.DB.ExecContext(ctx, query, args...)
}

func (p stepPool) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	tx, err := p.DB.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return stepTx{tx, p.steps}, nil
}

type stepTx struct {
	*sql.Tx
	*steps
}

func (t stepTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	defer t.step()
	return t.Tx.ExecContext(ctx, query, args...)
}

func (t stepTx) Commit() error {
	t.step()
	defer t.step()
	return t.Tx.Commit()
}

func (t stepTx) Rollback() error {
	t.step()
	defer t.step()
	return t.Tx.Rollback()
}

// withSteps is a dialector whose connections count.
type withSteps struct {
	gorm.Dialector
	*steps
}

func (w withSteps) Initialize(db *gorm.DB) error {
	if err := w.Dialector.Initialize(db); err != nil {
		return err
	}
	db.ConnPool = stepPool{db.ConnPool.(*sql.DB), w.steps}
	return nil
}

func (w withSteps) SavePoint(tx *gorm.DB, name string) error {
	return w.Dialector.(gorm.SavePointerDialectorInterface).SavePoint(tx, name)
}

func (w withSteps) RollbackTo(tx *gorm.DB, name string) error {
	return w.Dialector.(gorm.SavePointerDialectorInterface).RollbackTo(tx, name)
}

// TestCrashProcess is a writer. Started by nobody it does nothing.
func TestCrashProcess(t *testing.T) {
	if os.Getenv(crashStep) == "" {
		t.Skip("it is a process of other tests, which start it")
	}
	if err := crashingWriter(); err != nil {
		fmt.Fprintln(os.Stderr, "the writer failed:", err)
		os.Exit(1)
	}
}

func crashingWriter() error {
	at, err := strconv.ParseInt(os.Getenv(crashStep), 10, 64)
	if err != nil {
		return err
	}
	s := &steps{at: at}
	db, journal, err := joinAsNode(func(d gorm.Dialector, cfg *storage.Config) gorm.Dialector {
		cfg.Audit = stepTrail{cfg.Audit.(*audit.Journal), s}
		return withSteps{d, s}
	})
	if err != nil {
		return err
	}
	ctx := access.With(context.Background(), accesstest.Principal(accesstest.Tenant, "physician"), access.Treatment)
	fmt.Println("ready")
	s.armed.Store(true)
	for round := 0; ; round++ {
		if err := writeOnce(ctx, db); err != nil {
			return err
		}
		if at > 0 { // once, to its end
			break
		}
		fmt.Println("round")
	}
	if err := storage.Settle(ctx, db); err != nil {
		return err
	}
	fmt.Println("steps", s.n.Load())
	return errors.Join(storage.Close(db), journal.Close())
}

// writeOnce writes in every way: alone, in a transaction, before and after a
// savepoint that is rolled back to, in a transaction that is rolled back.
func writeOnce(ctx context.Context, db *gorm.DB) error {
	no := errors.New("no")
	p := Patient{Name: storage.Seal("Jane Roe"), SSN: storage.Seal("123-45-6789")}
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		return err
	}
	var gone Encounter
	err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		gone = Encounter{PatientID: p.ID, Reason: storage.Seal("a")}
		if err := tx.Create(&gone).Error; err != nil {
			return err
		}
		if err := tx.Transaction(func(tx *gorm.DB) error {
			return errors.Join(tx.Model(&Patient{}).Where("id = ?", p.ID).Update("active", true).Error, no)
		}); !errors.Is(err, no) || err.Error() != "no" {
			return err
		}
		return tx.Create(&[]Encounter{{PatientID: p.ID, Reason: storage.Seal("b")}, {PatientID: p.ID}}).Error
	})
	if err != nil {
		return err
	}
	err = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		return errors.Join(tx.Create(&Encounter{PatientID: p.ID, Reason: storage.Seal("c")}).Error, no)
	})
	if !errors.Is(err, no) || err.Error() != "no" {
		return err
	}
	if err := db.WithContext(ctx).Model(&Patient{}).Where("id = ?", p.ID).Update("name", storage.Seal("Jane Doe")).Error; err != nil {
		return err
	}
	return db.WithContext(ctx).Unscoped().Delete(&Encounter{}, "id = ?", gone.ID).Error
}

// startWriter starts a process that writes, with a journal of its own.
func startWriter(t *testing.T, d gorm.Dialector, kek string, step int64) *node {
	t.Helper()
	n := &node{folder: filepath.Join(audittest.Dir(t), "journal")}
	n.start(t, osexec.Command(os.Args[0], "-test.run=^TestCrashProcess$", "-test.count=1"),
		crashStep+"="+strconv.FormatInt(step, 10), nodeDialect+"="+d.Name(), nodeDSN+"="+dsnOf(t, d), nodeKEK+"="+kek, nodeJournal+"="+n.folder)
	return n
}

// A crash between any two steps of a write: afterwards every committed change
// has its event, by the attempt's ID once, and no other change has one. Every
// second dead writer's rows are settled by another process, the others by the
// writer's next run.
func TestACrashBetweenTheStepsOfAWrite(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		d = nodeDialector(t, d)
		kek := filepath.Join(t.TempDir(), "kek.json")
		db, _ := openNode(t, d, kek)
		histories := []audit.History{}

		whole := startWriter(t, d, kek, 1<<40)
		all := whole.count(t, "steps ")
		if err := whole.cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		theirs := reopenJournal(t, whole.folder)
		fates(t, db, theirs)
		histories = append(histories, theirs)

		var at []int64
		for i := int64(1); i <= all; i++ {
			at = append(at, i)
		}
		if !testingLong() {
			rand.Shuffle(len(at), func(i, k int) { at[i], at[k] = at[k], at[i] })
			at = at[:5]
		}
		open, spared := 0, 0
		for i, step := range at {
			n := startWriter(t, d, kek, step)
			if err := n.cmd.Wait(); err == nil {
				spared++ // the relay took several rows at once: it had fewer steps
			} else if n.cmd.ProcessState.ExitCode() != -1 {
				t.Fatalf("step %d: %v", step, err)
			}
			theirs := reopenJournal(t, n.folder)
			if i%2 == 0 {
				if _, err := storage.Adopt(t.Context(), db, theirs); err != nil {
					t.Errorf("step %d: Adopt = %v", step, err)
				}
			} else {
				again, err := storage.Open(d, nodeConfig(mustKEK(t, kek), theirs))
				if err != nil {
					t.Fatal(err)
				}
				if err := storage.Close(again); err != nil { // settles what an earlier run left
					t.Error(err)
				}
			}
			if left := count(t, db, "SELECT count(*) FROM phi_outbox"); left != 0 {
				t.Errorf("step %d: %d outbox rows are left", step, left)
			}
			open += fates(t, db, theirs)
			histories = append(histories, theirs)
		}
		r, err := storage.Check(maintainer(t), db, nil, histories...)
		if err != nil || len(r.Findings) > 0 || r.Foreign > 0 {
			t.Errorf("Check = %+v, %v", r, err)
		}
		if spared > len(at)/2 {
			t.Errorf("%d of %d writers were not killed", spared, len(at))
		}
		t.Logf("%d of %d steps, %d not reached; %d attempts stayed open", len(at), all, spared, open)
	})
}

// Several processes write at once and are killed when it happens; a process
// that lives takes over what each left.
func TestWritersOfOneDatabaseAreKilled(t *testing.T) {
	t.Parallel()
	rounds := 1
	if testingLong() {
		rounds = 8
	}
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		d = nodeDialector(t, d)
		kek := filepath.Join(t.TempDir(), "kek.json")
		db, _ := openNode(t, d, kek)
		var histories []audit.History
		for range rounds {
			writers := make([]*node, 3)
			for i := range writers {
				writers[i] = startWriter(t, d, kek, 0)
			}
			for _, n := range writers {
				n.wait(t, "round")
			}
			for _, n := range writers {
				time.Sleep(time.Duration(rand.IntN(50_000)) * time.Microsecond) // where it falls is chance
				_ = n.cmd.Process.Signal(syscall.SIGKILL)
				_ = n.cmd.Wait()
			}
			for _, n := range writers {
				theirs := reopenJournal(t, n.folder)
				if _, err := storage.Adopt(t.Context(), db, theirs); err != nil {
					t.Errorf("Adopt = %v", err)
				}
				fates(t, db, theirs)
				histories = append(histories, theirs)
			}
		}
		if left := count(t, db, "SELECT count(*) FROM phi_outbox"); left != 0 {
			t.Errorf("%d outbox rows are left", left)
		}
		r, err := storage.Check(maintainer(t), db, nil, histories...)
		if err != nil || len(r.Findings) > 0 || r.Foreign > 0 {
			t.Errorf("Check = %+v, %v", r, err)
		}
	})
}

// fates holds every attempt of a journal against the database: what was
// committed is there and has its event, what was not has none. It returns how
// many attempts have no outcome in the journal.
func fates(t *testing.T, db *gorm.DB, j *audit.Journal) (open int) {
	t.Helper()
	versions := map[string]int64{} // by pseudonym
	for _, table := range []string{"patients", "encounters"} {
		rows, err := db.WithContext(storage.Outside(maintainer(t), audit.ReasonIncident)).Raw("SELECT id, version FROM " + table).Rows()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id string
			var version int64
			if err := rows.Scan(&id, &version); err != nil {
				t.Fatal(err)
			}
			versions[j.Pseudonym(accesstest.Tenant, id)] = version
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
	committed, rolledBack, deleted := map[string]int{}, map[string]int{}, map[string]bool{}
	for s, err := range j.Replay(t.Context(), "", audit.WriteAttempt, audit.Committed, audit.RolledBack, audit.OutboxRefused) {
		if err != nil {
			t.Fatal(err)
		}
		switch s.Type {
		case audit.Committed:
			committed[s.Attempt]++
		case audit.RolledBack:
			rolledBack[s.Attempt]++
		case audit.OutboxRefused:
			t.Error("a row of the writer's own was refused")
		case audit.WriteAttempt: // newest first: its outcome is known by now
			there := true
			for _, o := range s.Objects {
				v, ok := versions[o.Record]
				if s.Action == access.Delete {
					there = there && !ok
					if committed[s.ID] > 0 {
						deleted[o.Record] = true
					}
				} else {
					there = there && (ok && v >= o.Version || deleted[o.Record])
				}
			}
			switch c, r := committed[s.ID], rolledBack[s.ID]; {
			case c > 0 && r > 0:
				t.Errorf("attempt %s committed and rolled back", s.ID)
			case c > 0 && !there:
				t.Errorf("attempt %s has a committed, and its change is not there", s.ID)
			case c == 0 && there && s.Action != access.Update: // a later update has its version too
				t.Errorf("attempt %s (%s) is there, and has no committed", s.ID, s.Action)
			case c == 0 && r == 0:
				open++
			}
		}
	}
	return open
}

func reopenJournal(t *testing.T, folder string) *audit.Journal {
	t.Helper()
	j, err := audit.Open(folder, audit.Config{Development: true, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// A live writer's journal cannot be opened, so that nobody adopts its rows;
// and what somebody put among them is refused in the dead writer's trail.
func TestAdoptRefuses(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		d = nodeDialector(t, d)
		kek := filepath.Join(t.TempDir(), "kek.json")
		db, own := openNode(t, d, kek)
		if _, err := storage.Adopt(t.Context(), db, own); err == nil {
			t.Error("Adopt(the database's own trail) succeeds")
		}
		if _, err := storage.Adopt(t.Context(), db, nil); err == nil {
			t.Error("Adopt(nil) succeeds")
		}
		n := startWriter(t, d, kek, 0)
		n.wait(t, "round")
		if _, err := audit.Open(n.folder, audit.Config{Development: true}); !errors.Is(err, audit.ErrLocked) {
			t.Errorf("Open(a live writer's journal) = %v, want ErrLocked", err)
		}
		_ = n.cmd.Process.Signal(syscall.SIGKILL)
		_ = n.cmd.Wait()
		theirs := reopenJournal(t, n.folder)
		if _, err := storage.Adopt(t.Context(), db, theirs); err != nil {
			t.Fatal(err)
		}
		committed := countOf(t, theirs, audit.Committed)
		// A real attempt that never committed; somebody puts its row in, as far
		// as it can be made without the key, and edits a good one.
		ctx := access.With(t.Context(), accesstest.Principal(accesstest.Tenant, "physician"), access.Treatment)
		attempt := audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success, Action: access.Create,
			Objects: []audit.Object{{Type: "patient", Record: "r-1", Patient: "r-1", Version: 1}}}
		good, err := theirs.Attempt(ctx, attempt)
		if err != nil {
			t.Fatal(err)
		}
		other, err := theirs.Attempt(ctx, attempt)
		if err != nil {
			t.Fatal(err)
		}
		insert := func(k audit.Ticket) {
			t.Helper()
			if err := db.WithContext(storage.Outside(maintainer(t), audit.ReasonIncident)).Exec("INSERT INTO phi_outbox (attempt, writer, digest, mac) VALUES (?, ?, ?, ?)", k.Attempt, k.Writer, k.Digest, k.MAC).Error; err != nil {
				t.Fatal(err)
			}
		}
		edited := good
		edited.Attempt = other.Attempt
		insert(edited)
		forged := good
		forged.MAC = make([]byte, 32)
		insert(forged)
		if n, err := storage.Adopt(t.Context(), db, theirs); n != 0 || err != nil {
			t.Errorf("Adopt(forged rows) = %d, %v, want 0", n, err)
		}
		if got := countOf(t, theirs, audit.OutboxRefused); got != 1 {
			t.Errorf("%d events of refused rows, want 1", got)
		}
		if got := countOf(t, theirs, audit.Committed); got != committed {
			t.Errorf("a forged row was committed: %d events, %d before", got, committed)
		}
	})
}

// An outbox row that somebody deletes leaves its write OPEN in Verify, and
// Check finds the data and names the row.
func TestADeletedOutboxRow(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		folder := filepath.Join(audittest.Dir(t), "journal")
		journal := reopenJournal(t, folder)
		j := &lossyTrail{follower: journal}
		cfg := nodeConfig(mustKEK(t, filepath.Join(t.TempDir(), "kek.json")), journal)
		cfg.Audit = j
		db, err := storage.Open(d, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = storage.Close(db) })
		if err := storage.Migrate(t.Context(), db, &Patient{}, &Encounter{}); err != nil {
			t.Fatal(err)
		}
		ctx := access.With(t.Context(), accesstest.Principal(accesstest.Tenant, "physician"), access.Treatment)
		kept := Patient{Name: storage.Seal("Jane Roe")}
		if err := errors.Join(db.WithContext(ctx).Create(&kept).Error, storage.Settle(ctx, db)); err != nil {
			t.Fatal(err)
		}
		j.lossy.Store(true)
		robbed := Patient{Name: storage.Seal("John Doe")}
		if err := db.WithContext(ctx).Create(&robbed).Error; err != nil {
			t.Fatal(err)
		}
		if err := db.WithContext(storage.Outside(maintainer(t), audit.ReasonIncident)).Exec("DELETE FROM phi_outbox").Error; err != nil {
			t.Fatal(err)
		}
		j.lossy.Store(false)
		if err := storage.Settle(ctx, db); err != nil {
			t.Fatal(err)
		}
		v, err := audit.Verify(t.Context(), folder, audit.VerifyConfig{})
		if err != nil || v.OpenAttempts != 1 || len(v.Defects) != 0 {
			t.Errorf("Verify: %d open, %v, %v; want 1 open", v.OpenAttempts, v.Defects, err)
		}
		r, err := storage.Check(maintainer(t), db, nil)
		if err != nil || len(r.Findings) != 1 || r.Findings[0].Kind != storage.OutboxRemoved || r.Findings[0].Record != robbed.ID {
			t.Errorf("Check = %+v, %v; want %s of the second patient", r.Findings, err, storage.OutboxRemoved)
		}
	})
}

func countOf(t *testing.T, j *audit.Journal, typ audit.Type) (n int) {
	t.Helper()
	for _, err := range j.Replay(t.Context(), "", typ) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func testingLong() bool { return os.Getenv("PART164_TEST_LONG") != "" }

// count reads the number behind a word that a node says.
func (n *node) count(t *testing.T, word string) int64 {
	t.Helper()
	for {
		line, err := n.out.ReadString('\n')
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), word); ok {
			v, err := strconv.ParseInt(rest, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		if err != nil {
			t.Fatalf("a node ended before it said %q: %v: %s", word, err, line)
		}
	}
}
