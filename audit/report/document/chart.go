// SPDX-License-Identifier: Apache-2.0

package document

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// maxBars is how many bars are told apart on a telephone.
const maxBars = 31

// A Chart counts events of two series over time, as bars: an hour, a day, a
// week, a month, a quarter or a year each, so that there are few enough.
type Chart struct {
	Title  string
	Series [2]string

	unit  string // what a bar stands for
	bars  []bar
	times [2][]time.Time
}

type bar struct {
	Label string
	Start time.Time
	N     [2]int
}

// NewChart returns a chart without events, of two series of those names.
func NewChart(title, first, second string) *Chart {
	return &Chart{Title: title, Series: [2]string{first, second}}
}

// Add counts an event, of series 0 or 1.
func (c *Chart) Add(t time.Time, series int) { c.times[series] = append(c.times[series], t.UTC()) }

// A span is what one bar stands for.
type span struct {
	unit, layout string
	start        func(time.Time) time.Time
	next         func(time.Time) time.Time
}

func midnight(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

func spans() []span {
	months := func(n int) (start, next func(time.Time) time.Time) {
		return func(t time.Time) time.Time {
				return time.Date(t.Year(), t.Month()-(t.Month()-1)%time.Month(n), 1, 0, 0, 0, 0, time.UTC)
			}, func(t time.Time) time.Time {
				return t.AddDate(0, n, 0)
			}
	}
	hour := span{"hour", "01-02 15:04", func(t time.Time) time.Time { return t.Truncate(time.Hour) }, func(t time.Time) time.Time { return t.Add(time.Hour) }}
	daily := span{"day", time.DateOnly, midnight, func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }}
	week := span{"week", time.DateOnly, monday, func(t time.Time) time.Time { return t.AddDate(0, 0, 7) }}
	month, quarter, year := span{unit: "month", layout: "2006-01"}, span{unit: "quarter", layout: "2006-01"}, span{unit: "year", layout: "2006"}
	month.start, month.next = months(1)
	quarter.start, quarter.next = months(3)
	year.start, year.next = months(12)
	return []span{hour, daily, week, month, quarter, year}
}

// monday returns the beginning of t's week, as ISO 8601 has it.
func monday(t time.Time) time.Time {
	return midnight(t.AddDate(0, 0, -(int(t.Weekday())+6)%7))
}

// draw counts into bars: the finest for which there are few enough. What is
// older than that many years is in the first bar.
func (c *Chart) draw() {
	all := slices.Concat(c.times[0], c.times[1])
	if len(all) == 0 || len(c.bars) > 0 {
		return
	}
	first, last := slices.MinFunc(all, time.Time.Compare), slices.MaxFunc(all, time.Time.Compare)
	for _, s := range spans() {
		c.unit, c.bars = s.unit, nil
		for t := s.start(first); !t.After(last) && len(c.bars) <= maxBars; t = s.next(t) {
			c.bars = append(c.bars, bar{Label: t.Format(s.layout), Start: t})
		}
		if len(c.bars) <= maxBars {
			break
		}
	}
	for series, times := range c.times {
		for _, t := range times {
			i, exact := slices.BinarySearchFunc(c.bars, t, func(b bar, t time.Time) int { return b.Start.Compare(t) })
			if !exact {
				i--
			}
			c.bars[max(i, 0)].N[series]++
		}
	}
}

// The measures of the drawing, in units of its view box: narrow, so that the
// text can be read on a telephone.
const (
	chartWidth, chartHeight = 400, 220
	chartLeft, chartTop     = 34, 12
	plotWidth, plotHeight   = chartWidth - chartLeft - 6, chartHeight - chartTop - 48
)

// A rect is a piece of a bar.
type rect struct {
	X, Y, W, H float64
	Series     int
	Title      string
}

type tick struct {
	At     float64
	Text   string
	Anchor string
}

// A drawing is what the template makes an SVG image of.
type drawing struct {
	Title, Desc   string
	Width, Height int
	Left, Right   float64
	Bottom, Foot  float64
	Rects         []rect
	Across, Up    []tick
	Series        [2]string
}

func (c *Chart) drawing() drawing {
	c.draw()
	d := drawing{Title: c.Title, Width: chartWidth, Height: chartHeight, Left: chartLeft, Right: chartLeft + plotWidth,
		Bottom: chartTop + plotHeight, Foot: chartHeight - 8, Series: c.Series}
	if len(c.bars) == 0 {
		d.Desc = "There is nothing to draw in the period."
		return d
	}
	total := func(b bar) int { return b.N[0] + b.N[1] }
	highest := slices.MaxFunc(c.bars, func(a, b bar) int { return cmp.Compare(total(a), total(b)) })
	top := round(total(highest))
	sum := [2]int{}
	width := float64(plotWidth) / float64(max(len(c.bars), 7))
	for i, b := range c.bars {
		y := d.Bottom
		for series, n := range b.N {
			sum[series] += n
			if n == 0 {
				continue
			}
			h := float64(plotHeight) * float64(n) / float64(top)
			y -= h
			d.Rects = append(d.Rects, rect{X: chartLeft + float64(i)*width + width*0.12, Y: y, W: width * 0.76, H: h, Series: series,
				Title: fmt.Sprintf("%s: %d %s", b.Label, n, c.Series[series])})
		}
	}
	d.Across = append(d.Across, tick{chartLeft, c.bars[0].Label, "start"})
	if n := len(c.bars); n > 1 {
		at, anchor := chartLeft+(float64(n)-0.5)*width, "middle"
		if n >= 7 {
			at, anchor = d.Right, "end"
		}
		if at-chartLeft > plotWidth/3 {
			d.Across = append(d.Across, tick{at, c.bars[n-1].Label, anchor})
		}
	}
	for _, n := range []int{0, top / 2, top} {
		if n > 0 || len(d.Up) == 0 {
			d.Up = append(d.Up, tick{d.Bottom - float64(plotHeight)*float64(n)/float64(top), fmt.Sprint(n), ""})
		}
	}
	d.Desc = fmt.Sprintf("A bar a %s from %s to %s: %d %s, %d %s. The most in one %s is %d, at %s. The figures stand in a table behind it.",
		c.unit, c.bars[0].Label, c.bars[len(c.bars)-1].Label, sum[0], c.Series[0], sum[1], c.Series[1], c.unit, total(highest), highest.Label)
	return d
}

// round returns the next of 2, 4, 6, 8, 10, 20, 40 …, so that its half is whole.
func round(n int) int {
	for scale := 1; ; scale *= 10 {
		for _, step := range []int{2, 4, 6, 8, 10} {
			if n <= step*scale {
				return step * scale
			}
		}
	}
}

// figures are the chart as a table, for who does not see it.
func (c *Chart) figures() Table {
	c.draw()
	t := Table{Caption: "The figures of the chart", Columns: []string{"From", c.Series[0], c.Series[1]}, Empty: "There are none.", plain: true}
	for _, b := range c.bars {
		if b.N[0]+b.N[1] > 0 {
			t.Rows = append(t.Rows, []string{b.Label, fmt.Sprint(b.N[0]), fmt.Sprint(b.N[1])})
		}
	}
	return t
}
