// SPDX-License-Identifier: Apache-2.0

package audittest_test

import (
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// A test of an app gives it the trail in memory, and says what must be there
// afterwards.
func ExampleWant() {
	test := func(t *testing.T) {
		trail := audittest.New(t)
		ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)

		// The app under test would do this.
		if _, err := trail.Record(ctx, audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: []audit.Object{
			{Type: "patient", Record: "r-1", Patient: "r-1", Fields: []string{"name"}},
		}}); err != nil {
			t.Fatal(err)
		}

		audittest.Want(t, trail, audit.Event{Type: audit.Revealed, Objects: []audit.Object{{Patient: "r-1", Fields: []string{"name"}}}})
	}
	_ = test
}
