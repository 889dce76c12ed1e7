// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"fmt"
	"slices"
)

// A Summary is what [VerifyAll] found.
type Summary struct {
	Reports []Report // one a folder, in their order

	// Absent are the newest anchors of the journals that a witness knows and
	// whose folder nobody gave: each is a journal that was deleted as a whole,
	// or that was forgotten in the call.
	Absent []Anchor
}

// Broken reports whether a journal is broken or absent.
func (s *Summary) Broken() bool {
	return len(s.Absent) > 0 || slices.ContainsFunc(s.Reports, func(r Report) bool { return r.Broken() })
}

// Witnessed reports whether each journal's length was confirmed from outside.
func (s *Summary) Witnessed() bool {
	return !slices.ContainsFunc(s.Reports, func(r Report) bool { return !r.Witnessed() })
}

// VerifyAll is [Verify] over the folders of all writers of a system. The
// outcome of a write may stand in the journal of another writer than its
// attempt; here it is found there. cfg.Verifier may hold one key a folder, a
// line each; cfg.Anchors is the roster: a journal that a witness knows and
// that is not among the folders is reported as absent.
func VerifyAll(ctx context.Context, dirs []string, cfg VerifyConfig) (Summary, error) {
	var all []*verification
	known := make(map[string]string) // origin -> folder
	for _, dir := range dirs {
		v, err := verify(ctx, dir, cfg)
		if err != nil {
			return Summary{}, err
		}
		if other, twice := known[v.report.Origin]; twice {
			return Summary{}, fmt.Errorf("audit: verify %s: it is the journal of %s: give each journal once", dir, other)
		}
		known[v.report.Origin] = dir
		all = append(all, v)
	}
	for _, v := range all {
		for _, o := range v.foreign {
			for _, w := range all {
				if seq, ok := attemptSeq(o.attempt, w.writer); ok {
					w.decide(seq, o, v)
				}
			}
		}
	}
	var s Summary
	for _, v := range all {
		s.Reports = append(s.Reports, v.finish())
	}
	for _, a := range cfg.Anchors {
		if _, ok := known[a.Origin]; ok {
			continue
		}
		i := slices.IndexFunc(s.Absent, func(b Anchor) bool { return b.Origin == a.Origin })
		switch {
		case i < 0:
			s.Absent = append(s.Absent, a)
		case a.Size > s.Absent[i].Size:
			s.Absent[i] = a
		}
	}
	return s, nil
}
