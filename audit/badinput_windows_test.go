// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"os"
	"testing"
)

// irregular makes what is no file of its own.
func irregular(testing.TB) map[string]func(path, file string) error {
	return map[string]func(path, file string) error{
		"folder": func(path, _ string) error { return os.Mkdir(path, 0o700) },
	}
}
