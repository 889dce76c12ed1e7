// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// A keyed holds the flags of a command that opens a journal with its KEK.
// Whoever does is recorded: as the user of the operating system, with the
// purpose that they state.
type keyed struct {
	kek, tenant, purpose string
}

// keyedManual is the part of a manual that says so.
const keyedManual = `    --kek FILE
        The key file that wraps the journal's keys (crypto.LocalKEK).
        auditctl links no key service: where the KEK is in one, call the same
        from a program that has its client, with audit.Open and Config.KEK:
        Journal.Detail, Erase, Hold, Release, Purge and RotateKeys, and
        package audit/report. verify, prove, tail, export and compare need
        no key.
    --tenant ID
        The tenant on whose behalf the journal is opened.
    --purpose CODE
        The purpose of use, of HL7 PurposeOfUse, such as HCOMPL or PATRQT.
        That this user of the operating system, os:uid.NUMBER, opened the
        journal for it is recorded in the journal first.
`

// keyed adds the flags.
func (c *call) keyed() *keyed {
	k := new(keyed)
	c.flags.StringVar(&k.kek, "kek", "", "")
	c.flags.StringVar(&k.tenant, "tenant", "", "")
	c.flags.StringVar(&k.purpose, "purpose", "", "")
	return k
}

// open is openOwn of a journal that is there.
func (k *keyed) open(ctx context.Context, dir string) (*audit.Journal, context.Context, error) {
	if _, err := os.Stat(filepath.Join(dir, "verifier.pub")); err != nil && k.kek != "" {
		return nil, nil, fmt.Errorf("there is no journal: %w", err)
	}
	return k.openOwn(ctx, dir)
}

// openKnown is open where the journal has an event of the tenant.
func (k *keyed) openKnown(ctx context.Context, dir string) (*audit.Journal, context.Context, error) {
	j, ctx, err := k.open(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	if err := k.knows(ctx, j); err != nil {
		return nil, nil, done(j, err)
	}
	return j, ctx, nil
}

// openJournal is what a run records that it did, before anything else.
const openJournal access.Action = "open_journal"

// openOwn opens the journal in dir, or makes it, and records in it who did, before anything of
// it is shown. Close it. The context has the user as its principal.
func (k *keyed) openOwn(ctx context.Context, dir string) (*audit.Journal, context.Context, error) {
	switch {
	case k.kek == "":
		return nil, nil, usagef("--kek is needed: the journal's keys are wrapped by it")
	case k.tenant == "":
		return nil, nil, usagef("--tenant is needed")
	case !access.Purpose(k.purpose).Valid():
		return nil, nil, usagef("--purpose is needed: one of %v", access.Purposes())
	}
	who, err := osUser()
	if err != nil {
		return nil, nil, err
	}
	ctx = access.With(ctx, access.Principal{ID: who, Tenant: k.tenant, Kind: access.Human}, access.Purpose(k.purpose))
	if _, err := access.From(ctx); err != nil {
		return nil, nil, usagef("--tenant: %w", err)
	}
	kek, err := crypto.LocalKEK(k.kek)
	if err != nil {
		return nil, nil, err
	}
	j, err := audit.Open(dir, audit.Config{KEK: kek})
	if err != nil {
		return nil, nil, err
	}
	if _, err := j.Record(ctx, audit.Event{Type: audit.Reported, Outcome: audit.Success, Action: openJournal}); err != nil {
		_ = j.Close()
		return nil, nil, err
	}
	return j, ctx, nil
}

// osUser returns who runs auditctl, as an ID: the user's number, which the
// system itself vouches for. A name is not put with it: without cgo it comes out
// of the environment where the number is not in /etc/passwd, and whoever runs
// auditctl can say there what they like.
func osUser() (string, error) {
	number := strconv.Itoa(os.Getuid())
	if os.Getuid() < 0 { // Windows: the token's SID
		u, err := user.Current()
		if err != nil {
			return "", fmt.Errorf("the user of the operating system is not known, and would be recorded: %w", err)
		}
		number = u.Uid
	}
	id := "os:uid." + number
	if err := access.CheckID(id); err != nil {
		return "", fmt.Errorf("the number of this user cannot stand in an event: it %w", err)
	}
	return id, nil
}
