// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

const holdManual = `NAME
    auditctl hold - keep events from being purged or erased

SYNOPSIS
    auditctl hold DIR... --kek FILE --tenant ID --purpose CODE [--json]
    auditctl hold DIR... --reason CODE [--patient ID] [--actor ID [--kind KIND]]
        [--since DATE] [--until DATE] [--citation SECTION] --kek ...
    auditctl hold DIR --release HOLD --kek ...

DESCRIPTION
    hold lists the legal holds in force on the journal in the folder DIR;
    with --reason it begins one, and with --release it ends one. Each is
    recorded in the journal. No process may have DIR open meanwhile.

    A hold is of one journal: where several nodes write, give all their
    folders, under one key file, and to --release that of the hold. It keeps
    the journal's events and details; it keeps no record of the application
    from being shredded, which holds of its own (storage.Hold). How many events
    match by now is printed with it: none may mean a mistyped ID.

    A hold keeps the events of the tenant that match everything it says: no
    segment that has one is purged, and their sealed detail is not erased.
    That of a patient holds the records that were merged with it too.

OPTIONS
    --reason CODE
        litigation, incident, court or regulator.
    --patient ID
        Events about this patient, by record ID.
    --actor ID, --kind KIND
        Events by this user; KIND is human, service, patient or proxy, and
        human where it is left out.
    --since DATE, --until DATE
        Events not before, and before, this day: 2026-03-01.
    --citation SECTION
        Of the authority, such as "164.512(e)(1)(i)".
    --release HOLD
        End the hold of this ID.
` + keyedManual + `    --json
        Print one JSON object.
    --help
        Print this page.

EXIT STATUS
    0   done
    1   a journal is broken
    3   it could not run: no journal, no key, no such hold, or bad usage

EXAMPLES
    auditctl hold data/audit --reason litigation \
        --patient 0198c5d2-7f3b-7a10-8e5c-3d1f0a9b2c4d \
        --kek data/audit.kek --tenant t-1 --purpose HLEGAL
`

func holdCommand() command {
	return command{"hold", "keep events from being purged or erased", holdManual, runHold}
}

func runHold(ctx context.Context, c *call) (int, error) {
	var h audit.Hold
	reason := c.flags.String("reason", "", "")
	kind := c.flags.String("kind", "", "")
	since, until := c.flags.String("since", "", ""), c.flags.String("until", "", "")
	release := c.flags.String("release", "", "")
	c.flags.StringVar(&h.Patient, "patient", "", "")
	c.flags.StringVar(&h.Actor, "actor", "", "")
	c.flags.StringVar(&h.Citation, "citation", "", "")
	k := c.keyed()
	dirs, err := c.parse()
	switch {
	case err != nil:
		return 0, err
	case len(dirs) == 0:
		return 0, usagef("it takes a folder")
	case *release != "" && len(dirs) != 1:
		return 0, usagef("--release takes one folder: that of the hold")
	case *release != "" && *reason != "":
		return 0, usagef("--release and --reason are two things")
	case *reason == "" && (h != audit.Hold{} || *kind != "" || *since != "" || *until != ""):
		return 0, usagef("--reason is needed to begin a hold")
	}
	if h.Since, err = day(*since); err != nil {
		return 0, usagef("--since is not a day such as 2026-03-01")
	}
	if h.Until, err = day(*until); err != nil {
		return 0, usagef("--until is not a day such as 2026-03-01")
	}
	if h.Reason = audit.Reason(*reason); h.Actor != "" {
		if h.ActorKind = access.Kind(*kind); *kind == "" {
			h.ActorKind = access.Human
		}
	}
	for _, dir := range dirs {
		if err := c.hold(ctx, k, dir, h, *release); err != nil {
			return 0, fmt.Errorf("%s: %w", dir, err)
		}
	}
	return exitOK, nil
}

// hold lists the holds of one journal, or begins or ends one.
func (c *call) hold(ctx context.Context, k *keyed, dir string, h audit.Hold, release string) error {
	j, ctx, err := k.openKnown(ctx, dir)
	if err != nil {
		return err
	}
	switch {
	case release != "":
		return done(j, j.Release(ctx, release))
	case h.Reason == "":
		holds, err := j.Holds(ctx)
		if err = done(j, err); err != nil {
			return err
		}
		return c.holds(holds)
	}
	n, err := matching(ctx, audit.Query{Tenant: k.tenant, Patient: h.Patient, Actor: h.Actor, Since: h.Since, Until: h.Until}, -1, j)
	if err != nil {
		return done(j, err)
	}
	receipt, err := j.Hold(ctx, h)
	if err = done(j, err); err != nil {
		return err
	}
	if c.asJSON {
		return c.print(map[string]any{"folder": dir, "hold": receipt.ID, "events": n})
	}
	fmt.Fprintf(c.stderr, "matching in the journal in %s: %s\n", dir, plural(uint64(n), "event", "events"))
	_, err = fmt.Fprintln(c.stdout, receipt.ID)
	return err
}

// holds prints the holds in force.
func (c *call) holds(holds []audit.Stored) error {
	type hold struct {
		ID       string       `json:"hold"`
		Time     time.Time    `json:"time"`
		Reason   audit.Reason `json:"reason"`
		Citation string       `json:"citation,omitempty"`
		By       string       `json:"by"`
		Patient  string       `json:"patient,omitempty"` // pseudonym
		Actor    string       `json:"actor,omitempty"`
		Since    *time.Time   `json:"since,omitempty"`
		Until    *time.Time   `json:"until,omitempty"`
	}
	out := []hold{}
	for _, s := range holds {
		h := hold{ID: s.ID, Time: s.Time, Reason: s.Reason, Citation: s.Citation, By: s.Actor.ID, Actor: s.User}
		if len(s.Objects) > 0 {
			h.Patient = s.Objects[0].Patient
		}
		if !s.Since.IsZero() {
			h.Since = &s.Since
		}
		if !s.Until.IsZero() {
			h.Until = &s.Until
		}
		out = append(out, h)
	}
	if c.asJSON {
		return c.print(map[string]any{"holds": out})
	}
	for i, h := range out {
		if _, err := fmt.Fprintf(c.stdout, "%s  %s  %-10s by %s  patient %s  actor %s  %s to %s\n", h.ID, stamp(h.Time), h.Reason, h.By,
			dash(h.Patient), dash(h.Actor), stamp(holds[i].Since), stamp(holds[i].Until)); err != nil {
			return err
		}
	}
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// day reads a day; an empty text is the zero time.
func day(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.DateOnly, text)
}

// done closes a journal after what came out as err.
func done(j *audit.Journal, err error) error { return errors.Join(err, j.Close()) }
