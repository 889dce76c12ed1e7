// SPDX-License-Identifier: Apache-2.0

package sinktest_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/audit/sinktest"
)

// What is acknowledged is in the sink before, though the folder goes.
func TestDurableWaitsForTheSink(t *testing.T) {
	t.Parallel()
	var fake sinktest.Fake
	dir := audittest.Dir(t) + "/audit"
	j, err := audit.Open(dir, audit.Config{Development: true, Durability: sink.Durable(&fake)})
	if err != nil {
		t.Fatal(err)
	}
	ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)
	search := audit.Event{Type: audit.Searched, Outcome: audit.Success}
	has := func(id string) bool {
		for _, l := range fake.Received() {
			if l.ID == id && l.Position.Writer == j.Writer() && len(l.Raw) > 0 {
				return true
			}
		}
		return false
	}
	var ids []string
	for range 20 {
		r, err := j.Record(ctx, search)
		if err != nil {
			t.Fatal(err)
		}
		if !has(r.ID) {
			t.Fatalf("%s was acknowledged and is not in the sink", r.ID)
		}
		ids = append(ids, r.ID)
	}
	down := errors.New("down")
	fake.Fail(down)
	if _, err := j.Record(ctx, search); !errors.Is(err, audit.ErrUnavailable) || !errors.Is(err, down) {
		t.Errorf("Record(sink down) = %v, want ErrUnavailable and its error", err)
	}
	fake.Fail(nil)
	r, err := j.Record(ctx, search)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	for _, id := range append(ids, r.ID) {
		if !has(id) {
			t.Errorf("%s is lost with the folder", id)
		}
	}
	// Of these events no journal is made again, and the error says what to do;
	// the app goes on in a new folder.
	err = audit.Restore(dir, func(yield func([]byte, error) bool) {
		for _, l := range fake.Received() {
			if !yield(l.Raw, nil) {
				return
			}
		}
	})
	if err == nil || !strings.Contains(err.Error(), "new folder") {
		t.Errorf("Restore of a sink's events: %v", err)
	}
	fresh, err := audit.Open(audittest.Dir(t)+"/audit", audit.Config{Development: true, Durability: sink.Durable(&fake)})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = fresh.Record(ctx, search); err != nil || fresh.Writer() == j.Writer() {
		t.Errorf("in a new folder: writer %s, %v", fresh.Writer(), err)
	}
	for _, l := range fake.Received() {
		if l.ID == r.ID && l.Position.Writer == fresh.Writer() {
			r.ID = ""
		}
	}
	if err := fresh.Close(); err != nil || r.ID != "" {
		t.Errorf("the new writer's event is not in the sink, %v", err)
	}
	var last uint64
	for i, l := range fake.Received() {
		if l.Position.Writer != j.Writer() {
			break
		}
		if i > 0 && l.Seq <= last {
			t.Errorf("sequence %d comes after %d", l.Seq, last)
		}
		last = l.Seq
	}
}
