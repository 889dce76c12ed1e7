// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"math"
	"testing"
	"unsafe"
)

// Actors returns how many are kept.
func (w *Watcher) Actors() int { return len(w.actors.by) }

// What doc.go says of the state of an actor.
func TestAnActorIsSmall(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(actor{}); size > 1024 {
		t.Errorf("an actor takes %d bytes", size)
	}
}

// What doc.go says of the sketch.
func TestSketchCounts(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 10, 60, 100, 500, 1000, 5000} {
		var s sketch
		for i := range n {
			for range 3 {
				s.add(fmt.Sprintf("patient %d", i))
			}
		}
		if got := s.count(); math.Abs(float64(got-n)) > 1+0.06*float64(n) {
			t.Errorf("%d patients are counted as %d", n, got)
		}
	}
}
