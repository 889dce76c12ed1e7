// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"os"

	"golang.org/x/sys/unix"
)

func datasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return err
		}
	}
}

// File system types, from statfs(2).
func fileSystem(dir string) (name string, kind fsKind, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", fsUnknown, err
	}
	switch uint32(st.Type) {
	case unix.TMPFS_MAGIC:
		return "tmpfs", fsMemory, nil
	case unix.RAMFS_MAGIC:
		return "ramfs", fsMemory, nil
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay", fsLayer, nil
	}
	return "", fsUnknown, nil
}
