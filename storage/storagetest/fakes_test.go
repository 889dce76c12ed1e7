// SPDX-License-Identifier: Apache-2.0

package storagetest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
	"github.com/part164/part164/storage/storagetest"
	"github.com/part164/part164/storage/tombstone"
)

// A faulty is a fake as a test tells it to fail.
type faulty interface {
	Fail(error)
	FailAfter(int, error)
	Delay(time.Duration)
}

// fakes are the fakes of all kits, each with one call.
func fakes(t *testing.T) map[string]struct {
	fake faulty
	call func(context.Context) error
} {
	type one = struct {
		fake faulty
		call func(context.Context) error
	}
	trail, authorizer, kek, keys := audittest.New(t), accesstest.Allow(), cryptotest.NewKEK(), cryptotest.NewStore()
	store, recorder, sealer := sessiontest.NewStore(), &sessiontest.Recorder{}, sessiontest.NewSealer()
	holds, stones, blobs := &storagetest.Holds{}, &storagetest.Tombstones{}, &storagetest.Blobs{}
	event := audit.Event{Type: audit.Reported, Outcome: audit.Success, Actor: accesstest.Principal("t-1", "nurse")}
	return map[string]one{
		"audittest.Trail": {trail, func(ctx context.Context) error { _, err := trail.Record(ctx, event); return err }},
		"accesstest.Fake": {authorizer, func(ctx context.Context) error {
			_, err := authorizer.Check(ctx, access.Request{})
			return err
		}},
		"cryptotest.KEK": {kek, func(ctx context.Context) error {
			_, err := kek.EncryptWithContext(ctx, []byte("key"), nil)
			return err
		}},
		"cryptotest.Store": {keys, func(ctx context.Context) error {
			_, err := keys.Rows().Generation(ctx)
			return err
		}},
		"sessiontest.Store": {store, func(ctx context.Context) error {
			_, err := store.End(ctx, session.ID{}, time.Time{}, audit.ReasonLogout)
			return err
		}},
		"sessiontest.Recorder": {recorder, func(ctx context.Context) error { _, err := recorder.Record(ctx, event); return err }},
		"sessiontest.Sealer": {sealer, func(ctx context.Context) error {
			_, err := sealer.Seal(ctx, crypto.Binding{Tenant: "t-1"}, nil)
			return err
		}},
		"storagetest.Holds": {holds, func(ctx context.Context) error { _, err := holds.Held(ctx, "t-1", "p-1"); return err }},
		"storagetest.Blobs": {blobs, func(ctx context.Context) error { return blobs.Delete(ctx, "d/f") }},
		"storagetest.Tombstones": {stones, func(ctx context.Context) error {
			return stones.Append(ctx, tombstone.Entry{})
		}},
	}
}

// TestFakesFailAlike holds that Fail, FailAfter and Delay mean the same on
// every fake of every kit.
func TestFakesFailAlike(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for name, f := range fakes(t) {
		t.Run(name, func(t *testing.T) {
			want := func(what string, bad bool) {
				t.Helper()
				if err := f.call(t.Context()); errors.Is(err, down) != bad || !bad && err != nil {
					t.Errorf("%s: %v, want it to fail: %v", what, err, bad)
				}
			}
			want("at first", false)
			f.fake.Fail(down)
			want("after Fail", true)
			want("after Fail", true)
			f.fake.Fail(nil)
			want("after Fail(nil)", false)
			f.fake.FailAfter(2, down)
			want("the first after FailAfter(2)", false)
			want("the second", false)
			want("the third", true)
			want("the fourth", true)
			f.fake.Fail(nil)
			want("after Fail(nil)", false)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		for name, f := range fakes(t) {
			took := func(ctx context.Context) (time.Duration, error) {
				start := time.Now()
				err := f.call(ctx)
				return time.Since(start), err
			}
			f.fake.Delay(time.Minute)
			if d, err := took(t.Context()); d != time.Minute || err != nil {
				t.Errorf("%s: a call after Delay took %v (%v), want a minute", name, d, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			d, err := took(ctx)
			cancel()
			switch {
			case name == "audittest.Trail": // what was begun is recorded
				if d != time.Minute || err != nil {
					t.Errorf("%s: a call took %v (%v), want a minute", name, d, err)
				}
			case d != time.Second || !errors.Is(err, context.DeadlineExceeded):
				t.Errorf("%s: a call whose context ends took %v (%v), want a second and the context's error", name, d, err)
			}
			f.fake.Delay(0)
			if d, err := took(t.Context()); d != 0 || err != nil {
				t.Errorf("%s: a call after Delay(0) took %v (%v)", name, d, err)
			}
		}
	})
}
