// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/policy"
	"github.com/part164/part164/access/rbac"
)

// A size is how many users and rules a policy has.
type size struct {
	name         string
	users, rules int
	world        func() *world
}

// decideFigures compare a decision of access/policy with the same decision of
// others, over policies of three sizes. All are asked about a part of the
// requests first, and must agree.
func decideFigures() []figure {
	sizes := []size{{name: "100 users, 100 rules", users: 100, rules: 100}, {name: "10k users, 1k rules", users: 10_000, rules: 1_000}, {name: "100k users, 10k rules", users: 100_000, rules: 10_000}}
	var out []figure
	for i := range sizes {
		s := &sizes[i]
		s.world = sync.OnceValue(func() *world { return newWorld(s.users, s.rules) })
		last := i == len(sizes)-1
		least := func(n float64) goal {
			if !last {
				return goal{}
			}
			return goal{least: n}
		}
		versus := func(name string, g goal, over, under func(*world) (decider, error), overOps, underOps, rounds int) {
			out = append(out, figure{"decision, " + name + ", " + s.name, g, versus(s, over, under, overOps, underOps, rounds)})
		}
		versus("ours / hand-written index", goal{most: 1.5}, ours, hand, requests, requests, 51)
		versus("ours in a scope / hand-written index", goal{most: 1.5}, oursBySubject, hand, requests, requests, 51)
		slow := max(4, 100_000/s.rules)
		versus("Casbin v2 as documented / ours", least(10_000), stock, ours, slow, requests, 9)
		versus("Casbin v2 as documented / ours in a scope", least(10_000), stock, oursBySubject, slow, requests, 9)
		versus("Casbin v2, equalities first / ours", goal{}, tuned, ours, slow, requests, 9)
		versus("Casbin v3 as documented / ours", goal{}, stock3, ours, slow, requests, 9)
		versus("Cedar / ours", goal{}, cedarPolicies, ours, slow, requests, 9)
		versus("OPA / ours", goal{}, opaQuery, ours, 512, requests, 9)
		out = append(out,
			figure{"policy, memory, ours / hand-written index, " + s.name, goal{}, memory(s, ours, hand)},
			figure{"policy, memory, Casbin v2 / ours, " + s.name, goal{}, memory(s, stock, ours)},
			figure{"policy, load, Casbin v2 / ours, " + s.name, goal{}, load(s, stock, ours)},
		)
	}
	small, large := &sizes[0], &sizes[len(sizes)-1]
	return append(out,
		figure{"decision, " + large.name + " / " + small.name, goal{most: 3}, growth(large, small, ours)},
		figure{"decision in a scope, " + large.name + " / " + small.name, goal{most: 3}, growth(large, small, oursBySubject)},
		figure{"decision, allocations, " + large.name, goal{most: 0.5}, allocations(large)},
		figure{"decision, two goroutines' throughput / one's, " + large.name, goal{}, scaling(large)},
		figure{"check of 1,000 records / of one, a record", goal{}, batch},
	)
}

// growth compares the time of a decision in two sizes.
func growth(large, small *size, open func(*world) (decider, error)) func(context.Context, string) (value, error) {
	return func(ctx context.Context, _ string) (value, error) {
		over, err := open(large.world())
		if err != nil {
			return value{}, err
		}
		under, err := open(small.world())
		if err != nil {
			return value{}, err
		}
		return ratio(ctx, 51, asked(over, requests, requests), asked(under, requests, requests))
	}
}

// asked is a side that puts n of a world's requests, and takes the time of one.
func asked(d decider, all, n int) side {
	next := 0
	return func(context.Context) (float64, error) {
		begin := time.Now()
		for range n {
			if _, err := d(next); err != nil {
				return 0, err
			}
			if next++; next == all {
				next = 0
			}
		}
		return float64(time.Since(begin).Nanoseconds()) / float64(n), nil
	}
}

// versus compares the time of a decision.
func versus(s *size, over, under func(*world) (decider, error), overOps, underOps, rounds int) func(context.Context, string) (value, error) {
	return func(ctx context.Context, _ string) (value, error) {
		w := s.world()
		a, err := over(w)
		if err != nil {
			return value{}, err
		}
		b, err := under(w)
		if err != nil {
			return value{}, err
		}
		allowed := 0
		const agree = 40
		for i := range agree {
			x, err1 := a(i)
			y, err2 := b(i)
			if err := errors.Join(err1, err2); err != nil {
				return value{}, err
			}
			if x != y {
				return value{}, fmt.Errorf("they differ about request %d", i)
			}
			if x {
				allowed++
			}
		}
		if allowed == 0 || allowed == agree {
			return value{}, fmt.Errorf("%d of %d are allowed", allowed, agree)
		}
		return ratio(ctx, rounds, asked(a, requests, overOps), asked(b, requests, underOps))
	}
}

// memory compares what two of them keep, requests left out.
func memory(s *size, over, under func(*world) (decider, error)) func(context.Context, string) (value, error) {
	return func(context.Context, string) (value, error) {
		w := s.world()
		kept := func(open func(*world) (decider, error)) (float64, error) {
			before := heap()
			d, err := open(w)
			if err != nil {
				return 0, err
			}
			after := heap()
			runtime.KeepAlive(d)
			return max(1, float64(after)-float64(before)), nil
		}
		a, err := kept(over)
		if err != nil {
			return value{}, err
		}
		b, err := kept(under)
		if err != nil {
			return value{}, err
		}
		return value{median: a / b, best: a / b}, nil
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// load compares how long two of them take from rows to the first decision.
func load(s *size, over, under func(*world) (decider, error)) func(context.Context, string) (value, error) {
	return func(ctx context.Context, _ string) (value, error) {
		w := s.world()
		opened := func(open func(*world) (decider, error)) side {
			return timed(1, func(context.Context) error {
				d, err := open(w)
				if err == nil {
					_, err = d(0)
				}
				return err
			})
		}
		return ratio(ctx, 3, opened(over), opened(under))
	}
}

// allocations counts those of a decision, by the request's strings and in a
// scope.
func allocations(s *size) func(context.Context, string) (value, error) {
	return func(context.Context, string) (value, error) {
		w := s.world()
		most := 0.0
		for _, open := range []func(*world) (decider, error){ours, oursBySubject} {
			d, err := open(w)
			if err != nil {
				return value{}, err
			}
			n := 0
			most = max(most, testing.AllocsPerRun(requests, func() {
				if _, err := d(n % requests); err != nil {
					panic(err)
				}
				n++
			}))
		}
		return value{median: most, best: most, unit: " a decision"}, nil
	}
}

// scaling compares the throughput of two goroutines with that of one.
func scaling(s *size) func(context.Context, string) (value, error) {
	return func(ctx context.Context, _ string) (value, error) {
		if runtime.GOMAXPROCS(0) < 2 {
			return value{}, absent("there is one core")
		}
		w := s.world()
		p, err := policy.Compile(policy.Config{Model: worldModel, Rows: w.rows()})
		if err != nil {
			return value{}, err
		}
		rate := func(goroutines int) side {
			return func(context.Context) (float64, error) {
				const each = 100_000
				var wg sync.WaitGroup
				errs := make([]error, goroutines)
				begin := time.Now()
				for g := range goroutines {
					wg.Go(func() {
						for i := range each {
							r := &w.requests[(i+g*requests/2)%requests]
							if _, err := p.Decide(r[0], r[1], r[2], r[3]); err != nil {
								errs[g] = err
							}
						}
					})
				}
				wg.Wait()
				return float64(goroutines*each) / time.Since(begin).Seconds(), errors.Join(errs...)
			}
		}
		return ratio(ctx, 21, rate(2), rate(1))
	}
}

// batch compares a record of a check of 1,000 with a check of one.
func batch(ctx context.Context, _ string) (value, error) {
	e := rbac.Starter()
	scoped := access.With(ctx, access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}}, access.Treatment)
	check := func(n int) side {
		req := access.Request{Action: access.Read}
		for range n {
			req.Resources = append(req.Resources, access.Resource{Type: "patient", Tenant: "t-1"})
		}
		return func(context.Context) (float64, error) {
			const records = 100_000
			begin := time.Now()
			for range records / n {
				if d, err := e.Check(scoped, req); err != nil || !d.AllowAll(n) {
					return 0, errors.Join(err, errors.New("it is denied"))
				}
			}
			return float64(time.Since(begin).Nanoseconds()) / records, nil
		}
	}
	return ratio(ctx, 21, check(1000), check(1))
}
