// SPDX-License-Identifier: Apache-2.0

//go:build unix

package policystore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	glebarez "github.com/glebarez/sqlite"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/policystore"
)

// The variables by which a test starts itself as a process of an app.
const (
	nodeRole    = "PART164_TEST_POLICYSTORE_ROLE" // "decide", or at which step to die
	nodeDialect = "PART164_TEST_POLICYSTORE_DIALECT"
	nodeDSN     = "PART164_TEST_POLICYSTORE_DSN"
	nodeDir     = "PART164_TEST_POLICYSTORE_DIR" // of kek.json and journals
	nodeName    = "PART164_TEST_POLICYSTORE_NAME"
)

const (
	nodePoll  = 300 * time.Millisecond
	nodeStale = 5 * time.Second
)

func TestMain(m *testing.M) {
	if role := os.Getenv(nodeRole); role != "" {
		if err := runNode(role); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A member is an opened app: in this process, or in one of its own.
type member struct {
	*policystore.Store
	db      *gorm.DB
	journal *audit.Journal
	polls   atomic.Pointer[polls]
}

// polls are when the last two reads of the revision began that succeeded. What
// the one before the last found is in force, since polls follow each other.
type polls struct{ last, before time.Time }

// watch keeps m.polls.
func (m *member) watch() error {
	m.polls.Store(&polls{})
	var began time.Time // polls follow each other
	read := func(tx *gorm.DB) bool {
		_, ok := tx.Statement.Dest.(*[]uint64)
		return ok && tx.Statement.Table == "policy_revision"
	}
	query := m.db.Callback().Query()
	return errors.Join(query.Before("gorm:query").Register("began", func(tx *gorm.DB) {
		if read(tx) {
			began = time.Now()
		}
	}), query.After("gorm:query").Register("ended", func(tx *gorm.DB) {
		if read(tx) && tx.Error == nil {
			m.polls.Store(&polls{began, m.polls.Load().last})
		}
	}))
}

func openMember(dialect, dsn, dir, name string) (*member, error) {
	kek, err := crypto.LocalKEK(filepath.Join(dir, "kek.json"))
	if err != nil {
		return nil, err
	}
	m := &member{}
	if m.journal, err = audit.Open(filepath.Join(dir, name), audit.Config{Development: true, Timeout: time.Minute}); err != nil {
		return nil, err
	}
	if m.Store, err = policystore.New(policystore.Config{Audit: m.journal, Operator: tenant, Poll: nodePoll, MaxStale: nodeStale, Wait: time.Minute}); err != nil {
		return nil, err
	}
	d := map[string]gorm.Dialector{"sqlite": glebarez.Open(dsn), "postgres": postgres.Open(dsn), "mysql": mysql.Open(dsn)}[dialect]
	if m.db, err = storage.Open(d, storage.Config{Development: true, KEK: kek, Audit: m.journal, Access: m.Store, Minimize: minimize.Starter()}); err != nil {
		return nil, err
	}
	ctx := context.Background()
	err = errors.Join(storage.Migrate(ctx, m.db), policystore.Migrate(ctx, m.db), m.watch())
	if err == nil {
		err = m.Open(ctx, m.db)
	}
	return m, err
}

func (m *member) close() error {
	return errors.Join(m.Store.Close(), storage.Close(m.db), m.journal.Close())
}

func principal(user string) access.Principal {
	return access.Principal{ID: user, Tenant: tenant, Kind: access.Human}
}

// ask is what the store answers nora.
func ask(s pdp.Policy, ctx context.Context, p access.Purpose) string {
	nora := principal("u-nora")
	v, err := s.Rule(access.With(ctx, nora, p), nora, access.Read, "patient", p)
	if err != nil {
		return err.Error()
	}
	return string(v.Code)
}

// runNode asks all the time and says when an answer changes: "TREAT code time
// before poll", where the time is when the question was put, before when the last
// one was that had the other answer, and poll when the newest poll had begun whose
// outcome was in force by then. A line "require N" is answered by
// "required code", of a context that requires revision N.
func runNode(role string) error {
	m, err := openMember(os.Getenv(nodeDialect), os.Getenv(nodeDSN), os.Getenv(nodeDir), os.Getenv(nodeName))
	if err != nil {
		return err
	}
	if step, ok := strings.CutPrefix(role, "die "); ok {
		return dieAt(m, step)
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	quit := make(chan struct{})
	go func() {
		defer close(quit)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			n, err := strconv.ParseUint(strings.TrimPrefix(in.Text(), "require "), 10, 64)
			if err != nil {
				return
			}
			say("required %s", ask(m, policystore.RequireRevision(context.Background(), n), access.Treatment))
		}
	}()
	type question struct{ at, poll time.Time }
	last, asked := map[access.Purpose]string{}, map[access.Purpose]question{}
	for {
		select {
		case <-quit:
			return m.close()
		case <-time.After(2 * time.Millisecond):
		}
		for _, p := range []access.Purpose{access.Treatment, access.BreakGlass} {
			now := question{time.Now(), m.polls.Load().before}
			if got := ask(m, context.Background(), p); got != last[p] {
				last[p] = got
				say("%s %s %d %d %d", p, got, now.at.UnixNano(), asked[p].at.UnixNano(), asked[p].poll.UnixNano())
			}
			asked[p] = now
		}
	}
}

// A node is a process that runs runNode.
type node struct {
	cmd *osexec.Cmd
	in  io.WriteCloser

	mu    sync.Mutex
	lines []string
	ended chan error
}

func startNode(t *testing.T, role, dialect, dsn, dir, name string) *node {
	t.Helper()
	n := &node{cmd: osexec.Command(os.Args[0], "-test.run=^$"), ended: make(chan error, 1)}
	n.cmd.Env = append(os.Environ(), nodeRole+"="+role, nodeDialect+"="+dialect, nodeDSN+"="+dsn, nodeDir+"="+dir, nodeName+"="+name)
	n.cmd.Stderr = os.Stderr
	var err error
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.cmd.Process.Kill() })
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n.mu.Lock()
			n.lines = append(n.lines, lines.Text())
			n.mu.Unlock()
		}
		n.ended <- n.cmd.Wait()
	}()
	return n
}

// last returns the newest line that begins with word: its second word, and the
// time in its third.
func (n *node) last(word string) (string, time.Time) { return n.word(word, 2) }

// before is last with the time in its fourth word.
func (n *node) before(word string) (string, time.Time) { return n.word(word, 3) }

// poll is last with the time in its fifth word.
func (n *node) poll(word string) (string, time.Time) { return n.word(word, 4) }

func (n *node) word(word string, i int) (string, time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, line := range slices.Backward(n.lines) {
		if f := strings.Fields(line); f[0] == word {
			var at int64
			if i < len(f) {
				at, _ = strconv.ParseInt(f[i], 10, 64)
			}
			return f[1], time.Unix(0, at)
		}
	}
	return "", time.Time{}
}

// forget drops the lines so far.
func (n *node) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = nil
}

func (n *node) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// A wire is the way to a database, which can be cut.
type wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: to, conns: make(map[net.Conn]bool)}
	t.Cleanup(func() { l.Close(); w.set(true) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.carry(c)
		}
	}()
	return w
}

func (w *wire) carry(a net.Conn) {
	b, err := net.Dial("tcp", w.to)
	w.mu.Lock()
	if err != nil || w.cut {
		w.mu.Unlock()
		a.Close()
		if b != nil {
			b.Close()
		}
		return
	}
	w.conns[a], w.conns[b] = true, true
	w.mu.Unlock()
	go func() { _, _ = io.Copy(a, b); a.Close() }()
	_, _ = io.Copy(b, a)
	b.Close()
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	for c := range w.conns {
		c.Close()
	}
	clear(w.conns)
}

var (
	hostPart = regexp.MustCompile(`host=\S+`)
	portPart = regexp.MustCompile(`port=(\d+)`)
)

// TestThreeProcesses on one PostgreSQL see a revocation by one poll, also
// after one of them was stopped; honour a revision that is asked for; deny once
// the database has been away for MaxStale, emergency access excepted; and come
// back.
func TestThreeProcesses(t *testing.T) {
	t.Parallel()
	dsn := postgresSchema(t).(*postgres.Dialector).DSN
	port := portPart.FindStringSubmatch(dsn)
	host := strings.TrimPrefix(hostPart.FindString(dsn), "host=")
	if port == nil || host == "" {
		t.Skip("needs PART164_TEST_POSTGRES as host= and port=, to put a wire between")
	}
	w := newWire(t, net.JoinHostPort(host, port[1]))
	_, wirePort, err := net.SplitHostPort(w.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	byWire := hostPart.ReplaceAllString(portPart.ReplaceAllString(dsn, "port="+wirePort), "host=127.0.0.1")

	dir := audittest.Dir(t)
	m, err := openMember("postgres", dsn, dir, "writer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := m.Init(job(t), first(), "deploy-1"); err != nil {
		t.Fatal(err)
	}
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, startNode(t, "decide", "postgres", byWire, dir, fmt.Sprintf("node-%d", i)))
	}
	all := func(what string, purpose access.Purpose, code access.Code) {
		t.Helper()
		for i, n := range nodes {
			eventually(t, fmt.Sprintf("%s: %s in process %d", what, code, i), func() bool { got, _ := n.last(string(purpose)); return got == string(code) })
		}
	}
	all("at first", access.Treatment, access.AllowRule)

	revoke := func() (uint64, time.Time) {
		t.Helper()
		n, err := m.Apply(as(t, "u-alice", access.SystemAdmin), take("u-nora", "nurse"))
		if err != nil {
			t.Fatal(err)
		}
		return n, time.Now()
	}
	restore := func() {
		t.Helper()
		for _, n := range nodes {
			n.forget()
		}
		id := propose(t, m.Store, "u-alice", give("u-nora", "nurse"))
		if _, err := m.Approve(as(t, "u-bob", access.SystemAdmin), id); err != nil {
			t.Fatal(err)
		}
		all("given again", access.Treatment, access.AllowRule)
	}
	report := func(what string, at time.Time) {
		t.Helper()
		for i, n := range nodes {
			_, seen := n.last(string(access.Treatment))
			t.Logf("%s: process %d denies %v after it (poll: %v)", what, i, seen.Sub(at).Round(time.Millisecond), nodePoll)
		}
	}
	// One poll is enough, however long that takes on this machine: nothing is
	// allowed once a poll is over that began after the revocation. How soon polls
	// follow each other is what TestSeenWithinAPoll says.
	oneIsEnough := func(what string, at time.Time) {
		t.Helper()
		report(what, at)
		for i, n := range nodes {
			if _, poll := n.poll(string(access.Treatment)); poll.After(at) {
				t.Errorf("%s: process %d allowed after a poll that began %v after it", what, i, poll.Sub(at))
			}
		}
	}
	_, at := revoke()
	all("revoked", access.Treatment, access.DenyNoRule)
	oneIsEnough("revocation", at)

	// One is stopped, for longer than polls take that fail.
	restore()
	stopped := nodes[2]
	stopped.signal(t, syscall.SIGSTOP)
	_, at = revoke()
	time.Sleep(3 * (nodePoll + time.Second)) // for longer than polls take that fail
	resumed := time.Now()
	stopped.signal(t, syscall.SIGCONT)
	all("revoked while one was stopped", access.Treatment, access.DenyNoRule)
	oneIsEnough("revocation while process 2 was stopped", at)
	if _, seen := stopped.before(string(access.Treatment)); seen.After(resumed) {
		t.Errorf("process 2 allowed what was asked %v after it went on", seen.Sub(resumed))
	}

	// A revision that is asked for.
	restore()
	revision, _ := revoke()
	for _, n := range nodes {
		if _, err := fmt.Fprintf(n.in, "require %d\n", revision); err != nil {
			t.Fatal(err)
		}
	}
	all("a revision that is required", "required", access.DenyNoRule)

	// The database is gone, and comes back.
	restore()
	w.set(true)
	gone := time.Now()
	all("without a database", access.Treatment, access.DenyStale)
	report(fmt.Sprintf("no database (stale after %v)", nodeStale), gone)
	for i, n := range nodes {
		if got, _ := n.last(string(access.BreakGlass)); got != "" && got != string(access.AllowRule) {
			t.Errorf("process %d: emergency access: %s", i, got)
		}
		if _, seen := n.last(string(access.Treatment)); seen.Sub(gone) < nodeStale-2*nodePoll-time.Second {
			t.Errorf("process %d: denied after %v already", i, seen.Sub(gone))
		}
	}
	w.set(false)
	all("with a database again", access.Treatment, access.AllowRule)
	_, at = revoke()
	all("revoked at the end", access.Treatment, access.DenyNoRule)
	oneIsEnough("revocation after an outage", at)
	for i, n := range nodes {
		_ = n.in.Close()
		if err := <-n.ended; err != nil {
			t.Errorf("process %d ended with %v: %q", i, err, n.lines)
		}
	}
	if err := storage.Settle(t.Context(), m.db); err != nil {
		t.Fatal(err)
	}
	if v, err := m.Verify(as(t, "u-alice", access.SystemAdmin), m.journal); err != nil || !v.OK() {
		t.Errorf("Verify = %+v, %v", v, err)
	}
}

// dieAt makes a change and kills this process at a step of it.
func dieAt(m *member, step string) error {
	die := func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	at := func(table string) func(*gorm.DB) {
		return func(tx *gorm.DB) {
			if tx.Statement.Table == table {
				die()
			}
		}
	}
	cb := m.db.Callback()
	var err error
	switch step {
	case "attempt":
		err = cb.Create().Before("gorm:create").Register("die", at("policy_links"))
	case "rows":
		err = cb.Create().After("gorm:create").Register("die", at("policy_links"))
	case "change":
		err = cb.Create().After("gorm:create").Register("die", at("policy_changes"))
	case "edits":
		err = cb.Create().After("gorm:create").Register("die", at("policy_edits"))
	case "revision":
		err = cb.Update().After("gorm:update").Register("die", at("policy_revision"))
	}
	if err != nil {
		return err
	}
	c := policystore.Change{Remove: take("u-nora", "nurse").Remove, Reason: audit.ReasonMoved, Reference: "ticket-9"}
	c.Add.Assignments = give("u-nora", "charge-nurse").Add.Assignments
	ctx := access.With(context.Background(), principal("u-alice"), access.SystemAdmin)
	id, err := m.Propose(ctx, c)
	if err != nil {
		return err
	}
	if _, err := m.Approve(access.With(context.Background(), principal("u-bob"), access.SystemAdmin), id); err != nil {
		return err
	}
	die()
	return nil
}

// TestACrashAtEachStep leaves the policy before or after the change, whole.
func TestACrashAtEachStep(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		var dsn string
		switch d := d.(type) {
		case *postgres.Dialector:
			dsn = d.DSN
		case *mysql.Dialector:
			dsn = d.DSN
		case *glebarez.Dialector:
			dsn = d.DSN
		}
		dir := audittest.Dir(t)
		m, err := openMember(d.Name(), dsn, dir, "survivor")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.close(); err != nil {
				t.Error(err)
			}
		})
		revision, err := m.Init(job(t), first(), "deploy-1")
		if err != nil {
			t.Fatal(err)
		}
		trails := []audit.History{m.journal}
		for i, step := range []string{"attempt", "rows", "revision", "committed"} {
			name := fmt.Sprintf("dying-%d", i)
			n := startNode(t, "die "+step, d.Name(), dsn, dir, name)
			var exit *osexec.ExitError
			if err := <-n.ended; !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("%s: it ended with %v: %q", step, err, n.lines)
			}
			dead, err := audit.Open(filepath.Join(dir, name), audit.Config{Development: true, Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			defer dead.Close()
			trails = append(trails, dead)
			if _, err := storage.Adopt(t.Context(), m.db, dead); err != nil {
				t.Fatal(err)
			}
			if step == "committed" {
				revision++
			}
			again, err := m.History(as(t, "u-alice", access.SystemAdmin), 0, 1)
			if err != nil || len(again) != 1 || again[0].Revision != revision {
				t.Errorf("%s: History = %+v, %v; want revision %d", step, again, err, revision)
			}
		}
		eventually(t, "the change that committed", func() bool { return m.Current() == revision })
		if err := storage.Settle(t.Context(), m.db); err != nil {
			t.Fatal(err)
		}
		v, err := m.Verify(as(t, "u-alice", access.SystemAdmin), trails...)
		if err != nil || !v.OK() || v.Revision != revision {
			t.Errorf("Verify = %+v, %v", v, err)
		}
	})
}
