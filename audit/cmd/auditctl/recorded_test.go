// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strconv"
	"testing"
)

// Nobody chooses under which name they are recorded.
func TestTheUserIsNotWhoTheySay(t *testing.T) {
	if os.Getuid() < 0 {
		t.Skip("this system's users have no numbers")
	}
	for _, name := range []string{"USER", "LOGNAME", "USERNAME"} {
		t.Setenv(name, "mallory")
	}
	if who, err := osUser(); err != nil || who != "os:uid."+strconv.Itoa(os.Getuid()) {
		t.Errorf("osUser() = %q, %v", who, err)
	}
}
