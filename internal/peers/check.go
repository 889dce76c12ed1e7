// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/pdp"
)

// tableRequests is how many requests are put to a clinic in a database.
const tableRequests = 512

// A housing says where a clinic keeps what decisions rest on.
type housing struct {
	name  string
	asked int // how many of a world's requests are put
	open  func(ctx context.Context, w *world, dir string) (*clinic, error)
}

// checkFigures are about the full Check: a decision point with the policy,
// relations, directives, separation of duties and grants, asked in a scope of its
// own each time, as an HTTP request does.
func checkFigures() []figure {
	sizes := []size{{name: "100 users, 100 rules", users: 100, rules: 100}, {name: "10k users, 1k rules", users: 10_000, rules: 1_000}, {name: "100k users, 10k rules", users: 100_000, rules: 10_000}}
	for i := range sizes {
		s := &sizes[i]
		s.world = sync.OnceValue(func() *world { return newWorld(s.users, s.rules) })
	}
	small, large := &sizes[0], &sizes[len(sizes)-1]
	var out []figure
	for _, h := range []housing{{"in memory", requests, inMemory}, {"SQLite", tableRequests, inSQLite}} {
		for i := range sizes[1:] {
			s := &sizes[1+i]
			out = append(out, figure{"full Check, " + h.name + ", " + s.name + " / " + small.name, goal{most: 3}, h.growth(s, small)})
		}
		out = append(out, figure{"full Check, " + h.name + ", a record of 1,000 at once / of 1,000 one by one", goal{}, h.batch(large)})
	}
	return append(out, figure{"full Check, in memory, two goroutines' throughput / one's", goal{}, checkScaling(large)})
}

// question is the n-th request of the clinic's world: who asks, and what. One in
// four is about a patient of somebody else, and half of those of somebody with a grant
// about what that allows.
func (c *clinic) question(n int) (access.Principal, access.Request) {
	r := &c.world.requests[n]
	user := userID(r[0])
	patient := patientID(user, n%(patients+1))
	if n%(patients+1) == patients {
		patient = patientID("u-other", 0)
	}
	typ, action := r[2], r[3]
	if rule := c.lent[user]; rule != nil && n%2 == 1 {
		typ, action = rule[2], rule[3]
	}
	return access.Principal{ID: user, Tenant: r[1], Kind: access.Human},
		access.Request{Action: access.Action(action), Resources: []access.Resource{{Type: typ, ID: c.notes[user], Patient: patient, Tenant: r[1]}}}
}

// check asks the n-th question in a scope of its own.
func (c *clinic) check(ctx context.Context, n int) (access.Verdict, error) {
	who, req := c.question(n)
	d, err := c.point.Check(access.With(ctx, who, access.Treatment), req)
	if err != nil || len(d.Verdicts) != 1 {
		return access.Verdict{}, errors.Join(err, errors.New("no verdict"))
	}
	return d.Verdicts[0], nil
}

// verified asks each question once: every stage of the decision must have denied
// some, and both a rule and a grant allowed some.
func (c *clinic) verified(ctx context.Context, asked int) error {
	seen := make(map[access.Code]int)
	for n := range asked {
		v, err := c.check(ctx, n)
		if err != nil {
			return err
		}
		seen[v.Code]++
	}
	for _, code := range []access.Code{access.AllowRule, access.AllowGrant, access.DenyNoRule, access.DenySubject, access.DenyRestriction, access.DenyDuty} {
		if seen[code] == 0 {
			return fmt.Errorf("of %d questions none is answered by %s: %v", asked, code, seen)
		}
	}
	return nil
}

// asking is a side that puts n of the first questions, and takes the time of one.
func (c *clinic) asking(all, n int) side {
	next := 0
	return func(ctx context.Context) (float64, error) {
		begin := time.Now()
		for range n {
			if _, err := c.check(ctx, next); err != nil {
				return 0, err
			}
			next = (next + 1) % all
		}
		return float64(time.Since(begin).Nanoseconds()) / float64(n), nil
	}
}

// growth compares the time of a Check in two sizes.
func (h housing) growth(large, small *size) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (_ value, err error) {
		var sides []side
		for i, s := range []*size{large, small} {
			c, err := h.open(ctx, s.world(), fmt.Sprintf("%s/%d", dir, i))
			if err != nil {
				return value{}, err
			}
			defer func() { err = errors.Join(err, c.close()) }()
			if err := c.verified(ctx, h.asked); err != nil {
				return value{}, err
			}
			sides = append(sides, c.asking(h.asked, min(h.asked, 2048)))
		}
		return ratio(ctx, 31, sides[0], sides[1])
	}
}

// batch compares one Check of 1,000 records with 1,000 of one.
func (h housing) batch(s *size) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (_ value, err error) {
		c, err := h.open(ctx, s.world(), dir)
		if err != nil {
			return value{}, err
		}
		defer func() { err = errors.Join(err, c.close()) }()
		allowed := -1
		for n := range h.asked {
			v, err := c.check(ctx, n)
			if err != nil {
				return value{}, err
			}
			if v.Code == access.AllowRule && n%(patients+1) == 0 {
				allowed = n
				break
			}
		}
		if allowed < 0 {
			return value{}, errors.New("no question is allowed")
		}
		who, req := c.question(allowed)
		r := req.Resources[0]
		req.Resources = make([]access.Resource, 1000)
		for i := range req.Resources {
			r.ID = fmt.Sprintf("n-batch-%d", i)
			req.Resources[i] = r
		}
		return ratio(ctx, 9, timed(1, c.allows(who, req, len(req.Resources))), timed(1, c.allows(who, req, 1)))
	}
}

// allows checks all resources of a request, so many at once, each time in a scope
// of its own.
func (c *clinic) allows(who access.Principal, req access.Request, at int) func(context.Context) error {
	return func(ctx context.Context) error {
		for from := 0; from < len(req.Resources); from += at {
			part := access.Request{Action: req.Action, Resources: req.Resources[from : from+at]}
			d, err := c.point.Check(access.With(ctx, who, access.Treatment), part)
			if err != nil || !d.AllowAll(at) {
				return errors.Join(err, errors.New("it is denied"))
			}
		}
		return nil
	}
}

// checkScaling compares the throughput of two goroutines with that of one.
func checkScaling(s *size) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (_ value, err error) {
		if runtime.GOMAXPROCS(0) < 2 {
			return value{}, absent("there is one core")
		}
		c, err := inMemory(ctx, s.world(), dir)
		if err != nil {
			return value{}, err
		}
		rate := func(goroutines int) side {
			return func(ctx context.Context) (float64, error) {
				const each = 4096
				var wg sync.WaitGroup
				errs := make([]error, goroutines)
				begin := time.Now()
				for g := range goroutines {
					wg.Go(func() {
						for i := range each {
							if _, err := c.check(ctx, (i+g*requests/2)%requests); err != nil {
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

// patients is how many each user cares for.
const patients = 3

func userID(name string) string { return strings.Replace(name, ":", "-", 1) }

func roleID(name string) string { return "role-" + strings.TrimPrefix(name, "r:") }

func patientID(user string, n int) string { return fmt.Sprintf("p-%s-%d", user, n) }

// A clinic is a world whose users care for patients, with its decision point.
type clinic struct {
	world *world
	point *pdp.Point
	notes map[string]string   // the note of each user
	lent  map[string][]string // a rule of the role that a user has by a grant
	close func() error
}
