// SPDX-License-Identifier: Apache-2.0

package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"gorm.io/gorm"

	"github.com/part164/part164/storage/sqlite"
)

// Opening a database once more takes no lock from the connections that this
// process has already: without them another process would remove the log that
// they write to.
func TestOpeningTwiceKeepsTheLocks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.db")
	for range 2 {
		db, err := gorm.Open(sqlite.Open(path), &gorm.Config{})
		if err != nil {
			t.Fatal(err)
		}
		pool, err := db.DB()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = pool.Close() })
		if _, err := pool.Exec("CREATE TABLE IF NOT EXISTS t (x)"); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // its close ends the locks, at the end of the test
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		t.Skip("the system does not tell locks of other handles: ", err)
	}
	if lock.Type == unix.F_UNLCK {
		t.Error("nobody holds a lock on the database")
	}
}
