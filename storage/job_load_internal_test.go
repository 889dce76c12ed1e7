// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
)

const (
	loadDir = "PART164_TEST_LOAD_DIR" // in the environment of a child that reads and writes: its folder
	loadDSN = "PART164_TEST_LOAD_DSN"
	loadOn  = "PART164_TEST_LOAD_DIALECT" // postgres or mysql
)

// openLoad opens the database as one node does: with a trail of its own, and
// with the KEKs in the order that its stage of the rotation has.
func openLoad(dir, node, dialect, dsn string, oldFirst bool) (*gorm.DB, *audit.Journal, error) {
	journal, err := audit.Open(filepath.Join(dir, node), audit.Config{Development: true})
	if err != nil {
		return nil, nil, err
	}
	var keks [2]crypto.KEK
	for i := range keks {
		kek, err := crypto.LocalKEK(filepath.Join(dir, fmt.Sprintf("kek%d.json", i)))
		if err != nil {
			return nil, nil, err
		}
		if err := kek.Ensure(false, true); err != nil {
			return nil, nil, err
		}
		keks[i] = kek
	}
	kek := crypto.RotatingKEK(keks[1], keks[0])
	if oldFirst {
		kek = crypto.RotatingKEK(keks[0], keks[1])
	}
	var d gorm.Dialector = postgres.Open(dsn)
	if dialect == "mysql" {
		d = mysql.Open(dsn)
	}
	db, err := Open(d, Config{Development: true, KEK: kek, Audit: journal, Access: accesstest.Allow(), Minimize: minimize.Starter(), KeyBound: 500 * time.Millisecond})
	if err == nil {
		err = Migrate(context.Background(), db, &jobbed{}, &jobbedNote{})
	}
	return db, journal, err
}

// TestLoadChild is the node that reads and writes until its standard input
// ends. It fails at the first read or write that does.
func TestLoadChild(t *testing.T) {
	dir := os.Getenv(loadDir)
	if dir == "" {
		t.Skip("it is a process of TestRotationUnderLoadOfAnotherProcess, which starts it")
	}
	db, journal, err := openLoad(dir, "child", os.Getenv(loadOn), os.Getenv(loadDSN), true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(Close(db), journal.Close()); err != nil {
			t.Error(err)
		}
	}()
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	var ids []string
	var ps []jobbed
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	if err := db.WithContext(ctx).Find(&ps).Error; err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		ids = append(ids, p.ID)
	}
	reads, writes := 0, 0
	for n := 0; ; n++ {
		select {
		case <-stop:
			fmt.Printf("reads %d writes %d\n", reads, writes)
			return
		default:
		}
		id := ids[rand.IntN(len(ids))]
		ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
		var p jobbed
		if err := db.WithContext(ctx).Take(&p, "id = ?", id).Error; err != nil {
			t.Fatalf("read: %v", err)
		}
		if err := Reveal(ctx, &p); err != nil {
			t.Fatalf("reveal: %v", err)
		}
		reads++
		if n%3 == 0 {
			p.Name = Seal(fmt.Sprintf("Jane Roe%d", n))
			err := db.WithContext(ctx).Save(&p).Error // nobody else writes, but the job's own transactions
			if InTheWay(err) {
				continue
			}
			if err != nil {
				t.Fatalf("save: %v", err)
			}
			if err := db.WithContext(ctx).Create(&jobbedNote{PatientID: id, Text: Seal("note")}).Error; err != nil && !InTheWay(err) {
				t.Fatalf("create: %v", err)
			}
			writes += 2
		}
	}
}

// TestRotationUnderLoadOfAnotherProcess turns every key over while another
// node, with caches of its own, reads and writes: none of its reads fails, and
// none of its writes, but those that the database wants to be done again.
func TestRotationUnderLoadOfAnotherProcess(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"postgres", "mysql"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			var dsn string
			switch dialect {
			case "postgres":
				dsn = openPostgresSchema(t).(*postgres.Dialector).DSN
			default:
				dsn = openMariaDatabase(t).(*mysql.Dialector).DSN
			}
			dir := t.TempDir()
			seed, journal, err := openLoad(dir, "seed", dialect, dsn, true)
			if err != nil {
				t.Fatal(err)
			}
			ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
			for i := range 10 {
				if err := seed.WithContext(ctx).Create(&jobbed{Name: Seal("Jane Roe"), MRN: Seal(fmt.Sprintf("MRN-%04d", i))}).Error; err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(Close(seed), journal.Close()); err != nil {
				t.Fatal(err)
			}
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLoadChild$", "-test.v")
			child.Env = append(os.Environ(), loadDir+"="+dir, loadDSN+"="+dsn, loadOn+"="+dialect)
			in, err := child.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := os.Create(filepath.Join(dir, "out"))
			if err != nil {
				t.Fatal(err)
			}
			child.Stdout, child.Stderr = out, out
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			db, journal, err := openLoad(dir, "jobs", dialect, dsn, false)
			if err != nil {
				t.Fatal(err)
			}
			service, end := access.Job(t.Context(), service(), access.RecordManagement)
			defer end()
			for _, job := range []Job{
				{Kind: RotateSubjectKeys, Grace: time.Second, Batch: 3},
				{Kind: RotateTenantKey, Batch: 3},
				{Kind: RotateKEK},
				{Kind: RotateIndexKey, Batch: 3},
				{Kind: RotateSubjectKeys, Grace: time.Second, Batch: 50},
			} {
				if r, err := RunJob(service, db, job); err != nil || !r.Done {
					t.Errorf("%s: %+v, %v", job.Kind, r, err)
				}
			}
			_ = in.Close()
			err = child.Wait()
			text, _ := os.ReadFile(out.Name())
			_ = out.Close()
			var reads, writes int
			for line := range strings.SplitSeq(string(text), "\n") {
				_, _ = fmt.Sscanf(line, "reads %d writes %d", &reads, &writes)
			}
			if err != nil || reads == 0 || writes == 0 {
				t.Errorf("the other process: %v\n%s", err, text)
			}
			t.Logf("%d reads and %d writes by the other process", reads, writes)
			if err := errors.Join(Close(db), journal.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}
