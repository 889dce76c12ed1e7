// SPDX-License-Identifier: Apache-2.0

package user

import (
	"testing"

	"example.com/tiny/lock"
)

func TestLocked(t *testing.T) {
	if lock.Open("wrong") {
		t.Error("a wrong key opens")
	}
}
