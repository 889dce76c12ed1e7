// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/audit/report/accesses"
	"github.com/part164/part164/audit/report/breach"
	"github.com/part164/part164/audit/report/disclosures"
	"github.com/part164/part164/audit/report/document"
	"github.com/part164/part164/audit/report/review"
	"github.com/part164/part164/crypto"
)

const reportManual = `NAME
    auditctl report - say what a journal holds about a patient, an incident or
    a week

SYNOPSIS
    auditctl report access DIR... --patient ID KEYS [--since T] [--until T]
    auditctl report disclosures DIR... --patient ID KEYS [--requested T]
                 [--since T] [--itemised] [--protocols FILE]
    auditctl report breach DIR... (--actor ID | --session ID | --loss KIND)
                 KEYS [--since T] [--until T] [--patient ID] [--patients FILE]
                 [--states FILE]
    auditctl report review DIR... KEYS [--week T]

    KEYS is --kek FILE --tenant ID --purpose CODE [--record DIR]

DESCRIPTION
    access says who saw or changed a patient's record. disclosures is the
    accounting of disclosures of 45 CFR 164.528. breach says whose PHI an
    incident has reached, with the numbers that 45 CFR 164.404 to 164.408 name;
    it draws no conclusion. review is the activity of a week, for the review of
    45 CFR 164.308(a)(1)(ii)(D); it is signed off in the application.

    Several folders are the journals of several writers under one key file:
    events are put together by time, each once.

    That this user of the operating system made the report, and for which
    purpose, is recorded before anything is shown: in the first folder, or,
    with --record, in a journal of auditctl's own. A folder whose application
    runs is locked by it: give --record then. Sealed detail, of disclosures, is
    opened from the first folder, and only without --record.

    Patients stand in a journal by pseudonym. breach names those whose record
    IDs stand in the file of --patients, and counts the others by pseudonym.

OPTIONS
` + keyedManual + `    --record DIR
        Record the run in the journal in DIR, which is made where it is
        missing, with the same key file. The folders are only read then.
    --patient ID, --merged ID
        The patient's record ID; --merged, once for each, those of duplicates
        that were merged into it, where there are several folders.
    --since T, --until T, --requested T, --week T
        Dates such as 2026-03-01, or times such as 2026-03-01T12:00:00Z, UTC.
        --requested is when the individual asked; --week any time in the week,
        last week where it is left out.
    --itemised
        List every disclosure by itself.
    --protocols FILE
        Describe research protocols, so that research on 50 or more individuals
        is listed by protocol: one JSON object, whose names are the IDs of
        protocols, each an object with the name, description, phi, sponsor and
        researcher of 45 CFR 164.528(b)(4)(i).
    --actor ID, --session ID
        Whose deeds, or in which sign-in.
    --loss KIND
        What was lost: copy (stored data without keys), kek, tenant.key, or
        patient.key with --patient. Every field is counted as not secured: the
        forms of fields are known to the application only.
    --patients FILE
        Record IDs of patients, one a line.
    --states FILE
        Lines of a record ID, a blank, and a State; needs --patients.
    --html FILE
        Write one HTML page that needs nothing else into FILE, which must not
        exist.
    --json
        Print the report as one JSON object.
    --help
        Print this page.

EXIT STATUS
    0   done
    1   a journal is broken
    3   it could not run: no journal, no key, bad usage, or it could not be
        recorded

EXAMPLES
    auditctl report access data/audit --patient 0190… --kek keys/kek.json \
        --tenant clinic-7 --purpose PATRQT --html seen.html
    auditctl report breach data/audit --actor u-17 --since 2026-03-01 \
        --kek keys/kek.json --tenant clinic-7 --purpose HCOMPL \
        --record data/auditctl
`

func reportCommand() command {
	return command{"report", "say what a journal holds about a patient, an incident or a week", reportManual, runReport}
}

// A reporting is one run of auditctl report.
type reporting struct {
	keyed              *keyed
	record, html       string
	patient            string
	merged             []string
	since, until, asks time.Time
	week               time.Time
	itemised           bool
	protocols          string
	actor, session     string
	loss               string
	patients, states   string
	unknown            bool // no event is about the patient
}

func runReport(ctx context.Context, c *call) (_ int, err error) {
	r := reporting{keyed: c.keyed()}
	c.flags.StringVar(&r.record, "record", "", "")
	c.flags.StringVar(&r.html, "html", "", "")
	c.flags.StringVar(&r.patient, "patient", "", "")
	c.flags.Func("merged", "", func(s string) error { r.merged = append(r.merged, s); return nil })
	c.flags.BoolVar(&r.itemised, "itemised", false, "")
	c.flags.StringVar(&r.protocols, "protocols", "", "")
	c.flags.StringVar(&r.actor, "actor", "", "")
	c.flags.StringVar(&r.session, "session", "", "")
	c.flags.StringVar(&r.loss, "loss", "", "")
	c.flags.StringVar(&r.patients, "patients", "", "")
	c.flags.StringVar(&r.states, "states", "", "")
	for name, t := range map[string]*time.Time{"since": &r.since, "until": &r.until, "requested": &r.asks, "week": &r.week} {
		c.flags.Func(name, "", func(s string) (err error) { *t, err = parseTime(s); return err })
	}
	args, err := c.parse()
	switch {
	case err != nil:
		return 0, err
	case len(args) < 2:
		return 0, usagef("it takes a kind of report (access, disclosures, breach or review) and a folder")
	case c.asJSON && r.html != "":
		return 0, usagef("--json and --html are two ways to print: choose one")
	case !slices.Contains([]string{"access", "disclosures", "breach", "review"}, args[0]):
		return 0, usagef("there is no report %q: access, disclosures, breach or review", args[0])
	case r.patient == "" && (args[0] == "access" || args[0] == "disclosures"):
		return 0, usagef("--patient is needed: whose record it is about")
	}
	reporter, ctx, closeAll, err := r.open(ctx, args[1:])
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	made, err := r.make(ctx, reporter, args[0])
	if err != nil {
		return 0, err
	}
	if r.unknown {
		fmt.Fprintln(c.stderr, "auditctl report: no event of the tenant is about this patient: is the ID right?")
	}
	return exitOK, c.printReport(made, r.html)
}

// open opens the folders for reading and the journal that records the run.
func (r *reporting) open(ctx context.Context, dirs []string) (_ *report.Reporter, _ context.Context, closeAll func() error, err error) {
	in, read, open := dirs[0], dirs[1:], r.keyed.open
	if r.record != "" {
		in, read, open = r.record, dirs, r.keyed.openOwn
	}
	journal, ctx, err := open(ctx, in)
	if errors.Is(err, audit.ErrLocked) {
		err = fmt.Errorf("%w; or give --record DIR, for a journal of auditctl's own", err)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, journal.Close())
		}
	}()
	var sources []report.Source
	if r.record == "" {
		sources = append(sources, journal)
	}
	kek, err := crypto.LocalKEK(r.keyed.kek)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, dir := range read {
		s, err := audit.OpenReader(dir, kek)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("%s: %w", dir, err)
		}
		sources = append(sources, s)
	}
	if err := r.keyed.knows(ctx, sources...); err != nil {
		return nil, nil, nil, err
	}
	if r.patient != "" {
		n, err := matching(ctx, audit.Query{Tenant: r.keyed.tenant, Patient: r.patient}, 1, sources...)
		if err != nil {
			return nil, nil, nil, err
		}
		r.unknown = n == 0
	}
	reporter, err := report.New(report.Config{Sources: sources, Audit: journal, Access: keyholder{r.keyed.tenant},
		Merged: func(context.Context, string, string) ([]string, error) { return r.merged, nil }})
	return reporter, ctx, journal.Close, err
}

// A printable is one of the reports.
type printable interface{ Document() *document.Document }

func (r *reporting) make(ctx context.Context, reporter *report.Reporter, kind string) (printable, error) {
	period := report.Period{Since: r.since, Until: r.until}
	switch kind {
	case "access":
		return accesses.Of(ctx, reporter, accesses.Query{Patient: r.patient, Period: period})
	case "disclosures":
		q := disclosures.Query{Patient: r.patient, Requested: r.asks, Since: r.since, Itemised: r.itemised}
		if r.protocols != "" {
			described, err := readProtocols(r.protocols)
			if err != nil {
				return nil, err
			}
			q.Protocol = func(_ context.Context, id string) (disclosures.Protocol, error) { return described[id], nil }
		}
		return disclosures.Of(ctx, reporter, q)
	case "breach":
		q := breach.Query{Tenants: []string{r.keyed.tenant}, Actor: r.actor, Session: r.session, Loss: breach.Loss(r.loss), Patient: r.patient, Period: period}
		if err := r.people(&q); err != nil {
			return nil, err
		}
		return breach.Of(ctx, reporter, q)
	case "review":
		if r.week.IsZero() {
			r.week = time.Now().AddDate(0, 0, -7)
		}
		return review.Of(ctx, reporter, review.Week(r.week))
	}
	return nil, usagef("there is no report %q: access, disclosures, breach or review", kind)
}

// readProtocols reads descriptions of research protocols, by ID.
func readProtocols(name string) (described map[string]disclosures.Protocol, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&described); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return described, nil
}

// people reads the files of record IDs and States.
func (r *reporting) people(q *breach.Query) error {
	if r.states != "" && r.patients == "" {
		return usagef("--states needs --patients")
	}
	if r.patients != "" {
		ids, err := lines(r.patients)
		if err != nil {
			return err
		}
		q.Patients = func(context.Context, string) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for _, id := range ids {
					if !yield(id, nil) {
						return
					}
				}
			}
		}
	}
	if r.states != "" {
		rows, err := lines(r.states)
		if err != nil {
			return err
		}
		states := map[string]string{}
		for _, row := range rows {
			id, state, _ := strings.Cut(row, " ")
			states[id] = strings.TrimSpace(state)
		}
		q.State = func(_ context.Context, _, patient string) (string, error) { return states[patient], nil }
	}
	return nil
}

// lines returns the lines of a file that are not empty.
func lines(name string) ([]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out, nil
}

func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errors.New("it is no date such as 2026-03-01, and no time such as 2026-03-01T12:00:00Z")
}

// printReport prints a report as text, as JSON, or into a new HTML file that
// only this user reads.
func (c *call) printReport(made printable, html string) error {
	switch {
	case html != "":
		f, err := os.OpenFile(html, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(made.Document().WriteHTML(f), f.Close()); err != nil {
			return err
		}
		_, err = io.WriteString(c.stdout, html+"\n")
		return err
	case c.asJSON:
		return c.print(made)
	}
	return made.Document().WriteText(c.stdout)
}

// A keyholder is the authorizer of auditctl: whoever has the key file can read
// the journal anyhow, of the tenant that they state. It is recorded.
type keyholder struct{ tenant string }

func (k keyholder) Check(ctx context.Context, req access.Request) (access.Decision, error) {
	s, err := access.From(ctx)
	if err != nil {
		return access.Decision{}, err
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	d := access.Decision{ID: hex.EncodeToString(id)}
	for _, r := range req.Resources {
		v := access.Verdict{Code: access.DenyTenant}
		if r.Type == "audit" && req.Action == access.Read && r.Tenant == k.tenant && s.Principal().Tenant == k.tenant {
			v = access.Verdict{Allow: true, Code: access.AllowRule, Rule: "the key file"}
		}
		d.Verdicts = append(d.Verdicts, v)
	}
	return d, nil
}

func (k keyholder) Filter(context.Context, access.Action, string) (access.Filter, error) {
	return access.Filter{}, access.ErrDenied
}
