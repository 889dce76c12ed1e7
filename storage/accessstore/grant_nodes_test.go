// SPDX-License-Identifier: Apache-2.0

//go:build unix

package accessstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/storagetest"
)

// The variables by which a test starts itself as a process of an app.
const (
	grantNodeDSN     = "PART164_TEST_GRANTNODE_DSN"
	grantNodeJournal = "PART164_TEST_GRANTNODE_JOURNAL"
	grantNodeKEK     = "PART164_TEST_GRANTNODE_KEK"
	grantNodeDies    = "PART164_TEST_GRANTNODE_DIES" // after so many calls of its store and its trail
)

// grantTenant is the tenant of these tests.
const grantTenant = "t-nodes"

func grantPerson(id string, at time.Time, roles ...string) access.Principal {
	return access.Principal{ID: id, Tenant: grantTenant, Kind: access.Human, Roles: roles, Session: "s-" + id, Assurance: 2, AuthTime: at}
}

// grantDesk is the desk of each process.
func grantDesk(store grant.Store, trail audit.Recorder, now func() time.Time) (*grant.Desk, error) {
	return grant.New(grant.Config{
		Store: store, Audit: trail, Now: now,
		Roles:      func(_ context.Context, p access.Principal) ([]string, error) { return p.Roles, nil },
		Elevations: []grant.Elevation{{Role: "records-clerk", Requesters: []string{"front-desk"}, Approvers: []string{"officer"}, MaxTTL: time.Hour, Purposes: []access.Purpose{access.Operations}}},
		Emergency:  &grant.Emergency{Roles: []string{"nurse"}, Reviewers: []string{"officer"}},
		Confirm:    func(context.Context, access.Principal, string) error { return nil },
		Alert:      func(context.Context, grant.Alert) error { return nil },
	})
}

// TestGrantNodeProcess is a process of an app, which does what it reads. Started
// by nobody it does nothing.
func TestGrantNodeProcess(t *testing.T) {
	dsn := os.Getenv(grantNodeDSN)
	if dsn == "" {
		t.Skip("it is a process of other tests, which start it")
	}
	if err := runGrantNode(dsn); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

func runGrantNode(dsn string) error {
	journal, err := audit.Open(os.Getenv(grantNodeJournal), audit.Config{Development: true, Timeout: time.Minute})
	if err != nil {
		return err
	}
	kek, err := crypto.LocalKEK(os.Getenv(grantNodeKEK))
	if err != nil {
		return err
	}
	db, err := storage.Open(postgres.Open(dsn), storage.Config{Development: true, KEK: kek, Audit: journal, Access: accesstest.Deny(), Minimize: minimize.Starter()})
	if err != nil {
		return err
	}
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	store, trail := accessstore.New(db).Grants(), audit.Recorder(journal)
	if n, err := strconv.Atoi(os.Getenv(grantNodeDies)); err == nil {
		k := &killed{Store: store, Recorder: journal}
		k.left.Store(int64(n))
		store, trail = k, k
	}
	desk, err := grantDesk(store, trail, now)
	if err != nil {
		return err
	}
	as := func(id string, roles ...string) context.Context {
		return access.With(context.Background(), grantPerson(id, now(), roles...), access.Operations)
	}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var g grant.Grant
		var err error
		switch w := strings.Fields(in.Text()); w[0] {
		case "break":
			g, err = desk.BreakGlass(as(w[1], "nurse"), grant.Glass{Patient: w[2], Reason: audit.ReasonEmergency}, "")
		case "approve":
			g, err = desk.Approve(as("u-officer", "officer"), w[1])
		case "revoke":
			g, err = desk.Revoke(as("u-officer", "officer"), w[1])
		case "sweep":
			_, err = desk.Sweep(context.Background())
		case "clock":
			d, perr := time.ParseDuration(w[1])
			ahead.Store(int64(d))
			err = perr
		case "live":
			live, lerr := desk.Live(context.Background(), grantPerson(w[1], now()), now())
			err = lerr
			for _, l := range live {
				g.ID += l.ID + ","
			}
		}
		if err != nil {
			fmt.Println("error", err)
		} else {
			fmt.Println("done", g.ID)
		}
	}
	return errors.Join(storage.Close(db), journal.Close())
}

// killed ends its process by SIGKILL before the call after left more.
type killed struct {
	grant.Store
	audit.Recorder
	left atomic.Int64
}

func (k *killed) step() {
	if k.left.Add(-1) < 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (k *killed) Create(ctx context.Context, g grant.Grant, keep func(grant.Grant) bool) (grant.Grant, bool, error) {
	k.step()
	defer k.step()
	return k.Store.Create(ctx, g, keep)
}

func (k *killed) Change(ctx context.Context, g grant.Grant, s *grant.Step, check func(context.Context) error) (bool, error) {
	k.step()
	defer k.step()
	return k.Store.Change(ctx, g, s, check)
}

func (k *killed) Settle(ctx context.Context, tenant, id string, n int) error {
	k.step()
	defer k.step()
	return k.Store.Settle(ctx, tenant, id, n)
}

func (k *killed) Record(ctx context.Context, ev audit.Event) (audit.Receipt, error) {
	k.step()
	defer k.step()
	return k.Recorder.Record(ctx, ev)
}

// A grantNode is a process that does what it is told.
type grantNode struct {
	cmd     *osexec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
	journal string
}

func startGrantNode(t *testing.T, dsn string, env ...string) *grantNode {
	t.Helper()
	n := &grantNode{journal: filepath.Join(audittest.Dir(t), "journal")}
	n.cmd = osexec.Command(os.Args[0], "-test.run=^TestGrantNodeProcess$", "-test.count=1")
	n.cmd.Env = append(append(os.Environ(), grantNodeDSN+"="+dsn, grantNodeJournal+"="+n.journal), env...)
	n.cmd.Stderr = os.Stderr
	var err error
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	n.out = bufio.NewScanner(out)
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
	})
	if line, ok := n.line(); !ok || line != "ready" {
		t.Fatalf("a process says %q", line)
	}
	return n
}

func (n *grantNode) line() (string, bool) {
	for n.out.Scan() {
		if line := n.out.Text(); line == "ready" || strings.HasPrefix(line, "done") || strings.HasPrefix(line, "error") {
			return strings.TrimSpace(line), true
		}
	}
	return "", false
}

// try has the process do something; alive is false where it died of it.
func (n *grantNode) try(t *testing.T, format string, args ...any) (answer string, alive bool) {
	t.Helper()
	if _, err := fmt.Fprintf(n.in, format+"\n", args...); err != nil {
		return "", false
	}
	return n.line()
}

func (n *grantNode) do(t *testing.T, format string, args ...any) string {
	t.Helper()
	line, ok := n.try(t, format, args...)
	if !ok || !strings.HasPrefix(line, "done") {
		t.Fatalf("%s: %q, %v", fmt.Sprintf(format, args...), line, ok)
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "done"))
}

func (n *grantNode) isLive(t *testing.T, user, id string, want bool) {
	t.Helper()
	if got := strings.Contains(n.do(t, "live %s", user), id); got != want {
		t.Errorf("in force: %v, want %v", got, want)
	}
}

// onPostgres returns a database of its own, for processes, with the tables, and
// where the key of its keys is.
func onPostgres(t *testing.T) (dsn, kek string, store grant.Store) {
	t.Helper()
	d := openPostgres(t)
	file := filepath.Join(t.TempDir(), "kek.json")
	key, err := crypto.LocalKEK(file)
	if err != nil {
		t.Fatal(err)
	}
	db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Development, cfg.KEK = true, key })
	return d.(*postgres.Dialector).DSN, grantNodeKEK + "=" + file, migrated(t, db.DB).Grants()
}

// TestThreeProcesses: what one gives, each has at once; what one takes back,
// nobody has any more, also who was stopped meanwhile; and no wrong clock gives
// anything.
func TestThreeProcesses(t *testing.T) {
	t.Parallel()
	dsn, kek, store := onPostgres(t)
	var nodes []*grantNode
	for range 3 {
		nodes = append(nodes, startGrantNode(t, dsn, kek))
	}
	a, b, c := nodes[0], nodes[1], nodes[2]
	id := a.do(t, "break u-nurse p-1")
	for _, n := range nodes {
		n.isLive(t, "u-nurse", id, true)
	}
	if again := c.do(t, "break u-nurse p-1"); again != id {
		t.Error("a second grant, of another process")
	}
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.do(t, "revoke %s", id)
	for _, n := range []*grantNode{a, b} {
		n.isLive(t, "u-nurse", id, false)
	}
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.isLive(t, "u-nurse", id, false)

	id = a.do(t, "break u-nurse p-2")
	for clock, want := range map[string]bool{"5h": false, "-2h": false, "-20s": true, "0s": true} {
		b.do(t, "clock %s", clock)
		b.isLive(t, "u-nurse", id, want)
		a.isLive(t, "u-nurse", id, true)
	}
	// A process whose clock is ahead ends it for all: nobody's clock brings it back.
	b.do(t, "clock 5h")
	b.do(t, "sweep")
	b.do(t, "clock 0s")
	for _, n := range nodes {
		n.isLive(t, "u-nurse", id, false)
	}
	if g, err := store.Grant(t.Context(), grantTenant, id); err != nil || g.State != grant.Expired {
		t.Errorf("it is %s, %v", g.State, err)
	}
	if again := a.do(t, "break u-nurse p-2"); again == id { // and nobody is locked out
		t.Error("it is in force again")
	}
}

// TestAProcessThatIsKilled kills a process before and after each step of breaking
// the glass, and of an approval: another brings it to its end, and what is in
// force is on record.
func TestAProcessThatIsKilled(t *testing.T) {
	t.Parallel()
	dsn, kek, store := onPostgres(t)
	other := startGrantNode(t, dsn, kek)
	other.do(t, "clock 2m")
	desk, err := grantDesk(store, audittest.New(t), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var journals []string
	var want []string
	// Each calls the store, the trail and the store: before and after each.
	steps := []int{0, 1, 2, 3, 4, 5, 6}
	for _, what := range []string{"break", "approve"} {
		for i, n := range steps {
			dying := startGrantNode(t, dsn, kek, grantNodeDies+"="+strconv.Itoa(n))
			journals = append(journals, dying.journal)
			user := fmt.Sprint("u-", what, i)
			var alive bool
			if what == "break" {
				_, alive = dying.try(t, "break %s p-1", user)
			} else {
				p := grantPerson(user, time.Now(), "front-desk")
				g, err := desk.Request(access.With(t.Context(), p, access.Operations), grant.Request{Role: "records-clerk", Reason: audit.ReasonIndividual})
				if err != nil {
					t.Fatal(err)
				}
				_, alive = dying.try(t, "approve %s", g.ID)
			}
			_ = dying.in.Close()
			_ = dying.cmd.Wait() // its journal is free
			all, err := store.List(t.Context(), grant.Query{Tenant: grantTenant, Holder: user})
			if err != nil || len(all) > 1 || what == "approve" && len(all) != 1 || alive && len(all) != 1 {
				t.Fatalf("%s, killed after %d: %d grants, %v", what, n, len(all), err)
			}
			other.do(t, "sweep")
			if len(all) == 0 || all[0].State == grant.Requested {
				if n > 0 {
					t.Errorf("%s, killed after %d calls: nothing was stored", what, n)
				}
				continue // it died before the step was stored
			}
			want = append(want, all[0].ID)
			if g, err := store.Grant(t.Context(), grantTenant, all[0].ID); err != nil || g.State != grant.Active || slices.ContainsFunc(g.Steps, func(s grant.Step) bool { return !s.Owed.IsZero() }) {
				t.Errorf("%s, killed after %d: %s, %v", what, n, g.State, err)
			}
			if alive {
				break
			}
		}
	}
	_ = other.in.Close()
	_ = other.cmd.Wait()
	recorded := map[string]int{}
	for _, folder := range append(journals, other.journal) {
		j, err := audit.Open(folder, audit.Config{Development: true, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		for ev, err := range j.Replay(t.Context(), grantTenant, audit.GlassBroken, audit.GrantApproved) {
			if err != nil {
				t.Fatal(err)
			}
			recorded[ev.Grant]++
		}
		_ = j.Close()
	}
	for _, id := range want {
		if n := recorded[id]; n < 1 || n > 2 {
			t.Errorf("%s is in force, and on record %d times", id, n)
		}
	}
	if len(want) < 6 {
		t.Errorf("%d were brought to their end", len(want))
	}
}

// TestTerminateEndsGrants: all of a user, in the caller's transaction.
func TestTerminateEndsGrants(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(t *testing.T) gorm.Dialector) {
		guard := guarded(t, open(t))
		db, trail := guard.DB, guard.Trail
		s := migrated(t, db)
		at := time.Now()
		desk, err := grantDesk(s.Grants(), trail, func() time.Time { return at })
		if err != nil {
			t.Fatal(err)
		}
		glass := func(user, patient string) grant.Grant {
			g, err := desk.BreakGlass(access.With(t.Context(), grantPerson(user, at, "nurse"), access.Operations), grant.Glass{Patient: patient, Reason: audit.ReasonEmergency}, "")
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		one, two, other := glass("u-1", "p-1"), glass("u-1", "p-2"), glass("u-2", "p-1")
		officer := access.With(t.Context(), grantPerson("u-officer", at, "officer"), access.Operations)
		undo := errors.New("undo")
		for _, fail := range []error{undo, nil} {
			err := db.Transaction(func(tx *gorm.DB) error {
				if n, err := s.Terminate(officer, tx, grantTenant, "u-1", at); n != 2 || err != nil {
					t.Errorf("Terminate = %d, %v", n, err)
				}
				return fail
			})
			if !errors.Is(err, fail) {
				t.Fatal(err)
			}
			live, err := desk.Live(t.Context(), grantPerson("u-1", at), at)
			if want := 0; err != nil || fail != nil && len(live) != 2 || fail == nil && len(live) != want {
				t.Errorf("in force after it (%v): %d, %v", fail, len(live), err)
			}
		}
		if n, err := s.Terminate(officer, db, grantTenant, "u-1", at); n != 0 || err != nil {
			t.Errorf("again: %d, %v", n, err)
		}
		if live, err := desk.Live(t.Context(), grantPerson("u-2", at), at); err != nil || len(live) != 1 || live[0].ID != other.ID {
			t.Errorf("of somebody else: %v, %v", live, err)
		}
		at = at.Add(2 * time.Minute)
		if _, err := desk.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		for _, g := range []grant.Grant{one, two} {
			n := 0
			for _, ev := range trail.Events() {
				if ev.Type == audit.GrantEnded && ev.Grant == g.ID && ev.Reason == audit.ReasonRevoked && ev.Actor.ID == "u-officer" {
					n++
				}
			}
			if n != 1 {
				t.Errorf("its end is on record %d times", n)
			}
		}
	})
}
