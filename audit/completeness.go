// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// An Anchor is a journal's length and root as somebody outside saw them.
// Package audit/witness gets them from witnesses, and checks their
// signatures; [Verify] holds a journal against them.
type Anchor struct {
	Origin string            `json:"origin"` // of the journal, as in [Report]
	Size   uint64            `json:"size"`   // lines
	Root   [sha256.Size]byte `json:"-"`      // RFC 6962 root of these lines
	Time   time.Time         `json:"time"`   // when it was seen, by the witness's clock
	By     string            `json:"by"`     // the witness
}

// A Length says whether a journal is as long as outsiders have seen it. The
// zero Length is Unwitnessed.
type Length string

// The verdicts on a journal's length.
const (
	// Unwitnessed: nobody outside has seen the journal. A tail that was cut
	// off does not show.
	Unwitnessed Length = ""

	// Witnessed: the newest anchor's lines are all there and are the ones that
	// it saw. Of what came after it a tail that was cut off does not show.
	Witnessed Length = "witnessed"

	// Truncated: the journal is shorter than a witness saw it. Its tail was
	// cut off, or the folder was set back to an older copy.
	Truncated Length = "truncated"

	// Forked: the journal is long enough, and not the one that a witness saw:
	// it was set back and went on, or was rewritten by whoever has its signing
	// key; or two were made of one.
	Forked Length = "forked"

	// Undecided: the lines that the anchor saw are damaged or purged, so that
	// it can be compared with nothing.
	Undecided Length = "undecided"
)

// A Completeness is the verdict on a journal's length, and what it rests on.
type Completeness struct {
	Length  Length
	Anchor  Anchor // the newest one, or the one that the journal contradicts; zero where Unwitnessed
	Agrees  Anchor // where Truncated or Forked: the newest one that the journal agrees with; zero where there is none
	Tail    uint64 // where Witnessed: lines since the anchor, which nobody outside has seen
	Missing uint64 // where Truncated: lines fewer than the anchor saw
}

func (c Completeness) String() string {
	since := func(a Anchor) string {
		if a.Origin == "" {
			return "no witness saw it in this state"
		}
		return fmt.Sprintf("it agrees with %s at %d lines (%s)", a.By, a.Size, a.Time.UTC().Format(time.RFC3339))
	}
	at := c.Anchor.Time.UTC().Format(time.RFC3339)
	switch c.Length {
	case Unwitnessed:
		return "UNWITNESSED: without a witness a tail that was cut off cannot be seen"
	case Witnessed:
		tail := "no line since"
		if c.Tail > 0 {
			tail = fmt.Sprintf("UNWITNESSED tail of %d since", c.Tail)
		}
		return fmt.Sprintf("witnessed at %d lines by %s at %s; %s", c.Anchor.Size, c.Anchor.By, at, tail)
	case Truncated:
		return fmt.Sprintf("TRUNCATED: %d lines are missing that %s saw at %s: the tail was cut off, or the folder set back to a copy; %s",
			c.Missing, c.Anchor.By, at, since(c.Agrees))
	case Forked:
		return fmt.Sprintf("ROLLED BACK or FORKED: the first %d lines are not those that %s saw at %s; %s",
			c.Anchor.Size, c.Anchor.By, at, since(c.Agrees))
	}
	return fmt.Sprintf("UNDECIDED: the first %d lines, which %s saw at %s, are damaged or purged", c.Anchor.Size, c.Anchor.By, at)
}

// holds reports whether the verdict is no defect.
func (c Completeness) holds() bool { return c.Length == Unwitnessed || c.Length == Witnessed }

// anchorsOf returns those of origin, shortest first.
func anchorsOf(all []Anchor, origin string) []Anchor {
	var out []Anchor
	for _, a := range all {
		if a.Origin == origin {
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b Anchor) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), a.Time.Compare(b.Time))
	})
	return out
}

// completeness holds the journal's roots against its anchors. lines is its
// length; roots has those of the sizes that could be computed.
func completeness(anchors []Anchor, lines uint64, roots map[uint64]leaf) Completeness {
	var c Completeness
	for _, a := range anchors {
		root, known := roots[a.Size]
		switch {
		case a.Size > lines:
			return Completeness{Length: Truncated, Anchor: a, Agrees: c.agreed(), Missing: a.Size - lines}
		case known && root != leaf(a.Root):
			return Completeness{Length: Forked, Anchor: a, Agrees: c.agreed()}
		case known:
			c = Completeness{Length: Witnessed, Anchor: a, Tail: lines - a.Size}
		default:
			c = Completeness{Length: Undecided, Anchor: a}
		}
	}
	return c
}

func (c Completeness) agreed() Anchor {
	if c.Length == Witnessed {
		return c.Anchor
	}
	return Anchor{}
}
