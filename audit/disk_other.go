// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package audit

import "os"

// datasync is a full sync where the system has no fdatasync that reaches the
// disk; on Darwin Go's Sync asks for F_FULLFSYNC.
func datasync(f *os.File) error { return f.Sync() }

// fileSystem knows nothing outside Linux: nothing is refused for its type.
func fileSystem(string) (name string, kind fsKind, err error) { return "", fsUnknown, nil }
