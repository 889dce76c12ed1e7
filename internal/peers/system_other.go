// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"errors"
	"os"
	"time"
)

// datasync makes the file's data durable.
func datasync(f *os.File) error { return f.Sync() }

func peakMemory(*os.ProcessState) (float64, error) {
	return 0, absent("memory is measured on Linux only")
}

func processorTime() (time.Duration, error) {
	return 0, errors.New("processor time is measured on Linux only")
}
