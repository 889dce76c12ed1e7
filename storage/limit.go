// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

const (
	searchesAnHour = 300    // by one principal, where Config.SearchLimits says nothing
	searchWarning  = 0.8    // of the limit: from there on each search is recorded with the reason limit
	maxSearchers   = 10_000 // principals whose searches are counted; of more, the longest idle is forgotten
)

// searchers counts the searches of each principal in the last hour.
type searchers struct {
	mu sync.Mutex
	by map[searcher]*searches
}

type searcher struct{ tenant, id string }

func searcherOf(who access.Principal) searcher { return searcher{who.Tenant, who.ID} }

// searches is how many there were in each of the last 60 minutes.
type searches struct {
	minutes [60]int32
	last    int64 // minute of the last search or refusal, since 1970
	told    int64 // minute of the last duplicate
	refused int   // since it was last below the limit
	warned  bool
}

// A searchState says how a search stands to its limit.
type searchState struct {
	warning bool // it is near
	first   bool // ... for the first time since it was not
	refused int  // it is over: how often by now
}

// add counts one search, unless there are as many as the limit already.
func (s *searchers) add(who searcher, limit int, now time.Time) searchState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of(who).add(limit, now)
}

// told is add for a duplicate.
func (s *searchers) told(who searcher, limit int, now time.Time) searchState {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.of(who)
	st := c.add(limit, now)
	c.told = c.last
	return st
}

// barred counts a refusal where there was a duplicate in the last hour and there
// are as many searches as the limit.
func (s *searchers) barred(who searcher, limit int, now time.Time) searchState {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.by[who]
	if !ok || c.sum(now) < limit || c.last-c.told >= 60 {
		return searchState{}
	}
	c.refused++
	return searchState{refused: c.refused}
}

// sum is how many searches there were in the hour until now.
func (c *searches) sum(now time.Time) (sum int) {
	if minute := now.Unix() / 60; minute > c.last { // a clock set back changes nothing
		for m := max(c.last+1, minute-59); m <= minute; m++ {
			c.minutes[m%60] = 0
		}
		c.last = minute
	}
	for _, n := range c.minutes {
		sum += int(n)
	}
	return sum
}

func (c *searches) add(limit int, now time.Time) searchState {
	sum := c.sum(now)
	if sum >= limit {
		c.refused++
		return searchState{refused: c.refused}
	}
	c.minutes[c.last%60]++
	c.refused = 0
	st := searchState{warning: float64(sum+1) >= searchWarning*float64(limit)}
	st.first = st.warning && !c.warned
	c.warned = st.warning
	return st
}

func (s *searchers) of(who searcher) *searches {
	if c, ok := s.by[who]; ok {
		return c
	}
	if len(s.by) >= maxSearchers {
		var idle searcher
		oldest := int64(1<<63 - 1)
		for k, c := range s.by {
			if c.last < oldest {
				idle, oldest = k, c.last
			}
		}
		delete(s.by, idle)
	}
	c := &searches{}
	if s.by == nil {
		s.by = map[searcher]*searches{}
	}
	s.by[who] = c
	return c
}

// limit counts the search of a statement, and refuses and records it where the
// principal has made as many as its roles may in an hour.
func (p *plugin) limit(ctx context.Context, m *model, q *search) error {
	if len(q.fields) == 0 {
		return nil
	}
	scope, err := access.From(ctx)
	if err != nil {
		return err
	}
	who := scope.Principal()
	most := p.searchLimit(who.Roles)
	st := p.searchers.add(searcherOf(who), most, p.now())
	for i := 1; i < q.matches && st.refused == 0; i++ { // each Match is a search
		first := st.first
		st = p.searchers.add(searcherOf(who), most, p.now())
		st.first = st.first || first
	}
	q.warn = st.warning
	return p.counted(ctx, m, q.fields, who, most, st)
}

// counted warns where the limit is near, and returns and records the refusal
// where it is reached.
func (p *plugin) counted(ctx context.Context, m *model, fields []string, who access.Principal, most int, st searchState) error {
	switch {
	case st.first:
		p.cfg.Log.Warn("searches near their limit", zap.String("principal", who.ID), zap.String("tenant", who.Tenant), zap.Int("limit", most))
	case st.refused > 0:
		err := fmt.Errorf("storage: search %s: %w: %d in an hour: wait, or raise Config.SearchLimits for the role", m.table, ErrSearchLimit, most)
		if st.refused&(st.refused-1) != 0 {
			return err // recorded at the 1st, 2nd, 4th, 8th ... in a row, so that a loop floods nothing
		}
		_, rerr := p.cfg.Audit.Record(ctx, audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonLimit, Action: access.Search, Count: st.refused,
			Objects: []audit.Object{{Type: m.name, Fields: fields}}})
		if rerr != nil {
			return fmt.Errorf("%w; %w", err, rerr)
		}
		return err
	}
	return nil
}

// searchLimit is the highest limit that one of the roles has.
func (p *plugin) searchLimit(roles []string) int {
	most, named := 0, false
	for _, r := range roles {
		if n, ok := p.cfg.SearchLimits[r]; ok {
			most, named = max(most, n), true
		}
	}
	if named {
		return most
	}
	if n, ok := p.cfg.SearchLimits[""]; ok {
		return n
	}
	return searchesAnHour
}

// reason is what the search is recorded with.
func (q *search) reason() audit.Reason {
	if q.warn {
		return audit.ReasonLimit
	}
	return audit.ReasonNone
}
