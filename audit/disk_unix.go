// SPDX-License-Identifier: Apache-2.0

//go:build unix

package audit

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// readFlags keep from waiting for a pipe, and from following a link.
const readFlags = unix.O_NONBLOCK | unix.O_NOFOLLOW

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// giveToOwner makes what root created in another user's folder that user's.
func giveToOwner(dir string, f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var of unix.Stat_t
	if err := unix.Stat(dir, &of); err != nil || of.Uid == 0 {
		return err
	}
	return f.Chown(int(of.Uid), int(of.Gid))
}

// makeReadOnly changes the file by that name, and not what a link leads to.
func makeReadOnly(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|readFlags, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o400), f.Close())
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lockFolder takes an advisory lock on the folder itself, which nobody can
// remove and make again as they could a lock file. It is released with the
// returned handle, and by the system when the process dies.
func lockFolder(dir string) (release func() error, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	// folderInUse elsewhere shares the lock for an instant. While nobody holds it
	// alone, whoever gets a share sees that, and asks again; a journal that is
	// open is told at once.
	for try := 0; ; try++ {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if try == 1000 || !errors.Is(err, unix.EWOULDBLOCK) || folderInUse(dir) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, err
	}
	// Unlocking first: a child process between fork and exec holds a copy of
	// the handle, with which the lock would outlive the close.
	return func() error {
		return errors.Join(unix.Flock(int(d.Fd()), unix.LOCK_UN), d.Close())
	}, nil
}

// folderInUse reports whether a process holds the folder's lock. A file system
// without locks has no journal in use.
func folderInUse(dir string) bool {
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return errors.Is(err, unix.EWOULDBLOCK)
	}
	_ = unix.Flock(int(d.Fd()), unix.LOCK_UN)
	return false
}
