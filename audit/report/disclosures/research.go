// SPDX-License-Identifier: Apache-2.0

package disclosures

import (
	"context"
	"fmt"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
)

// A Protocol is what an accounting says of research on 50 or more individuals,
// 45 CFR 164.528(b)(4)(i). Every field is required.
type Protocol struct {
	Name        string `json:"name"`        // (A) of the protocol or other research activity
	Description string `json:"description"` // (B) in plain language, with its purpose and the criteria for selecting records
	PHI         string `json:"phi"`         // (C) the type of PHI that was disclosed
	Sponsor     string `json:"sponsor"`     // (E) name, address and telephone number of the entity that sponsored it
	Researcher  string `json:"researcher"`  // (E) and of the researcher who received it
}

func (p Protocol) complete() bool {
	return p.Name != "" && p.Description != "" && p.PHI != "" && p.Sponsor != "" && p.Researcher != ""
}

// A Study is the entry of a research protocol.
type Study struct {
	Protocol
	First time.Time `json:"first"` // (D) the period of the disclosures, within that of the accounting
	Last  time.Time `json:"last"`
}

// research lists disclosures by protocol where 50 or more individuals were
// concerned and the protocol is described, (b)(4), and the others one by one.
func (d *Report) research(ctx context.Context, trail *report.Trail, q *Query, events []report.Event) error {
	if len(events) == 0 {
		return nil
	}
	sizes, err := sizes(ctx, trail, d.Period)
	if err != nil {
		return err
	}
	studies := map[string]int{} // index in d.Research; -1 for one by one
	for _, ev := range events {
		id := ev.Disclosure.Protocol
		at, known := studies[id]
		if !known {
			at = -1
			if sizes[id] >= protocolSize {
				p, err := q.Protocol(ctx, id)
				if err != nil {
					return fmt.Errorf("Query.Protocol: %w", err)
				}
				if p.complete() {
					from, _ := dates(&ev)
					at = len(d.Research)
					d.Research = append(d.Research, Study{Protocol: p, First: later(from, d.Period.Since)})
				}
			}
			studies[id] = at
		}
		if at < 0 {
			if err := d.add(ctx, trail, &ev); err != nil {
				return err
			}
			continue
		}
		from, to := dates(&ev)
		s := &d.Research[at]
		s.First, s.Last = earlier(s.First, later(from, d.Period.Since)), later(s.Last, earlier(to, d.Period.Until))
	}
	return nil
}

// sizes counts the individuals of each protocol in a period. One whom two
// journals name by different pseudonyms must not make 49 into 50, so that of
// several journals the largest count is taken.
func sizes(ctx context.Context, trail *report.Trail, in report.Period) (map[string]int, error) {
	type key struct{ protocol, writer string }
	people := map[key]map[string]bool{}
	for ev, err := range trail.Events(ctx, audit.Query{Types: []audit.Type{audit.Disclosed}}) {
		if err != nil {
			return nil, err
		}
		if ev.Disclosure == nil || ev.Disclosure.Protocol == "" || ev.Outcome == audit.Failure {
			continue
		}
		if from, to := dates(&ev); to.Before(in.Since) || !from.Before(in.Until) {
			continue
		}
		k := key{ev.Disclosure.Protocol, ev.Writer()}
		if people[k] == nil {
			people[k] = map[string]bool{}
		}
		for _, o := range ev.Objects {
			if o.Patient != "" && !o.Denied {
				people[k][o.Patient] = true
			}
		}
	}
	sizes := map[string]int{}
	for k, ids := range people {
		sizes[k.protocol] = max(sizes[k.protocol], len(ids))
	}
	return sizes, nil
}
