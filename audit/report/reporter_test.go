// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"strings"
	"testing"

	"github.com/part164/part164/audit/report"
)

func TestNewNamesTheField(t *testing.T) {
	t.Parallel()
	c := open(t)
	good := report.Config{Sources: []report.Source{c.journal}, Audit: c.journal, Access: c.access}
	for field, change := range map[string]func(*report.Config){
		"Config.Sources is empty": func(cfg *report.Config) { cfg.Sources = nil },
		"Config.Sources[1]":       func(cfg *report.Config) { cfg.Sources = append(cfg.Sources, nil) },
		"Config.Audit":            func(cfg *report.Config) { cfg.Audit = nil },
		"Config.Access":           func(cfg *report.Config) { cfg.Access = nil },
	} {
		cfg := good
		change(&cfg)
		if _, err := report.New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
