// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/part164/part164/audit"
)

// Config configures [New]. Audit and Relations are required; zero numbers
// stand for the defaults, which are the habits of this package and no rule of law.
type Config struct {
	Audit     audit.Recorder // where alerts are recorded
	Relations Relations
	Explain   Explainer // nil explains nothing
	Off       []Rule    // rules that do not apply here

	Bulk         int           // distinct patients in an hour; zero means 60
	BulkFactor   float64       // times the actor's own 95th percentile of hours; zero means 3
	Export       int           // records of one event; zero means 500
	List         int           // patients of one event from which on it is a list that happens to hold somebody: no rule about one patient applies but Honey; zero means 25
	History      int           // events before OffHours applies; zero means 200
	OffShare     float64       // share of history under which an hour of the week is off; zero means 0.002
	ReviewWithin time.Duration // of emergency access; zero means 72 hours
	Failures     int           // failed sign-ins; zero means 5
	FailWithin   time.Duration // the time in which they fail; zero means 15 minutes
	Dormant      time.Duration // zero means 60 days
	Silence      time.Duration // without any event, see Tick; zero means 24 hours
	Backwards    time.Duration // that a writer's clock may go back; zero means 30 seconds
	MaxActors    int           // kept in memory, a kilobyte each; zero means 20,000
	MaxPending   int           // unreviewed emergency accesses kept; zero means 1,000. Of more the oldest is raised early

	// Repeat is how long an alert of one rule about one actor and patient, or
	// about an actor, is not raised again. Zero means 12 hours. Of a honey record
	// it is 10 minutes at most, one look; the trail and the clock are always said.
	Repeat time.Duration
}

func (cfg *Config) complete() error {
	switch {
	case cfg.Audit == nil:
		return errors.New("watch: Config.Audit is nil: give the journal")
	case cfg.Relations == nil:
		return errors.New("watch: Config.Relations is nil: give what the application knows of its people")
	case cfg.OffShare < 0 || cfg.OffShare > 1:
		return errors.New("watch: Config.OffShare is not between 0 and 1")
	case cfg.BulkFactor < 0:
		return errors.New("watch: Config.BulkFactor is negative")
	}
	for _, r := range cfg.Off {
		if !slices.Contains(rules(), r) {
			return errors.New("watch: Config.Off has a rule that is none")
		}
	}
	for _, n := range []struct {
		name  string
		value *int
		zero  int
	}{{"Bulk", &cfg.Bulk, 60}, {"Export", &cfg.Export, 500}, {"List", &cfg.List, 25}, {"History", &cfg.History, 200}, {"Failures", &cfg.Failures, 5},
		{"MaxActors", &cfg.MaxActors, 20_000}, {"MaxPending", &cfg.MaxPending, 1000}} {
		if *n.value < 0 {
			return fmt.Errorf("watch: Config.%s is negative", n.name)
		}
		if *n.value == 0 {
			*n.value = n.zero
		}
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{{"ReviewWithin", &cfg.ReviewWithin, 72 * time.Hour}, {"FailWithin", &cfg.FailWithin, 15 * time.Minute}, {"Dormant", &cfg.Dormant, 60 * 24 * time.Hour},
		{"Silence", &cfg.Silence, 24 * time.Hour}, {"Backwards", &cfg.Backwards, 30 * time.Second}, {"Repeat", &cfg.Repeat, 12 * time.Hour}} {
		if *d.value < 0 {
			return fmt.Errorf("watch: Config.%s is negative", d.name)
		}
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	if cfg.BulkFactor == 0 {
		cfg.BulkFactor = 3
	}
	if cfg.OffShare == 0 {
		cfg.OffShare = 0.002
	}
	return nil
}
