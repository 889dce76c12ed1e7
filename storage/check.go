// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.uber.org/zap"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// The kinds of [Finding]. The set is closed.
const (
	BadCell          = "cell.bad"          // does not open where it lies: changed, cut, of another place, or never a cell
	OldCell          = "cell.old"          // an older cell of the same place, put back
	NulledCell       = "cell.nulled"       // NULL where the trail knows a value
	UnrecordedCell   = "cell.unrecorded"   // opens, but the trail knows of no such write
	OldRow           = "row.old"           // an older version than the trail knows, or a deleted row that is back
	UnrecordedRow    = "row.unrecorded"    // a newer version than the trail knows
	ExtraRow         = "row.extra"         // the trail knows of no such record
	MissingRow       = "row.missing"       // the trail knows of no deletion
	HiddenRow        = "row.hidden"        // marked as deleted, so that nobody reads it, and the trail knows of no deletion
	MovedRow         = "row.moved"         // about another patient than the trail knows
	MissingToken     = "token.missing"     // a search would not find the record
	ExtraToken       = "token.extra"       // a search would find the record for a value that it does not have
	OldToken         = "token.old"         // of a key that is no more
	OrphanToken      = "token.orphan"      // of a record that is not there
	MissingKey       = "key.missing"       // a cell's key is gone, or does not unwrap
	MissingTombstone = "tombstone.missing" // the trail knows that the patient was shredded
	MergeForged      = "merge.forged"      // a row of phi_merges that storage did not write
	OldMerge         = "merge.old"         // a row of phi_merges of a merge that was undone: put back, or the unmerge was cut off
	MissingMerge     = "merge.missing"     // the row of phi_merges by which an unmerge would move the record back is gone
	UnrecordedMerge  = "merge.unrecorded"  // a patient was marked as merged, or closed, or neither any more, and the trail knows of no such merge
	UnlistedTable    = "table.unlisted"    // of a model, and not in phi_tables, so that processes without the model do not know that it holds PHI
	OutboxRemoved    = "outbox.removed"    // a write's outbox row was removed: its data is there, and its commit is not in the trail
	OutboxForged     = "outbox.forged"     // an outbox row that its trail never issued
)

// A Finding is one defect. It holds no PHI in clear.
type Finding struct {
	Kind   string `json:"kind"`
	Table  string `json:"table"`
	Field  string `json:"field,omitempty"`  // name of the model's field; empty where it is about the whole row
	Record string `json:"record,omitempty"` // record ID; the trail's pseudonym of it where nothing else is left. Of an outbox row, its attempt
}

// A Report is what [Check] found in one tenant's data.
type Report struct {
	Tenant   string    `json:"tenant"`
	Records  int64     `json:"records"`  // looked at
	Cells    int64     `json:"cells"`    // NULLs included
	Tokens   int64     `json:"tokens"`   // search tokens
	Writes   int64     `json:"writes"`   // committed writes of the tenant in the trails
	Foreign  int64     `json:"foreign"`  // outbox rows of writers whose trail was not given: nobody can tell whether they are forged
	Findings []Finding `json:"findings"` // in the order of kind, table, record and field
}

// Check holds the data of one tenant, that of ctx's principal, against the
// search index, the key table, the merges and the trail, and names what does not
// fit, without stopping at it. The error is about the check itself: without one,
// a Report without Findings says that every sealed column of the tenant is what
// was last written through storage, and that each row is about the patient, and
// as much deleted or merged, as storage left it.
//
// The trail is that of Config.Audit, which must be an [audit.History], and
// those of the other nodes: with one of them left out, what it wrote is reported
// as unrecorded. Records may be written meanwhile; what does not fit is looked
// at again before it is reported. Run it while no job runs; of a merge or unmerge
// that was cut off, it may name rows of phi_merges until that has ended.
//
// Of writes that the journal has purged it knows what the purge carried forward
// ([audit.Journal.Purge]): the newest of each field of the records that live.
//
// ctx comes from [access.Job], with the right to access.Maintain. Cells are
// opened to see whether they open, and shown to nobody. Progress is shown on
// out, where that is a terminal; nil is silent. It keeps in memory what the
// trail knows of the tenant's records: about 300 bytes each, and 64 more for each
// sealed field.
//
// Check does not see
//   - a change of a column in clear: there is no digest of it, because that could
//     be guessed;
//   - of a name's search tokens, that a random one, which only pads, was replaced
//     by another random one;
//   - rows of join tables (many2many) that were added or removed: the trail says
//     which records were linked or unlinked, not to which;
//   - phi_jobs: a job that is said there to be done is not run again under its
//     name, and one that is said to run waits for its lease;
//   - a table whose row in phi_tables was removed, where this process has not
//     got its model: pass every model to [Migrate] first;
//   - whether a column that marks rows as deleted holds what a SQL expression of
//     the app has set there.
func Check(ctx context.Context, db *gorm.DB, out io.Writer, others ...audit.History) (Report, error) {
	p, err := pluginOf(db)
	if err != nil {
		return Report{}, err
	}
	if err := p.mayMaintain(ctx); err != nil {
		return Report{}, err
	}
	if err := p.tooOld(ctx); err != nil {
		return Report{}, err
	}
	if slices.Contains(others, nil) {
		return Report{}, errors.New("storage: check: one of the other trails is nil: open each with audit.Open")
	}
	own, ok := p.cfg.Audit.(audit.History)
	if !ok {
		return Report{}, &RefusedError{Op: "check", Why: "Config.Audit cannot be read back, so that nothing is known of what was written", Mend: "use an audit.Journal"}
	}
	scope, err := access.From(ctx)
	if err != nil {
		return Report{}, err
	}
	c := &checker{plugin: p, ctx: ctx, tenant: scope.Principal().Tenant, histories: append([]audit.History{own}, others...)}
	if c.models, err = p.allModels(ctx); err != nil {
		return Report{}, err
	}
	if c.ring, err = crypto.NewKeyring(p.ring); err != nil {
		return Report{}, fmt.Errorf("storage: check: %w", err)
	}
	// Recorded before the first cell is opened.
	if _, err := p.recordAs(ctx, audit.Event{Type: audit.Checked, Outcome: audit.Success, Reason: audit.ReasonPending, Action: access.Maintain}); err != nil {
		return Report{}, fmt.Errorf("storage: check: %w", err)
	}
	r, err := c.check(out)
	if err != nil {
		return r, fmt.Errorf("storage: check: %w", err)
	}
	if err := c.record(r); err != nil {
		return r, fmt.Errorf("storage: check: %w", err)
	}
	return r, nil
}

// A checker is one call of Check.
type checker struct {
	*plugin
	ctx       context.Context
	tenant    string
	models    []*model
	histories []audit.History
	ring      *crypto.Keyring // its own, with nothing in it: what is cached hides what is gone
	report    Report
}

// checkPage is how many rows are read at once.
const checkPage = 500

// checkRounds bounds how often a record is looked at that somebody keeps
// writing to.
const checkRounds = 8

// check makes one round over everything, and more over what did not fit: a
// write may have come between reading the trail and reading the row. What two
// rounds in a row find is so.
func (c *checker) check(out io.Writer) (Report, error) {
	c.report = Report{Tenant: c.tenant}
	var total int64
	for _, m := range c.models {
		n, err := c.countStored(c.ctx, c.conn(), selection{m: m, tenant: c.tenant})
		if err != nil {
			return c.report, err
		}
		total += n
	}
	bar := startProgress(out, c.now, "check", 0, total)
	defer bar.end()
	forged, err := c.forged()
	if err != nil {
		return c.report, err
	}
	found, err := c.round(nil, bar)
	if err != nil {
		return c.report, err
	}
	for range checkRounds {
		if len(found) == 0 {
			break
		}
		again, err := c.round(newSuspects(c, found), nil)
		if err != nil {
			return c.report, err
		}
		same := slices.Equal(again, found)
		found = again
		if same {
			break
		}
	}
	for _, f := range append(found, forged...) { // in the order of their kinds
		c.report.Findings = append(c.report.Findings, f.Finding)
	}
	return c.report, nil
}

func (c *checker) conn() gorm.ConnPool { return inner(c.pool) }

// A found is a finding with what a second look needs.
type found struct {
	Finding
	model     *model // of the row to look at again; nil where it is a patient's, or the finding is about none
	row       string
	version   int64  // of the row
	trail     int    // of a missing row: whose pseudonym it is, counted from 1
	pseudonym string // of a missing row
}

// round looks at everything, or at the suspects.
func (c *checker) round(only *suspects, bar *progress) ([]found, error) {
	if err := c.relay.drain(c.ctx); err != nil { // then the outbox tells
		c.cfg.Log.Warn("outbox not settled before a check", zap.Error(err))
	}
	t, err := c.readTrails(only)
	if err != nil {
		return nil, err
	}
	if only == nil {
		c.report.Writes = t.writes
	}
	r := &checkRound{checker: c, t: t, only: only, bar: bar}
	steps := []func() error{r.readIndexKeys, r.outbox, r.rows, r.missing, r.keys, r.closed, r.merges, r.tables, r.orphans}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(r.found, func(a, b found) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Table, b.Table), strings.Compare(a.Record, b.Record), strings.Compare(a.Field, b.Field))
	})
	return slices.Compact(r.found), nil
}

// record says in the trail what was found.
func (c *checker) record(r Report) error {
	ev := audit.Event{Type: audit.Checked, Outcome: audit.Success, Action: access.Maintain, Count: len(r.Findings)}
	if len(r.Findings) > 0 {
		ev.Outcome = audit.Failure
	}
	byTable := map[string]*model{}
	for _, m := range c.models {
		byTable[m.table] = m
	}
	for _, f := range r.Findings {
		m := byTable[f.Table]
		if m == nil || !isUUID(f.Record) {
			continue
		}
		o := audit.Object{Type: m.name, Tenant: c.tenant, Record: f.Record}
		if m.own {
			o.Patient = f.Record
		}
		if f.Field != "" {
			o.Fields = []string{f.Field}
		}
		ev.Objects = append(ev.Objects, o)
	}
	_, err := c.recordAs(c.ctx, ev)
	return err
}

// forged looks for outbox rows that their trail never issued. It comes first:
// the relay refuses and removes those that name its own trail.
func (c *checker) forged() (all []found, err error) {
	c.report.Foreign, err = c.eachOutboxRow(func(row outboxRow, issued bool) {
		if !issued {
			all = append(all, found{Finding: Finding{OutboxForged, "phi_outbox", "", row.Attempt}})
		}
	})
	return all, err
}

// eachOutboxRow calls f for each row of a writer whose trail is there, and
// counts the others.
func (c *checker) eachOutboxRow(f func(row outboxRow, issued bool)) (foreign int64, err error) {
	writers := map[string]audit.History{}
	for _, h := range c.histories {
		if t, ok := h.(audit.Trail); ok {
			writers[t.Writer()] = h
		}
	}
	for after := ""; ; {
		var rows []outboxRow
		if err := c.own(c.ctx, c.conn()).Where("attempt > ?", after).Order("attempt").Limit(relayBatch).Find(&rows).Error; err != nil {
			return foreign, fmt.Errorf("storage: read phi_outbox: %w", err)
		}
		for _, row := range rows {
			after = row.Attempt
			if h := writers[row.Writer]; h != nil {
				f(row, h.Issued(audit.Ticket{Attempt: row.Attempt, Writer: row.Writer, Digest: row.Digest, MAC: row.MAC}))
			} else {
				foreign++
			}
		}
		if len(rows) < relayBatch {
			return foreign, nil
		}
	}
}

// outbox notes which writes have committed although their trail does not know
// it yet.
func (r *checkRound) outbox() error {
	_, err := r.eachOutboxRow(func(row outboxRow, issued bool) {
		if issued {
			r.t.inOutbox(row.Attempt)
		}
	})
	return err
}
