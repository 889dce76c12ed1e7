// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// What a child process is told.
const (
	writerDir  = "PART164_TEST_AUDIT_WRITER" // the folder that it writes to
	writerDisk = "PART164_TEST_AUDIT_DISK"   // how: see write
)

// The disks of a child process. On all but the first what was not synced is
// lost with the process, in the order that a power cut leaves.
var writerDisks = []string{"real", "drops", "drops and fails"}

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		write(dir, os.Getenv(writerDisk))
		return
	}
	os.Exit(m.Run())
}

// write records from 16 goroutines until it is killed, and says which events
// were acknowledged.
func write(dir, disk string) {
	cfg := audit.Config{Development: true, SegmentSize: 256 << 10, CheckpointEvery: 10 * time.Millisecond}
	var faults *audittest.Disk
	var err error
	if disk != writerDisks[0] {
		faults, err = audittest.NewDisk(dir, 0.3)
		cfg.Disk = faults
	}
	var j *audit.Journal
	if err == nil {
		j, err = audit.Open(dir, cfg)
	}
	if disk == writerDisks[2] {
		ops := []audittest.Op{audittest.DiskWrite, audittest.DiskSync, audittest.DiskRename, audittest.DiskSyncDir, audittest.DiskCreate}
		faults.Fail(func(op audittest.Op, _ string) (int, error) {
			if rand.IntN(60) > 0 || op != ops[rand.IntN(len(ops))] {
				return 0, nil
			}
			return rand.IntN(600), []error{syscall.EIO, syscall.ENOSPC}[rand.IntN(2)]
		})
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	p := access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Service}
	ctx, end := access.Job(context.Background(), p, access.Operations)
	defer end()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for n := 0; ; n++ {
				ev := reveal(fmt.Sprint("r-", w, "-", n))
				if w == 0 && n%10 == 0 {
					for i := range 300 {
						ev.Objects = append(ev.Objects, audit.Object{Type: "note", Record: fmt.Sprint("n-", i), Patient: "r-1", Fields: []string{"text"}})
					}
				}
				receipt, err := j.Record(ctx, ev)
				if faults != nil && errors.Is(err, audit.ErrUnavailable) {
					continue
				}
				mu.Lock()
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				// One write a line, so that the parent never sees half of one.
				os.Stdout.WriteString("acked " + receipt.ID + "\n")
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestAcknowledgedEventsSurviveSIGKILL(t *testing.T) {
	t.Parallel()
	journals, kills := 1, 9
	if long() { // over a thousand; each is followed by a look at its whole journal
		journals, kills = 56, 18
	}
	for range journals {
		killWriters(t, kills)
	}
}

// killWriters kills the writers of one journal, one after the other.
func killWriters(t *testing.T, kills int) {
	dir := audittest.Dir(t) + "/audit"
	acked := make(map[string]bool)
	for kill := range kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), writerDir+"="+dir, writerDisk+"="+writerDisks[kill%len(writerDisks)])
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		want := 1 + rand.IntN(400)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			id, ok := strings.CutPrefix(lines.Text(), "acked ")
			if !ok {
				t.Fatalf("kill %d: the writer says: %s", kill, lines.Text())
			}
			acked[id] = true
			if n == want {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed

		if r := verifyAfterCrash(t, dir); len(r) > 0 {
			t.Fatalf("kill %d: after reopening: %v", kill, r)
		}
	}
	events, err := audit.All(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := len(acked)
	for _, ev := range events {
		delete(acked, ev.ID)
	}
	if len(acked) > 0 {
		t.Errorf("%d of %d acknowledged events are lost", len(acked), n)
	}
	r := verify(t, dir)
	t.Logf("%d kills, %d acknowledged, %d segments", kills, n, r.Segments)
}

// verifyAfterCrash opens and closes the journal, which recovers it.
func verifyAfterCrash(t *testing.T, dir string) []audit.Defect {
	t.Helper()
	j, err := audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return verify(t, dir).Defects
}
