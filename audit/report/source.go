// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"iter"
	"strings"

	"github.com/part164/part164/audit"
)

// A Source is a trail that is read. The conformance suite is
// reporttest.TestSource. [audit.Journal] is one, and [audit.Reader]
// for the folder of a process that is gone or that runs elsewhere.
type Source interface {
	// Events yields what q selects, newest first.
	Events(ctx context.Context, q audit.Query) iter.Seq2[audit.Stored, error]

	// Pseudonym returns what stands in this trail for a patient's or record's
	// ID in tenant; empty where it cannot tell.
	Pseudonym(tenant, id string) string
}

// An Event is one of a trail.
type Event struct {
	audit.Stored
	source int // index in Config.Sources
}

// Writer returns the journal that the event stands in. Each names patients by
// pseudonyms of its own.
func (e *Event) Writer() string {
	writer, _, _ := strings.Cut(e.ID, ".")
	return writer
}

// events yields what q selects of every source, newest first, each event once.
func (r *Reporter) events(ctx context.Context, q audit.Query) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		heads := make([]head, 0, len(r.cfg.Sources))
		defer func() {
			for _, h := range heads {
				h.stop()
			}
		}()
		for i, s := range r.cfg.Sources {
			next, stop := iter.Pull2(s.Events(ctx, q))
			h := head{next: next, stop: stop}
			h.event.source = i
			heads = append(heads, h)
		}
		for i := 0; i < len(heads); {
			switch ok, err := heads[i].advance(); {
			case err != nil:
				yield(Event{}, err)
				return
			case !ok:
				heads[i].stop()
				heads = append(heads[:i], heads[i+1:]...)
			default:
				i++
			}
		}
		seen := seen{}
		for len(heads) > 0 {
			newest := 0
			for i := range heads {
				if heads[i].newer(&heads[newest]) {
					newest = i
				}
			}
			h := &heads[newest]
			if (len(r.cfg.Sources) == 1 || seen.add(h.writer, h.event.Seq)) && !yield(h.event, nil) {
				return
			}
			switch ok, err := h.advance(); {
			case err != nil:
				yield(Event{}, err)
				return
			case !ok:
				h.stop()
				heads = append(heads[:newest], heads[newest+1:]...)
			}
		}
	}
}

// A head is the newest event of a source that was not yielded yet.
type head struct {
	next   func() (audit.Stored, error, bool)
	stop   func()
	event  Event
	writer string
}

func (h *head) advance() (ok bool, err error) {
	h.event.Stored, err, ok = h.next()
	h.writer = h.event.Writer()
	return ok && err == nil, err
}

func (h *head) newer(than *head) bool {
	if c := h.event.Time.Compare(than.event.Time); c != 0 {
		return c > 0
	}
	if h.writer != than.writer {
		return h.writer > than.writer
	}
	return h.event.Seq > than.event.Seq
}

// seen is a set of lines: a bit each, in blocks of 64.
type seen map[block]uint64

type block struct {
	writer string
	n      uint64
}

// add reports whether the line was not in the set.
func (s seen) add(writer string, seq uint64) bool {
	at, bit := block{writer, seq / 64}, uint64(1)<<(seq%64)
	if s[at]&bit != 0 {
		return false
	}
	s[at] |= bit
	return true
}
