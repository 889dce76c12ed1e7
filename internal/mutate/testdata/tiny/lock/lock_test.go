// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"os"
	"testing"
)

func TestWrongKey(t *testing.T) {
	if Open("wrong") {
		t.Error("a wrong key opens")
	}
}

func TestEach(t *testing.T) {
	for _, key := range []string{"right", "wrong"} {
		t.Run(key, func(t *testing.T) {
			if Open(key) != (key == "right") {
				t.Error("the wrong answer")
			}
		})
	}
}

func TestBlind(t *testing.T) { Open("wrong") }

func TestSkips(t *testing.T) { t.Skip("wants a service") }

func TestHere(t *testing.T) {
	if _, err := os.Stat("testdata"); err != nil || Open("wrong") {
		t.Error("not in the package's folder, or a wrong key opens")
	}
}
