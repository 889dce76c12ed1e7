// SPDX-License-Identifier: Apache-2.0

//go:build unix

package storage_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	glebarez "github.com/glebarez/sqlite"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
)

// nodeBound is the stated bound of the nodes of these tests.
const nodeBound = time.Second

// A node is one process of an app, with a journal of its own.
type node struct {
	folder string
	cmd    *osexec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
}

// The variables by which a test starts itself as a node.
const (
	nodeRole    = "PART164_NODE_ROLE" // "reveal" or "shred"
	nodeDialect = "PART164_NODE_DIALECT"
	nodeDSN     = "PART164_NODE_DSN"
	nodeKEK     = "PART164_NODE_KEK"
	nodeJournal = "PART164_NODE_JOURNAL"
	nodeIDs     = "PART164_NODE_IDS" // of patients, separated by commas
)

func startNode(t *testing.T, d gorm.Dialector, role, kek string, ids ...string) *node {
	t.Helper()
	n := &node{folder: filepath.Join(audittest.Dir(t), "journal")}
	n.start(t, osexec.Command(os.Args[0], "-test.run=^TestNodeProcess$", "-test.count=1"),
		nodeRole+"="+role, nodeDialect+"="+d.Name(), nodeDSN+"="+dsnOf(t, d), nodeKEK+"="+kek, nodeJournal+"="+n.folder, nodeIDs+"="+strings.Join(ids, ","))
	return n
}

func (n *node) start(t *testing.T, cmd *osexec.Cmd, env ...string) {
	t.Helper()
	n.cmd = cmd
	n.cmd.Env = append(os.Environ(), env...)
	n.cmd.Stderr = os.Stderr
	var err error
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	n.out = bufio.NewReader(out)
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
	})
}

// wait reads lines until one is word.
func (n *node) wait(t *testing.T, word string) {
	t.Helper()
	for {
		line, err := n.out.ReadString('\n')
		if strings.TrimSpace(line) == word {
			return
		}
		if err != nil {
			t.Fatalf("a node ended before it said %q: %v: %s", word, err, line)
		}
		if strings.Contains(line, "storage:") {
			t.Log(line)
		}
	}
}

func dsnOf(t *testing.T, d gorm.Dialector) string {
	t.Helper()
	switch d := d.(type) {
	case *postgres.Dialector:
		return d.DSN
	case *mysql.Dialector:
		return d.DSN
	case *glebarez.Dialector:
		return d.DSN
	}
	t.Fatalf("no DSN of %T", d)
	return ""
}

func nodeConfig(kek crypto.KEK, journal *audit.Journal) storage.Config {
	return storage.Config{Development: true, KEK: kek, Audit: journal, Access: accesstest.Allow(), Minimize: minimize.Starter(), KeyBound: nodeBound}
}

// TestNodeProcess is a node. Started by nobody it does nothing.
func TestNodeProcess(t *testing.T) {
	role := os.Getenv(nodeRole)
	if role == "" {
		t.Skip("it is a process of other tests, which start it")
	}
	if err := runNode(role); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// joinAsNode opens what the variables name, changed by with.
func joinAsNode(with func(gorm.Dialector, *storage.Config) gorm.Dialector) (*gorm.DB, *audit.Journal, error) {
	kek, err := crypto.LocalKEK(os.Getenv(nodeKEK))
	if err != nil {
		return nil, nil, err
	}
	journal, err := audit.Open(os.Getenv(nodeJournal), audit.Config{Development: true, Timeout: time.Minute})
	if err != nil {
		return nil, nil, err
	}
	cfg, dsn := nodeConfig(kek, journal), os.Getenv(nodeDSN)
	d := with(map[string]gorm.Dialector{"sqlite": glebarez.Open(dsn), "postgres": postgres.Open(dsn), "mysql": mysql.Open(dsn)}[os.Getenv(nodeDialect)], &cfg)
	db, err := storage.Open(d, cfg)
	if err == nil {
		err = storage.Migrate(context.Background(), db, &Patient{}, &Encounter{})
	}
	return db, journal, err
}

func runNode(role string) error {
	db, journal, err := joinAsNode(func(d gorm.Dialector, _ *storage.Config) gorm.Dialector { return d })
	if err != nil {
		return err
	}
	ids := strings.Split(os.Getenv(nodeIDs), ",")
	var quit atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		quit.Store(true)
	}()
	fmt.Println("ready")
	if role == "shred" {
		ctx := access.With(context.Background(), accesstest.Principal(accesstest.Tenant, "privacy-officer"), access.Operations)
		for _, id := range ids {
			fmt.Println("shred")
			if _, err := storage.Shred(ctx, db, id, order); err != nil {
				return err
			}
		}
	}
	for !quit.Load() && role == "reveal" {
		// The first one is going to be shredded; every other must open.
		for i, id := range ids {
			ctx := access.With(context.Background(), accesstest.Principal(accesstest.Tenant, "physician"), access.Treatment)
			var p Patient
			if err := db.WithContext(ctx).First(&p, "id = ?", id).Error; err != nil {
				return err
			}
			if err := storage.Reveal(ctx, &p); err != nil && (i > 0 || !errors.Is(err, crypto.ErrShredded)) {
				return err
			}
		}
		fmt.Println("round")
	}
	return errors.Join(storage.Close(db), journal.Close())
}

// readJournal returns the reveals of a patient in a journal whose process has
// ended, oldest first: when each began, and whether it opened.
func readJournal(t *testing.T, folder, subject string) (at []time.Time, opened []bool) {
	t.Helper()
	j, err := audit.Open(folder, audit.Config{Development: true, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	ps := j.Pseudonym(accesstest.Tenant, subject)
	failed := false
	for ev, err := range j.Replay(t.Context(), accesstest.Tenant, audit.Revealed, audit.RevealFailed) {
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(ev.Objects, func(o audit.Object) bool { return o.Patient == ps }) {
			continue
		}
		if ev.Type == audit.RevealFailed { // of the reveal before it
			failed = true
			continue
		}
		at, opened = append(at, ev.Time), append(opened, !failed)
		failed = false
	}
	slices.Reverse(at)
	slices.Reverse(opened)
	return at, opened
}

// openNode opens the database in this process, as node A.
func openNode(t *testing.T, d gorm.Dialector, kek string) (*gorm.DB, *audit.Journal) {
	t.Helper()
	k, err := crypto.LocalKEK(kek)
	if err != nil {
		t.Fatal(err)
	}
	journal, err := audit.Open(filepath.Join(audittest.Dir(t), "journal"), audit.Config{Development: true, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = journal.Close() })
	db, err := storage.Open(d, nodeConfig(k, journal))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = storage.Close(db) })
	if err := storage.Migrate(t.Context(), db, &Patient{}, &Encounter{}); err != nil {
		t.Fatal(err)
	}
	return db, journal
}

// nodeDialector is a dialector whose DSN another process can use.
func nodeDialector(t *testing.T, d gorm.Dialector) gorm.Dialector {
	t.Helper()
	if d.Name() != "sqlite" {
		return d
	}
	path := filepath.Join(t.TempDir(), "nodes.db")
	return glebarez.Open("file:" + path + "?_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_txlock=immediate")
}

// TestEveryProcessDropsAShreddedKey has three more processes open a patient's
// cells all the time. One of them is stopped when node A shreds the patient, and
// goes on after the bound. Their journals tell when each has opened them last.
func TestEveryProcessDropsAShreddedKey(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		d = nodeDialector(t, d)
		kek := filepath.Join(t.TempDir(), "kek.json")
		db, journal := openNode(t, d, kek)
		gone, kept := newPatient(t, db, "Roe"), newPatient(t, db, "Doe")
		var nodes []*node
		for range 3 {
			nodes = append(nodes, startNode(t, d, "reveal", kek, gone.ID, kept.ID))
		}
		for _, n := range nodes {
			n.wait(t, "round") // it holds the key
		}
		var drained []chan struct{}
		for _, n := range nodes {
			done := make(chan struct{})
			drained = append(drained, done)
			out := n.out
			n.out = bufio.NewReader(strings.NewReader(""))
			go func() { _, _ = io.Copy(io.Discard, out); close(done) }()
		}
		stopped := nodes[2]
		if err := stopped.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if _, err := storage.Shred(officer(t), db, gone.ID, order); err != nil {
			t.Fatal(err)
		}
		var committed time.Time
		for ev, err := range journal.Replay(t.Context(), accesstest.Tenant, audit.Shredded) {
			if err != nil {
				t.Fatal(err)
			}
			committed = ev.Time // recorded after the commit
		}
		time.Sleep(time.Until(committed.Add(nodeBound + nodeBound/2))) // the bound is a time
		if err := stopped.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		time.Sleep(nodeBound)
		for i, n := range nodes {
			_ = n.in.Close()
			<-drained[i]
			if err := n.cmd.Wait(); err != nil {
				t.Errorf("node %d ended with %v", i, err)
			}
			at, opened := readJournal(t, n.folder, gone.ID)
			last := time.Time{}
			failures := 0
			for k := range at {
				if opened[k] {
					last = at[k]
				} else {
					failures++
				}
			}
			late := last.Sub(committed)
			t.Logf("node %d: %d reveals, the last that opened began %v after the commit; %d did not open", i, len(at), late.Round(time.Millisecond), failures)
			if last.IsZero() || failures == 0 {
				t.Errorf("node %d: %d reveals of which %d failed: it was not there before and after", i, len(at), failures)
			}
			if late > nodeBound {
				t.Errorf("node %d: a reveal that began %v after the commit opened, past the bound of %v", i, late, nodeBound)
			}
			if _, ok := readJournal(t, n.folder, kept.ID); slices.Contains(ok, false) {
				t.Errorf("node %d: the other patient did not open", i)
			}
		}
	})
}

// TestAShredThatIsKilled kills a process that shreds one patient after another,
// at random points: each patient is whole or gone, and no process takes the
// database for an older copy.
func TestAShredThatIsKilled(t *testing.T) {
	t.Parallel()
	kills := 2
	if os.Getenv("PART164_TEST_LONG") != "" {
		kills = 30
	}
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		d = nodeDialector(t, d)
		kek := filepath.Join(t.TempDir(), "kek.json")
		db, _ := openNode(t, d, kek)
		for kill := range kills {
			var patients []*Patient
			var ids []string
			for i := range 12 {
				p := newPatient(t, db, fmt.Sprintf("Roe%d-%d", kill, i))
				patients, ids = append(patients, p), append(ids, p.ID)
			}
			n := startNode(t, d, "shred", kek, ids...)
			for range 1 + rand.IntN(6) {
				n.wait(t, "shred")
			}
			time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond) // where it falls is chance
			if err := n.cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = n.cmd.Wait()
			time.Sleep(nodeBound) // this process held the keys
			theirs, err := audit.Open(n.folder, audit.Config{Development: true, Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			whole, gone := 0, 0
			for _, p := range patients {
				stones := count(t, db, "SELECT count(*) FROM phi_subject_keys WHERE subject_id = ? AND wrapped IS NULL", p.ID)
				keys := count(t, db, "SELECT count(*) FROM phi_subject_keys WHERE subject_id = ? AND wrapped IS NOT NULL", p.ID)
				tokens := count(t, db, "SELECT count(*) FROM phi_index WHERE subject_id = ?", p.ID)
				_, err := open(t, db, p.ID)
				switch {
				case stones == 0 && keys == 1 && tokens > 0 && err == nil:
					whole++
				case stones == 1 && keys == 0 && tokens == 0 && errors.Is(err, crypto.ErrShredded):
					gone++
				default:
					t.Errorf("a patient is in between: %d tombstones, %d keys, %d tokens, %v", stones, keys, tokens, err)
				}
			}
			t.Logf("killed: %d whole, %d gone", whole, gone)
			again, err := storage.Open(d, nodeConfig(mustKEK(t, kek), theirs))
			if err != nil {
				t.Errorf("Open after the kill = %v", err)
			} else {
				if err := storage.Migrate(t.Context(), again, &Patient{}, &Encounter{}); err != nil {
					t.Error(err)
				}
				for _, p := range patients { // to the end, with the killed node's journal
					if _, err := storage.Shred(officer(t), again, p.ID, order); err != nil {
						t.Errorf("Shred after the kill = %v", err)
					}
				}
				if err := storage.Settle(t.Context(), again); err != nil {
					t.Error(err)
				}
				if r, err := storage.Check(maintainer(t), db, nil, theirs); err != nil || len(r.Findings) > 0 {
					t.Errorf("Check = %+v, %v", r.Findings, err)
				}
				_ = storage.Close(again)
			}
			_ = theirs.Close()
		}
	})
}

func mustKEK(t *testing.T, path string) crypto.KEK {
	t.Helper()
	k, err := crypto.LocalKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
