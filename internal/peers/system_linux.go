// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"syscall"
	"time"
)

// datasync makes the file's data durable.
func datasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

// processorTime is what the process has used so far.
func processorTime() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}
