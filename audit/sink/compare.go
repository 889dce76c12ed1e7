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
	Writer string // empty where it cannot be told which event it is of
	Seq    uint64
	Leaf   [32]byte // RFC 6962 leaf hash of the bytes that the receiver has: computed, not believed
	Where  string   // where the receiver has it, such as "line 3": it names a copy without a Writer
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
	Event   string  `json:"event"` // its ID; Copy.Where of a copy that cannot be told to be of any
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
	emptyTries  = 8 // where there is nothing at all: Open ends with a checkpoint
)

// Compare holds the journal in dir against what a receiver has of it: copies
// yields the receiver's, in any order. passed is how far the sink is ([audit.Cursors]);
// what lies behind it counts as pending. The zero Position compares everything.
//
// Copies of other writers, and of events that a purge has removed from the
// journal, are passed over; one without a writer is different. It keeps some 100
// bytes a copy in memory. The journal may be in use: where the receiver is ahead
// of what is known to be durable, Compare waits a few seconds for it.
//
// A journal in which no event can be read, or that ends before passed, is an
// [audit.CorruptError], and so is what is damaged.
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
		if c.Writer == "" {
			out.Copies++
			add(Different, c.Where)
			continue
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
	var first, last audit.Position
	var purged uint64 // lines that the journal says it has purged
	read := func() error {
		for l, err := range audit.Read(ctx, dir, last) {
			if err != nil {
				return err
			}
			if last.Writer == "" {
				first = l.Position
			}
			last = l.Position
			if l.Purge != nil {
				purged = l.Purge.Size
			}
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
		if last.Writer == "" || passed.Seq > last.Seq {
			return true
		}
		for seq := range byWriter[last.Writer] {
			if seq > last.Seq {
				return true
			}
		}
		return false
	}
	for try := range settleTries {
		if !ahead() || last.Writer == "" && try == emptyTries {
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
	switch {
	case last.Writer == "": // every journal has the event of its Open
		return fail(&audit.CorruptError{File: "the journal", Problem: "no event can be read in it: it was emptied"})
	case passed.Seq > last.Seq:
		return fail(&audit.CorruptError{File: "the journal", Seq: last.Seq, Problem: fmt.Sprintf("it ends before sequence %d, which the sink has passed: its tail was cut off, or it was set back to a copy", passed.Seq)})
	}
	var extra []uint64
	for seq, h := range byWriter[last.Writer] {
		if h.n > 0 && (seq >= first.Seq || seq >= purged) {
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
