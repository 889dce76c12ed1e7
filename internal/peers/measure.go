// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A value is what came out of the rounds of one figure. Of a ratio, median is
// that of the rounds' ratios, and best the ratio of the two sides' best rounds,
// which a busy machine disturbs least. Of a time, best is the shortest, and worst
// the longest.
type value struct {
	median, best float64
	worst        float64 // 0 where it says nothing
	unit         string  // empty for a ratio
}

func (v value) String() string {
	if v.worst > 0 {
		return fmt.Sprintf("%.2f%s (best %.2f%s, worst %.2f%s)", v.median, v.unit, v.best, v.unit, v.worst, v.unit)
	}
	return fmt.Sprintf("%.2f%s (best %.2f%s)", v.median, v.unit, v.best, v.unit)
}

// absent says why a figure could not be measured on this machine, such as a
// program that is not installed. It is no failure, and no verdict either.
type absent string

func (a absent) Error() string { return string(a) }

// A goal bounds the median. The zero goal asks for nothing.
type goal struct {
	most, least float64
}

func (g goal) String() string {
	switch {
	case g.most > 0:
		return fmt.Sprintf("<= %.2f", g.most)
	case g.least > 0:
		return fmt.Sprintf(">= %.2f", g.least)
	}
	return "-"
}

func (g goal) verdict(v value) string {
	if g.most > 0 && v.median > g.most || g.least > 0 && v.median < g.least {
		return "short"
	}
	return "ok"
}

// A side is one of the two things compared: it does its work once and returns
// how much of something that took, such as nanoseconds.
type side func(ctx context.Context) (float64, error)

// ratio runs both sides in turns, rounds times, and compares what they return
// round by round: over / under. One round more goes before, and does not count.
// Who goes first changes from round to round.
func ratio(ctx context.Context, rounds int, over, under side) (value, error) {
	sides := [2]side{over, under}
	took := [2][]float64{}
	for round := range rounds + 1 {
		for turn := range sides {
			which := (round + turn) % 2
			if err := ctx.Err(); err != nil {
				return value{}, err
			}
			v, err := sides[which](ctx)
			switch {
			case err != nil:
				return value{}, err
			case v <= 0:
				return value{}, errors.New("a round took no time at all")
			case round > 0:
				took[which] = append(took[which], v)
			}
		}
	}
	ratios := make([]float64, rounds)
	for i := range ratios {
		ratios[i] = took[0][i] / took[1][i]
	}
	return value{median: median(ratios), best: slices.Min(took[0]) / slices.Min(took[1])}, nil
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

// timed makes a side of f, which it runs n times.
func timed(n int, f func(ctx context.Context) error) side {
	return func(ctx context.Context) (float64, error) {
		begin := time.Now()
		for range n {
			if err := f(ctx); err != nil {
				return 0, err
			}
		}
		return float64(time.Since(begin).Nanoseconds()), nil
	}
}
