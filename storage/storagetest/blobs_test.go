// SPDX-License-Identifier: Apache-2.0

package storagetest_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

func TestBlobsInMemory(t *testing.T) {
	t.Parallel()
	storagetest.TestBlobs(t, func(*testing.T) storage.Blobs { return new(storagetest.Blobs) })
}

func TestBlobsFailAsTold(t *testing.T) {
	t.Parallel()
	s := new(storagetest.Blobs)
	down := errors.New("down")
	s.FailAfter(2, down)
	ctx := t.Context()
	if err := s.Put(ctx, "a/b", strings.NewReader("text")); err != nil {
		t.Error(err)
	}
	r, err := s.Get(ctx, "a/b", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, down) {
		t.Errorf("read = %v", err)
	}
	for range 2 {
		if err := s.Delete(ctx, "a/b"); !errors.Is(err, down) {
			t.Errorf("Delete = %v", err)
		}
	}
	s.Fail(nil)
	s.Delay(time.Hour)
	late, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if err := s.Delete(late, "a/b"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Delete with a delay = %v", err)
	}
	s.Delay(0)
	if got := string(s.Bytes("a/b")); got != "text" || s.Read() != 0 {
		t.Errorf("Bytes = %q", got)
	}
	s.Replace("a/b", nil)
	if n := s.Names(); len(n) != 0 {
		t.Errorf("Names = %q", n)
	}
}
