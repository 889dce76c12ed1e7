// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestRatioComparesRoundByRoundInTurns(t *testing.T) {
	t.Parallel()
	var order []string
	// the first of each is the round that does not count
	say := func(name string, took ...float64) side {
		return func(context.Context) (float64, error) {
			order = append(order, name)
			v := took[0]
			took = took[1:]
			return v, nil
		}
	}
	v, err := ratio(t.Context(), 3, say("a", 100, 2, 8, 3), say("b", 1, 1, 2, 3))
	if err != nil {
		t.Fatal(err)
	}
	if want := (value{median: 2, best: 2}); v != want { // of 2, 4 and 1; of 2/1
		t.Errorf("ratio = %+v, want %+v", v, want)
	}
	if want := []string{"a", "b", "b", "a", "a", "b", "b", "a"}; !slices.Equal(order, want) {
		t.Errorf("order = %v, want %v", order, want)
	}
}

func TestRatioStops(t *testing.T) {
	t.Parallel()
	one := func(context.Context) (float64, error) { return 1, nil }
	broken := errors.New("broken")
	if _, err := ratio(t.Context(), 3, one, func(context.Context) (float64, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Errorf("ratio with a side that fails = %v", err)
	}
	if _, err := ratio(t.Context(), 3, one, func(context.Context) (float64, error) { return 0, nil }); err == nil {
		t.Error("ratio with a side that takes no time = nil error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ratio(ctx, 3, one, one); !errors.Is(err, context.Canceled) {
		t.Errorf("ratio after the end of ctx = %v", err)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		goal goal
		at   float64
		want string
	}{
		{goal{most: 1.8}, 1.8, "ok"}, {goal{most: 1.8}, 1.81, "short"},
		{goal{least: 0.9}, 0.9, "ok"}, {goal{least: 0.9}, 0.89, "short"},
		{goal{}, 100, "ok"},
	} {
		if got := tt.goal.verdict(value{median: tt.at}); got != tt.want {
			t.Errorf("goal %v at %v = %s, want %s", tt.goal, tt.at, got, tt.want)
		}
	}
}

func TestEachFigureIsOneLineOfFourColumns(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := run(t.Context(), []string{"-run", "1 KiB", "-dir", t.TempDir()}, &out); err != nil {
		t.Fatal(err)
	}
	line, found := strings.CutSuffix(out.String(), "\n")
	if cols := strings.Split(line, "\t"); !found || len(cols) != 4 || cols[3] != "ok" && cols[3] != "short" {
		t.Errorf("out = %q", out.String())
	}
}
