// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"crypto/fips140"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/storage/policystore"
)

// TestSeenWithinAPoll: another node has a revocation once Config.Poll has gone
// by, at whatever moment of its interval the change is made. The clock is the
// bubble's, which stands still while anybody works.
func TestSeenWithinAPoll(t *testing.T) {
	t.Parallel()
	if fips140.Enforced() {
		t.Skip("Go's FIPS 140-3 module gathers entropy by a clock that goes on by itself, and a bubble's does not")
	}
	synctest.Test(t, func(t *testing.T) {
		const poll = time.Minute
		slow := func(c *policystore.Config) { c.Poll, c.MaxStale = poll, 2*poll }
		w := initiated(t, sqliteFile(t), slow)
		two := w.join(t, slow)
		nora := func() access.Code { return code(t, two, as(t, "u-nora", access.Treatment), access.Read, "patient") }
		for i := range 6 {
			time.Sleep(time.Duration(i) * poll / 7) // into the interval
			if got := nora(); got != access.AllowRule {
				t.Fatalf("%d: nora reads: %s", i, got)
			}
			revision, err := w.Apply(as(t, "u-alice", access.SystemAdmin), take("u-nora", "nurse"))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(poll)
			synctest.Wait()
			if got := nora(); got != access.DenyNoRule || two.Current() != revision {
				t.Errorf("%d: after a poll's time it is revision %d, %s; want %d", i, two.Current(), got, revision)
			}
			id := propose(t, w.Store, "u-alice", give("u-nora", "nurse"))
			if revision, err = w.Approve(as(t, "u-bob", access.SystemAdmin), id); err != nil {
				t.Fatal(err)
			}
			// Who requires the revision does not wait for the poll.
			began := time.Now()
			if got := code(t, two, policystore.RequireRevision(as(t, "u-nora", access.Treatment), revision), access.Read, "patient"); got != access.AllowRule {
				t.Errorf("%d: a revision that is required: %s", i, got)
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("%d: it came after %v, with the poll", i, took)
			}
		}
	})
}
