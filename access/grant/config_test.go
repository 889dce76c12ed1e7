// SPDX-License-Identifier: Apache-2.0

package grant_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit/audittest"
)

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	good := func() grant.Config {
		return grant.Config{
			Store: grant.NewMemory(), Audit: audittest.New(t),
			Roles:      func(context.Context, access.Principal) ([]string, error) { return nil, nil },
			Elevations: []grant.Elevation{grant.Repair("repairer", []string{"engineer"}, []string{"security-officer"})},
			Emergency:  &grant.Emergency{Roles: []string{"nurse"}, Reviewers: []string{"officer"}},
			Confirm:    func(context.Context, access.Principal, string) error { return nil },
			Alert:      func(context.Context, grant.Alert) error { return nil },
		}
	}
	if _, err := grant.New(good()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*grant.Config){
		"Config.Store is nil":   func(c *grant.Config) { c.Store = nil },
		"Config.Audit is nil":   func(c *grant.Config) { c.Audit = nil },
		"Config.Roles is nil":   func(c *grant.Config) { c.Roles = nil },
		"nothing could be":      func(c *grant.Config) { c.Elevations, c.Emergency = nil, nil },
		"Config.Confirm is nil": func(c *grant.Config) { c.Confirm = nil },
		"Config.Alert is nil":   func(c *grant.Config) { c.Alert = nil },
		"Config.Remind":         func(c *grant.Config) { c.Remind = -1 },
		"Elevations[0].MaxTTL":  func(c *grant.Config) { c.Elevations[0].MaxTTL = 25 * time.Hour },
		"Emergency.Roles":       func(c *grant.Config) { c.Emergency.Roles = nil },
	} {
		cfg := good()
		change(&cfg)
		if _, err := grant.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want %q", err, want)
		}
	}
}
