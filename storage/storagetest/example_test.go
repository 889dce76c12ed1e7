// SPDX-License-Identifier: Apache-2.0

package storagetest_test

import (
	"fmt"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// runTest runs an example as go test would run the test in it.
func runTest(name string, f func(t *testing.T)) {
	ok := testing.RunTests(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: name, F: f}})
	fmt.Println(name, "passes:", ok)
}

func ExampleCheckModel() {
	runTest("TestPatient", func(t *testing.T) {
		storagetest.CheckModel(t, &Patient{})
	})
	// Output: TestPatient passes: true
}

func ExampleRawColumn() {
	runTest("TestOnDisk", func(t *testing.T) {
		db := storagetest.NewDB(t, &Patient{})
		ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
		p := Patient{Name: storage.Seal("Jane Roe")}
		if err := db.WithContext(ctx).Create(&p).Error; err != nil {
			t.Fatal(err)
		}
		raw := storagetest.RawColumn(t, db.DB, "patients", "name", p.ID)
		_, err := crypto.ParseHeader(raw)
		fmt.Println(len(raw), "bytes, a cell:", err == nil)
		fmt.Println("NULL:", storagetest.RawColumn(t, db.DB, "patients", "ssn", p.ID) == nil)
	})
	// Output:
	// 42 bytes, a cell: true
	// NULL: true
	// TestOnDisk passes: true
}
