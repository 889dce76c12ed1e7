// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/part164/part164/audit"
)

// A Copy is one event as a receiver has it.
type Copy struct {
	Writer string
	Seq    uint64
	Leaf   [32]byte // RFC 6962 leaf hash of the bytes that the receiver has: computed, not believed
}

// A Finding says how a receiver's copies are not what the journal holds.
type Finding string

// The findings.
const (
	Missing   Finding = "missing"   // the journal has it, and the receiver does not
	Extra     Finding = "extra"     // the receiver has it, and the journal does not
	Different Finding = "different" // both have it, with other bytes
	Repeated  Finding = "repeated"  // the receiver has it more than once: no loss, and worth knowing
)

// A Difference is one event that is not the same on both sides.
type Difference struct {
	Finding Finding `json:"finding"`
	Event   string  `json:"event"` // its ID
}

// A Comparison is what [Compare] found.
type Comparison struct {
	Journal int // events of the journal that were held against copies
	Copies  int // copies that were looked at
	Pending int // events behind the sink's cursor: not delivered yet, and no difference

	// Differences are in the order of the journal, then the extra ones. After
	// the first 1,000 no more are listed, and More counts them.
	Differences []Difference
	More        int
}

// OK reports whether nothing is missing, extra or different.
func (c *Comparison) OK() bool {
	return c.More == 0 && !slices.ContainsFunc(c.Differences, func(d Difference) bool { return d.Finding != Repeated })
}

const (
	maxDifferences = 1000

	// A journal in use tells that an event is durable with its next checkpoint,
	// a second later by default, and later than that on a loaded disk.
	settleTries = 40
	settlePause = 250 * time.Millisecond
)

// Compare holds the journal in dir against what a receiver has of it: copies
// yields the receiver's, in any order. passed is how far the sink is ([audit.Cursors]);
// what lies behind it counts as pending. The zero Position compares everything.
//
// Copies of other writers, and of events that a purge has removed from the
// journal, are passed over. It keeps some 100 bytes a copy in memory. The journal may be in use:
// where the receiver is ahead of what is known to be durable, Compare waits a
// few seconds for it.
func Compare(ctx context.Context, dir string, passed audit.Position, copies iter.Seq2[Copy, error]) (Comparison, error) {
	var out Comparison
	fail := func(err error) (Comparison, error) { return out, fmt.Errorf("audit: compare %s: %w", dir, err) }
	add := func(f Finding, id string) {
		if len(out.Differences) == maxDifferences {
			out.More++
			return
		}
		out.Differences = append(out.Differences, Difference{f, id})
	}
	type have struct {
		leaf [32]byte
		n    int
		bad  bool
	}
	byWriter := make(map[string]map[uint64]*have)
	for c, err := range copies {
		if err != nil {
			return fail(err)
		}
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
		of := byWriter[c.Writer]
		if of == nil {
			of = make(map[uint64]*have)
			byWriter[c.Writer] = of
		}
		h := of[c.Seq]
		if h == nil {
			h = &have{leaf: c.Leaf}
			of[c.Seq] = h
		}
		h.n++
		h.bad = h.bad || h.leaf != c.Leaf
	}
	var first audit.Position
	var last audit.Position
	read := func() error {
		for l, err := range audit.Read(ctx, dir, last) {
			if err != nil {
				return err
			}
			if last.Writer == "" {
				first = l.Position
			}
			last = l.Position
			h := byWriter[last.Writer][last.Seq]
			if passed.Writer != "" && last.Seq > passed.Seq && h == nil {
				out.Pending++
				continue
			}
			out.Journal++
			switch {
			case h == nil:
				add(Missing, l.ID)
				continue
			case h.bad || h.leaf != l.Leaf:
				add(Different, l.ID)
			case h.n > 1:
				add(Repeated, l.ID)
			}
			out.Copies += h.n
			h.n = 0 // seen
		}
		return nil
	}
	if err := read(); err != nil {
		return fail(err)
	}
	ahead := func() bool {
		for seq := range byWriter[last.Writer] {
			if seq > last.Seq {
				return true
			}
		}
		return false
	}
	for range settleTries {
		if !ahead() {
			break
		}
		select {
		case <-time.After(settlePause):
		case <-ctx.Done():
			return fail(ctx.Err())
		}
		if err := read(); err != nil {
			return fail(err)
		}
	}
	var extra []uint64
	for seq, h := range byWriter[last.Writer] {
		if h.n > 0 && (first.Segment == 1 || seq >= first.Seq) { // before that lies what was purged
			extra = append(extra, seq)
			out.Copies += h.n
		}
	}
	slices.Sort(extra)
	for _, seq := range extra {
		add(Extra, fmt.Sprintf("%s.%d", last.Writer, seq))
	}
	return out, nil
}
