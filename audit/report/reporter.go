// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Config configures [New]. Sources, Audit and Access are required.
type Config struct {
	Sources []Source          // every writer's trail; an event that two of them hold counts once
	Audit   audit.Recorder    // where each reading is recorded: the application's journal
	Access  access.Authorizer // asked to read "audit": see [Reporter.Open]

	// Name returns what a principal is called in a report; nil, or an empty
	// answer, shows the ID.
	Name func(ctx context.Context, p access.Principal) string

	// Merged returns the record IDs of the duplicates that are merged into a
	// patient's record. It may be nil with one source, which finds them by
	// itself. Of several, each names them by other pseudonyms, so that a report
	// follows a merge through all of them by ID only. A duplicate that no trail
	// confirms is refused: [ErrNotMerged].
	Merged func(ctx context.Context, tenant, patient string) ([]string, error)

	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Reporter reads the trail for reports: those of the packages below this one,
// and of the application's own. It is safe for concurrent use.
type Reporter struct{ cfg Config }

// New returns a Reporter, or says which field of cfg is bad.
func New(cfg Config) (*Reporter, error) {
	switch {
	case len(cfg.Sources) == 0:
		return nil, errors.New("report: Config.Sources is empty: give the journal")
	case cfg.Audit == nil:
		return nil, errors.New("report: Config.Audit is nil: give the journal, which records each reading")
	case cfg.Access == nil:
		return nil, errors.New("report: Config.Access is nil: give the application's authorizer")
	}
	for i, s := range cfg.Sources {
		if s == nil {
			return nil, fmt.Errorf("report: Config.Sources[%d] is nil", i)
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Reporter{cfg}, nil
}

// Now returns the time, in UTC, by Config.Now.
func (r *Reporter) Now() time.Time { return r.cfg.Now().UTC() }
