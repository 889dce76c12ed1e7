// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"context"
	"iter"
)

// Merge yields the events of the journals in several folders as one, by time,
// then writer, then sequence. The order of each journal is kept, also where its
// clock was set back; between two journals the clocks decide, and nothing is
// claimed about what caused what. See [Read], whose errors it passes on.
func Merge(ctx context.Context, dirs ...string) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		type head struct {
			line Line
			err  error
			next func() (Line, error, bool)
			stop func()
		}
		var heads []*head
		defer func() {
			for _, h := range heads {
				h.stop()
			}
		}()
		for _, dir := range dirs {
			h := new(head)
			h.next, h.stop = iter.Pull2(Read(ctx, dir, Position{}))
			var ok bool
			if h.line, h.err, ok = h.next(); !ok {
				h.stop()
				continue
			}
			heads = append(heads, h)
		}
		for len(heads) > 0 {
			first := 0
			for i, h := range heads {
				if h.err != nil {
					yield(Line{}, h.err)
					return
				}
				a, b := &h.line, &heads[first].line
				if cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Position.Writer, b.Position.Writer), cmp.Compare(a.Position.Seq, b.Position.Seq)) < 0 {
					first = i
				}
			}
			h := heads[first]
			if !yield(h.line, nil) {
				return
			}
			var ok bool
			if h.line, h.err, ok = h.next(); !ok {
				h.stop()
				heads = append(heads[:first], heads[first+1:]...)
			}
		}
	}
}
