// SPDX-License-Identifier: Apache-2.0

package auditstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/driver/postgres"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/auditstore"
)

// The variables by which a test starts itself as a process of an app.
const (
	nodeDir   = "PART164_TEST_AUDITSTORE_DIR"   // its journal's folder
	nodeDSN   = "PART164_TEST_AUDITSTORE_DSN"   // of PostgreSQL
	sharedKEK = "shared.kek"                    // beside the folders: who adopts a journal has its KEK
	nodeAdopt = "PART164_TEST_AUDITSTORE_ADOPT" // folders to adopt, separated by commas
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(nodeDir); dir != "" {
		if err := runNode(dir, os.Getenv(nodeDSN), strings.Split(os.Getenv(nodeAdopt), ",")); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runNode is an app: it records from four goroutines, says what was
// acknowledged, delivers to the shared table, and adopts its siblings. When its
// input ends it delivers the rest and stops.
func runNode(dir, dsn string, siblings []string) error {
	kek, err := crypto.LocalKEK(filepath.Join(filepath.Dir(dir), sharedKEK))
	if err != nil {
		return err
	}
	j, err := audit.Open(dir, audit.Config{Development: true, KEK: kek, SegmentSize: 256 << 10, CheckpointEvery: 100 * time.Millisecond, Timeout: time.Minute})
	if err != nil {
		return err
	}
	db, err := storage.Open(postgres.Open(dsn), storage.Config{
		KEK: cryptotest.NewKEK(), Audit: j, Access: rbac.Starter(), Minimize: minimize.Starter(), Development: true,
	})
	if err != nil {
		return err
	}
	store, err := auditstore.New(db, auditstore.Config{})
	if err != nil {
		return err
	}
	pipe, err := sink.Open(j, store, sink.Config{Batch: 20, Retry: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	p := access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Service}
	ctx, end := access.Job(context.Background(), p, access.Operations)
	defer end()
	fail := make(chan error, 10)
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				r, err := j.Record(ctx, audit.Event{Type: audit.Searched, Outcome: audit.Success})
				if err != nil {
					fail <- err
					return
				}
				mu.Lock()
				os.Stdout.WriteString("acked " + r.ID + "\n")
				mu.Unlock()
			}
		})
	}
	adopt := func() (n int, err error) {
		for _, sibling := range siblings {
			if sibling == "" {
				continue
			}
			k, aerr := pipe.Adopt(context.Background(), sibling, time.Second)
			n += k
			if aerr != nil && !errors.Is(aerr, audit.ErrLocked) {
				err = errors.Join(err, aerr)
			}
		}
		return n, err
	}
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			n, err := adopt()
			if err != nil {
				fail <- err
				return
			}
			if n > 0 {
				mu.Lock()
				fmt.Println("adopted", n)
				mu.Unlock()
			}
		}
	})
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	close(stop)
	wg.Wait()
	select {
	case err := <-fail:
		return err
	default:
	}
	flush, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(pipe.Flush(flush), pipe.Close(), storage.Close(db), j.Close())
}

// A process is one that runs runNode.
type process struct {
	cmd   *osexec.Cmd
	stdin interface{ Close() error }
	done  chan error

	mu      sync.Mutex
	acked   []string
	adopted int
	errs    []string
}

func startProcess(t *testing.T, dsn, dir string, siblings []string) *process {
	t.Helper()
	cmd := osexec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), nodeDir+"="+dir, nodeDSN+"="+dsn, nodeAdopt+"="+strings.Join(siblings, ","))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, stdin: in, done: make(chan error, 1)}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			p.mu.Lock()
			what, value, _ := strings.Cut(lines.Text(), " ")
			switch what {
			case "acked":
				p.acked = append(p.acked, value)
			case "adopted":
				n := 0
				fmt.Sscan(value, &n)
				p.adopted += n
			default:
				p.errs = append(p.errs, lines.Text())
			}
			p.mu.Unlock()
		}
		p.done <- cmd.Wait()
	}()
	return p
}

func (p *process) counts() (acked, adopted int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.acked), p.adopted
}

// TestThreeProcessesOneTable: one is killed for good in the middle; the others
// deliver what it leaves. Every acknowledged event is in the table, once.
func TestThreeProcessesOneTable(t *testing.T) {
	t.Parallel()
	d := databases["PostgreSQL"](t)
	root := audittest.Dir(t)
	kek, err := crypto.LocalKEK(filepath.Join(root, sharedKEK))
	if err != nil {
		t.Fatal(err)
	}
	if err := kek.Generate(); err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for i := range 3 {
		dirs = append(dirs, filepath.Join(root, fmt.Sprint("node-", i)))
	}
	var nodes []*process
	for i, dir := range dirs {
		siblings := slices.Delete(slices.Clone(dirs), i, i+1)
		nodes = append(nodes, startProcess(t, d.dsn, dir, siblings))
	}
	wait := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(90 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				for i, n := range nodes {
					n.mu.Lock()
					t.Logf("process %d: %d acknowledged, %d adopted, %v", i, len(n.acked), n.adopted, n.errs)
					n.mu.Unlock()
				}
				t.Fatalf("never: %s", what)
			}
		}
	}
	const each = 150
	for i := range nodes {
		wait(fmt.Sprint("process ", i, " records"), func() bool { n, _ := nodes[i].counts(); return n >= each })
	}
	if err := nodes[0].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-nodes[0].done
	store := open(t, d.db)
	pending := func() int {
		pos, err := audit.Cursors(dirs[0])
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range audit.Read(t.Context(), dirs[0], pos["database"]) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	left := pending()
	wait("the dead one's events are delivered", func() bool { return pending() == 0 })
	for _, n := range nodes[1:] {
		if err := n.stdin.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range nodes[1:] {
		if err := <-n.done; err != nil {
			t.Fatalf("process %d: %v %v", i+1, err, n.errs)
		}
	}

	rows := make(map[string]int)
	for _, c := range copies(t, store) {
		rows[fmt.Sprintf("%s.%d", c.Writer, c.Seq)]++
	}
	total, adopted := 0, 0
	for i, n := range nodes {
		for _, id := range n.acked {
			total++
			if rows[id] != 1 {
				t.Errorf("process %d: the acknowledged event %s is in the table %d times", i, id, rows[id])
			}
		}
		adopted += n.adopted
	}
	// Who adopted says so in its own chain: what, and up to where.
	found := 0
	for _, dir := range dirs[1:] {
		for l, err := range audit.Read(t.Context(), dir, audit.Position{}) {
			if err != nil {
				t.Fatal(err)
			}
			if l.Type == audit.Adopted {
				found++
				if !strings.HasPrefix(l.About, "j") || l.Root == "" {
					t.Errorf("Adopted about %q, root %q", l.About, l.Root)
				}
			}
		}
	}
	if left > 0 && found == 0 {
		t.Errorf("%d events were left, and nobody recorded that they were adopted", left)
	}
	for _, dir := range dirs {
		report, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{})
		if err != nil || len(report.Defects) > 0 {
			t.Errorf("%s: %v %v", filepath.Base(dir), report.Defects, err)
		}
		cursors, err := audit.Cursors(dir)
		if err != nil {
			t.Fatal(err)
		}
		cmp, err := sink.Compare(t.Context(), dir, cursors["database"], store.Copies(t.Context(), ""))
		if err != nil || !cmp.OK() {
			t.Errorf("%s: Compare = %+v, %v", filepath.Base(dir), cmp, err)
		}
	}
	t.Logf("%d acknowledged by three processes, %d left by the killed one, %d delivered by its survivors", total, left, adopted)
}
