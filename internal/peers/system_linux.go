// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"syscall"
	"time"
)

// datasync makes the file's data durable.
func datasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

// peakMemory is the most that a process which ended had at a time.
func peakMemory(p *os.ProcessState) (float64, error) {
	u, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, absent("the system does not tell")
	}
	return float64(u.Maxrss), nil
}

// processorTime is what the process has used so far.
func processorTime() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}
