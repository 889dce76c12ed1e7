// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

const certificateManual = `NAME
    auditctl certificate - hold a shred certificate against the journal

SYNOPSIS
    auditctl certificate DIR CERTIFICATE --kek FILE --tenant ID
        --purpose CODE [--json]

DESCRIPTION
    storage.Shred destroys the keys of a patient and returns a certificate,
    which is kept as JSON. certificate reads it from the file CERTIFICATE and
    looks up its event in the journal in the folder DIR: that the journal
    says the same of the patient, of those merged with the patient, of the
    database, and of who shredded on whose authority, by and on which basis.
    Of a complete certificate it looks for the event of its confirmation.
    Whatever differs is named. That this user of the operating system looked
    is recorded first. No process may have DIR open meanwhile.

    Whether the journal itself is sound, auditctl verify says. That the keys
    are gone from the database, and stay so, Certificate.Confirm says, which
    needs the database and checks the certificate's MAC.

OPTIONS
` + keyedManual + `    --json
        Print the result as one JSON object.
    --help
        Print this page.

EXIT STATUS
    0   the journal says what the certificate says
    1   it does not, or is broken
    3   it could not run: no journal, no key, no certificate, or bad usage

EXAMPLES
    auditctl certificate data/audit shred-4711.json \
        --kek data/audit.kek --tenant t-1 --purpose HCOMPL
`

func certificateCommand() command {
	return command{"certificate", "hold a shred certificate against the journal", certificateManual, runCertificate}
}

// A shredCertificate is what a journal can tell of a storage.Certificate.
type shredCertificate struct {
	Event     string `json:"event"`
	Database  string `json:"database"`
	Tenant    string `json:"tenant"`
	Subject   string `json:"subject"`
	Authority struct {
		Basis     string `json:"basis"`
		Approver  string `json:"approver"`
		Reference string `json:"reference"`
	} `json:"authority"`
	By       string    `json:"by"`
	Shredded time.Time `json:"shredded"`
	Merged   []string  `json:"merged"`
	State    string    `json:"state"`
}

func runCertificate(ctx context.Context, c *call) (int, error) {
	k := c.keyed()
	args, err := c.parse()
	switch {
	case err != nil:
		return 0, err
	case len(args) != 2:
		return 0, usagef("it takes a folder and the file of a certificate")
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		return 0, err
	}
	var cert shredCertificate
	if err := json.Unmarshal(text, &cert); err != nil || cert.Event == "" || cert.Subject == "" {
		return 0, fmt.Errorf("%s is no certificate of storage.Shred", args[1])
	}
	if k.tenant != "" && k.tenant != cert.Tenant {
		return 0, usagef("--tenant: the certificate is of another tenant")
	}
	j, ctx, err := k.openKnown(ctx, args[0])
	if err != nil {
		return 0, err
	}
	findings, err := cert.check(ctx, j)
	err = done(j, err)
	if err != nil {
		return 0, err
	}
	if c.asJSON {
		err = c.print(map[string]any{"ok": len(findings) == 0, "event": cert.Event, "state": cert.State, "findings": append([]string{}, findings...)})
	} else {
		p := &printer{w: c.stdout}
		for _, f := range findings {
			p.f("BROKEN %s\n", f)
		}
		if len(findings) == 0 {
			p.f("event %s says what the certificate says; state %s\n", cert.Event, cert.State)
		}
		err = p.err
	}
	if err == nil && len(findings) > 0 {
		return exitBroken, nil
	}
	return exitOK, err
}

// check says in what the journal and the certificate differ.
func (cert *shredCertificate) check(ctx context.Context, j *audit.Journal) (findings []string, err error) {
	name := func(id string) string { return j.Pseudonym(cert.Tenant, id) }
	var shred *audit.Stored
	confirmed := false
	for ev, err := range j.Events(ctx, audit.Query{Tenant: cert.Tenant, Types: []audit.Type{audit.Shredded}}) {
		if err != nil {
			return nil, err
		}
		switch {
		case ev.ID == cert.Event:
			shred = &ev
		case shred == nil && ev.Outcome == audit.Success && ev.Reason != audit.ReasonPending && // newest first: it came later
			slices.ContainsFunc(ev.Objects, func(o audit.Object) bool { return o.Patient == name(cert.Subject) }):
			confirmed = true
		}
	}
	if shred == nil {
		return []string{"the journal has no shred event of that ID: it lies in another writer's folder, or the certificate is not of this system"}, nil
	}
	bad := func(what string) { findings = append(findings, what) }
	if shred.Outcome != audit.Success || shred.Action != access.Shred {
		bad("the event is no shredding that succeeded")
	}
	if shred.Actor.ID != cert.By {
		bad("another principal shredded")
	}
	// The keys are gone before the event says so, by the database's node.
	if d := shred.Time.Sub(cert.Shredded); d < -time.Minute || d > time.Hour {
		bad("the event is of another time")
	}
	var patients []string
	has := make(map[string]string) // type -> record of the objects that are no patients
	for _, o := range shred.Objects {
		if o.Patient != "" {
			patients = append(patients, o.Patient)
		} else {
			has[o.Type] = o.Record
		}
	}
	if !slices.Contains(patients, name(cert.Subject)) {
		bad("the event is about another patient")
	}
	for _, id := range cert.Merged {
		if !slices.Contains(patients, name(id)) {
			bad("a record that the certificate names as merged is not in the event")
		}
	}
	if len(patients) != 1+len(cert.Merged) {
		bad("the event is about more or fewer patients")
	}
	if has["database"] != name(cert.Database) {
		bad("the event is of another database")
	}
	if has["approver"] != name(cert.Authority.Approver) {
		bad("somebody else approved")
	}
	if has["authority."+cert.Authority.Basis] != name(cert.Authority.Reference) {
		bad("the event has another authority")
	}
	if cert.State == "complete" && !confirmed {
		bad("the certificate is complete, and the journal has no event of its confirmation")
	}
	return findings, nil
}
