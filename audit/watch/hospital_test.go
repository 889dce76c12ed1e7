// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/watch"
	"github.com/part164/part164/audit/watchtest"
)

// A hospital is a synthetic one: ninety days of work by 60 people on 3,000
// patients, with incidents in it that are labelled with the rule that should
// find them. Everything comes from one seed.
//
// What is assumed, and nothing is measured: units of six colleagues, each with a
// panel of 50 patients; one access in sixty is for somebody else's patient, 85
// in 100 of these of the unit's; three people float, and every fourth of their
// patients is anybody's; for three of four such accesses the order book has a
// reason. Some patients are of public interest (1 in 150), of the workforce (1
// in 50), of one's surname (1 in 97) or household.
type hospital struct {
	rand      *rand.Rand
	relations *watchtest.Fake
	events    []audit.Stored
	labels    map[string]watch.Rule // event ID to the rule that should fire
	why       map[string]watch.Explanation
	seq       uint64
}

const (
	staff, patients = 60, 3000
	days            = 90
	unit            = 6  // colleagues
	learnt          = 30 // of them nobody is alerted
)

func (h *hospital) add(at time.Time, actor int, typ audit.Type, purpose access.Purpose, who ...int) string {
	id := fmt.Sprintf("j0123456789abcdef0123456789abcdef.%d", h.seq)
	ev := audit.Stored{ID: id, Seq: h.seq, Time: at, Type: typ, Outcome: audit.Success, Purpose: purpose,
		Actor: access.Principal{ID: fmt.Sprintf("u-%d", actor), Tenant: "t-1", Kind: access.Human}}
	h.seq++
	for _, p := range who {
		ev.Objects = append(ev.Objects, audit.Object{Type: "patient", Tenant: "t-1", Record: name(p), Patient: name(p)})
	}
	if typ == audit.SignInFailed {
		ev.Outcome = audit.Failure
	}
	h.events = append(h.events, ev)
	return id
}

func name(p int) string { return fmt.Sprintf("p%d", p) }

func (h *hospital) incident(rule watch.Rule, events ...string) {
	for _, e := range events {
		h.labels[e] = rule
	}
}

// panel are the patients of an actor: those that work brings.
func panel(actor int) (first, n int) { return actor * (patients / staff), patients / staff }

func newHospital(seed uint64) *hospital {
	h := &hospital{rand: rand.New(rand.NewPCG(seed, 164)), relations: new(watchtest.Fake), labels: map[string]watch.Rule{}, why: map[string]watch.Explanation{}}
	set := func(actor, patient int, r watch.Relation) {
		h.relations.Set("t-1", fmt.Sprintf("u-%d", actor), name(patient), r)
	}
	for a := range staff {
		own, n := panel(a)
		for p := range patients {
			with := p / n
			rel := watch.Relation{Care: p >= own && p < own+n, Unit: with/unit == a/unit, VIP: p%150 == 3, Staff: p%50 == 7, SameSurname: p%97 == a, SameHousehold: p%1000 == a+500}
			if rel.Care {
				rel.SameHousehold = false // nobody treats their own
			}
			if rel != (watch.Relation{}) {
				set(a, p, rel)
			}
		}
	}
	begin := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC) // a Monday
	at := func(day, hour int) time.Time {
		return begin.AddDate(0, 0, day).Add(time.Duration(hour)*time.Hour + time.Duration(h.rand.IntN(3600))*time.Second)
	}
	for day := range days {
		for a := range staff {
			shift := 8
			if a%6 == 5 {
				shift = 20 // the night shift
			}
			if begin.AddDate(0, 0, day).Weekday() == time.Sunday || h.rand.IntN(8) == 0 || a == 33 && day > 10 {
				continue
			}
			if h.rand.IntN(10) == 0 { // mistypes
				for range 1 + h.rand.IntN(3) {
					h.add(at(day, shift), a, audit.SignInFailed, "")
				}
			}
			h.add(at(day, shift), a, audit.SignIn, "")
			first, n := panel(a)
			for range 10 + h.rand.IntN(20) {
				p := first + h.rand.IntN(n)
				h.add(at(day, shift+h.rand.IntN(9)), a, audit.Revealed, access.Treatment, p)
				if floats := a >= 52 && a%2 == 0 && a < 58; floats && h.rand.IntN(4) == 0 || h.rand.IntN(60) == 0 { // covers for somebody: in order
					p = h.rand.IntN(patients)
					if !floats && h.rand.IntN(100) < 85 {
						p = a/unit*unit*n + h.rand.IntN(unit*n)
					}
					id := h.add(at(day, shift+h.rand.IntN(9)), a, audit.Revealed, access.Treatment, p)
					if h.rand.IntN(4) > 0 { // but mostly the order book does
						h.why[id] = []watch.Explanation{watch.Appointment, watch.Order, watch.Message, watch.SameUnit}[h.rand.IntN(4)]
					}
				}
			}
			if h.rand.IntN(25) == 0 { // works late, now and then
				h.add(at(day, shift+10), a, audit.Revealed, access.Treatment, first)
			}
			if a == 7 { // billing lists its panel every day: busy is usual for it
				for k := range 2 {
					var list []int
					for p := range 70 {
						list = append(list, (day*70+k*35+p)%patients)
					}
					h.add(at(day, 11+k), a, audit.Fetched, access.Payment, list...)
				}
			}
		}
	}
	// The incidents, after the time that is learnt.
	other := func(a int) int {
		for {
			p := h.rand.IntN(patients)
			if first, n := panel(a); p < first || p >= first+n {
				return p
			}
		}
	}
	for i := range 12 {
		day := learnt + 2 + i*4
		a := 1 + i*2
		for _, k := range []struct {
			rule watch.Rule
			rel  watch.Relation
		}{{watch.VIP, watch.Relation{VIP: true}}, {watch.Coworker, watch.Relation{Staff: true}}, {watch.Surname, watch.Relation{SameSurname: true}},
			{watch.Household, watch.Relation{SameHousehold: true, Care: true}}, {watch.Self, watch.Relation{Self: true}}, {watch.NoRelation, watch.Relation{}}} {
			p := other(a)
			if k.rule != watch.NoRelation {
				set(a, p, k.rel)
			}
			h.incident(k.rule, h.add(at(day, 13), a, audit.Revealed, access.Treatment, p))
		}
		honey := patients + i
		h.relations.Set("t-1", "", name(honey), watch.Relation{Honey: true})
		h.incident(watch.Honey, h.add(at(day, 14), a, audit.Searched, access.Treatment, honey))
		var bulk, export []int
		for k := range 150 {
			bulk = append(bulk, (i*150+k)%patients)
		}
		var ids []string // a few at a time, in half an hour, for payment: no relation is asked for
		for k := 0; k < len(bulk); k += 10 {
			ids = append(ids, h.add(begin.AddDate(0, 0, day+1).Add(15*time.Hour+time.Duration(k)*10*time.Second), a, audit.Revealed, access.Payment, bulk[k:k+10]...))
		}
		h.incident(watch.Bulk, ids...)
		for k := range 600 {
			export = append(export, first(a)+k%(patients/staff))
		}
		h.incident(watch.Export, h.add(at(day+2, 12), a, audit.Fetched, access.Operations, export...))
		h.incident(watch.OffHours, h.add(at(day+3, 3), 2+i*6%48, audit.Revealed, access.Treatment, first(2+i*6%48)))
		fails := begin.AddDate(0, 0, day).Add(18 * time.Hour)
		for k := range 6 {
			h.add(fails.Add(time.Duration(k)*time.Minute), a, audit.SignInFailed, "")
		}
		h.incident(watch.SignIn, h.add(fails.Add(7*time.Minute), a, audit.SignIn, ""))
		glass := h.add(at(day, 10), a, audit.Revealed, access.BreakGlass, first(a))
		if i%2 == 0 {
			h.incident(watch.BreakGlass, glass)
		} else { // the other half is reviewed the day after
			h.add(at(day+1, 10), 50, audit.Reviewed, access.Compliance)
			h.events[len(h.events)-1].About = glass
		}
	}
	h.incident(watch.Dormant, h.add(at(80, 9), 33, audit.SignIn, ""))
	h.add(at(50, 12), 0, audit.Gap, "")
	h.events[len(h.events)-1].Actor, h.labels[h.events[len(h.events)-1].ID] = access.Principal{}, watch.TrailGap
	h.add(at(51, 12), 0, audit.ClockOff, "")
	h.events[len(h.events)-1].Actor, h.labels[h.events[len(h.events)-1].ID] = access.Principal{}, watch.ClockOff
	slices.SortStableFunc(h.events, func(a, b audit.Stored) int { return a.Time.Compare(b.Time) })
	for i := range h.events {
		h.events[i].Seq = uint64(i)
	}
	return h
}

func first(actor int) int { n, _ := panel(actor); return n }

// Explain implements [watch.Explainer].
func (h *hospital) Explain(_ context.Context, a watch.Alert) (watch.Explanation, error) {
	return h.why[a.Event], nil
}
