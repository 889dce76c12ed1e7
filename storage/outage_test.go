// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
	"github.com/part164/part164/storage/storagetest"
)

// A Note has a patient of its own and one sealed field.
type Note struct {
	storage.PatientRecord
	Text storage.Sealed[string] `phi:"clinical"`
}

func (Note) ResourceType() string { return "patient" }

// Listing and revealing 10,000 patients of one tenant asks the KMS once.
func TestKMSCallsOfAList(t *testing.T) {
	t.Parallel()
	patients := 2_000
	if os.Getenv("PART164_TEST_LONG") != "" {
		patients = 10_000
	}
	path, kek := filepath.Join(t.TempDir(), "test.db"), cryptotest.NewKEK()
	cfg := storage.Config{KEK: kek, Audit: audittest.New(t), Access: rbac.Starter(), Minimize: minimize.Starter()}
	db, err := storage.Open(sqlite.Open(path), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx := physician(t)
	if err := storage.Migrate(ctx, db, &Note{}); err != nil {
		t.Fatal(err)
	}
	all := make([]Note, patients)
	for i := range all {
		all[i].Text = storage.Seal("stable")
	}
	if err := errors.Join(db.WithContext(ctx).CreateInBatches(&all, 500).Error, storage.Close(db)); err != nil {
		t.Fatal(err)
	}
	calls := func() int { return kek.Encrypts() + kek.Decrypts() }
	made := calls()

	if db, err = storage.Open(sqlite.Open(path), cfg); err != nil { // another process
		t.Fatal(err)
	}
	defer func() {
		if err := storage.Close(db); err != nil {
			t.Error(err)
		}
	}()
	opened := calls()
	var list []Note
	if err := db.WithContext(ctx).Find(&list).Error; err != nil || len(list) != patients {
		t.Fatalf("%d patients, %v", len(list), err)
	}
	if err := storage.Reveal(ctx, &list); err != nil {
		t.Fatal(err)
	}
	if s, err := list[patients-1].Text.Get(ctx); err != nil || s != "stable" {
		t.Fatalf("Get = %q, %v", s, err)
	}
	listed := calls() - opened
	t.Logf("calls of the KMS: %d to make the keys of %d patients, %d to open the database, %d to list and reveal them all", made, patients, opened-made, listed)
	if listed > 1 || opened-made > 2 {
		t.Error("want at most 1 to list, and 2 to open")
	}
}

// With the KMS down a tenant's patients are read and written for an hour beyond
// the five minutes; then comes an error that says what to look at, and the same
// process goes on once the KMS is back.
func TestKMSDown(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		var now atomic.Pointer[time.Time]
		set := func(x time.Time) { now.Store(&x) }
		start := time.Now()
		set(start)
		kek := cryptotest.NewKEK()
		core, logs := observer.New(zap.WarnLevel)
		db := storagetest.Open(t, d, func(c *storage.Config) {
			c.KEK, c.Log, c.Now = kek, zap.New(core), func() time.Time { return *now.Load() }
		}, &Note{})
		as := func(tenant string) context.Context {
			t.Helper()
			return access.With(t.Context(), accesstest.Principal(tenant, "physician"), access.Treatment)
		}
		n := Note{Text: storage.Seal("stable")}
		if err := db.WithContext(as("t-test")).Create(&n).Error; err != nil {
			t.Fatal(err)
		}
		read := func() error {
			ctx := as("t-test")
			var got Note
			if err := db.WithContext(ctx).Take(&got, "id = ?", n.ID).Error; err != nil {
				return err
			}
			if err := storage.Reveal(ctx, &got); err != nil {
				return err
			}
			_, err := got.Text.Get(ctx)
			return err
		}
		write := func(tenant string) error {
			return db.WithContext(as(tenant)).Create(&Note{Text: storage.Seal("new")}).Error
		}
		kek.Fail(cryptotest.ErrDown)
		for _, after := range []time.Duration{time.Minute, 6 * time.Minute, 64 * time.Minute} {
			set(start.Add(after))
			if err := errors.Join(read(), write("t-test")); err != nil {
				t.Errorf("after %v without the KMS: %v", after, err)
			}
			if err := write("t-other"); !errors.Is(err, crypto.ErrUnreachable) {
				t.Errorf("a tenant that is not in memory: %v, want ErrUnreachable", err)
			}
		}
		if logs.FilterMessageSnippet("does not answer").Len() == 0 {
			t.Error("the operator was not told")
		}
		set(start.Add(66 * time.Minute))
		for range 2 {
			if err := errors.Join(read(), write("t-test")); !errors.Is(err, crypto.ErrUnreachable) || !strings.Contains(err.Error(), "look at the KMS") {
				t.Errorf("after 66 minutes: %v, want ErrUnreachable and what to look at", err)
			}
		}
		kek.Fail(nil)
		if err := errors.Join(read(), write("t-test"), write("t-other")); err != nil {
			t.Errorf("with the KMS back: %v", err)
		}
	})
}

// plainKEK is a KEK without the mark of tests.
type plainKEK struct{ crypto.KEK }

// A database of a test is not opened in production, nor are its cells.
func TestADatabaseOfTestsIsRefused(t *testing.T) {
	t.Parallel()
	path, kek := filepath.Join(t.TempDir(), "test.db"), cryptotest.NewKEK()
	cfg := config(t)
	cfg.KEK = kek
	db, err := storage.Open(sqlite.Open(path), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx := physician(t)
	if err := errors.Join(storage.Migrate(ctx, db, &Note{}), db.WithContext(ctx).Create(&Note{Text: storage.Seal("x")}).Error, storage.Close(db)); err != nil {
		t.Fatal(err)
	}
	cfg.KEK = plainKEK{crypto.WithOutages(kek, nil)}
	if _, err := storage.Open(sqlite.Open(path), cfg); !errors.Is(err, crypto.ErrTestKey) {
		t.Errorf("Open = %v, want ErrTestKey", err)
	}
}
