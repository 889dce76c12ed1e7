// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/witness"
)

const verifyProofManual = `NAME
    auditctl verify-proof - check a proof that an event is in a journal

SYNOPSIS
    auditctl verify-proof FILE --pubkey FILE [--witness-key FILE]...
        [--require-witness] [--json]

DESCRIPTION
    verify-proof checks a proof that auditctl prove printed: that the line is
    in the tree that the journal signed for. It needs no journal, only the
    journal's public key from a safe place. It prints the event.

    The proof has in it how the journal's key was rotated, so that the key of
    an earlier day will do. Where the key that signed cannot be reached from
    the one given, nothing is said of the proof: exit status 3 names both.

OPTIONS
    --pubkey FILE
        The journal's public key, as in its verifier.pub. Required.
    --witness-key FILE
        Verifier keys of witnesses, a line each, whose cosignatures are
        looked for.
    --require-witness
        Exit with 2 unless one of them has cosigned.
    --json
        Print the verdict and the line as one JSON object.
    --help
        Print this page.

EXIT STATUS
    0   the event is in the journal
    1   the proof does not show it
    2   no witness has cosigned, and --require-witness was given
    3   it could not be checked: bad usage, a file is missing, or it was
        signed with another key than the one given

EXAMPLES
    auditctl verify-proof proof.json --pubkey verifier.pub
`

func verifyProofCommand() command {
	return command{"verify-proof", "check such a proof, without the journal", verifyProofManual, runVerifyProof}
}

func runVerifyProof(_ context.Context, c *call) (int, error) {
	pubkey := c.flags.String("pubkey", "", "")
	var keyFiles []string
	c.flags.Func("witness-key", "", func(s string) error { keyFiles = append(keyFiles, s); return nil })
	requireWitness := c.flags.Bool("require-witness", false, "")
	files, err := c.parse()
	switch {
	case err != nil:
		return 0, err
	case len(files) != 1:
		return 0, usagef("it takes the file of a proof")
	case *pubkey == "":
		return 0, usagef("--pubkey is needed: the journal's public key is what a proof is checked with")
	case *requireWitness && len(keyFiles) == 0:
		return 0, usagef("--require-witness needs --witness-key")
	}
	key, err := readVerifier(*pubkey)
	if err != nil {
		return 0, err
	}
	keys, err := readLinesOf(keyFiles)
	if err != nil {
		return 0, err
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return 0, err
	}
	ev, cp, err := audit.VerifyProof(data, key)
	var signer *audit.SignerError
	if errors.Is(err, audit.ErrNewer) || errors.As(err, &signer) {
		return 0, err
	}
	if err != nil {
		fmt.Fprintf(c.stderr, "auditctl verify-proof: BROKEN: %v\n", err)
		return exitBroken, nil
	}
	var seen []audit.Anchor
	if len(keys) > 0 {
		if seen, err = witness.Cosigned(cp.Note, keys...); err != nil {
			return 0, err
		}
	}
	_, err = audit.ParseCheckpoint(cp.Note, key)
	if err := c.proved(&ev, cp, err != nil, seen); err != nil {
		return 0, err
	}
	if *requireWitness && len(seen) == 0 {
		return exitUnwitnessed, nil
	}
	return exitOK, nil
}

func (c *call) proved(ev *audit.Stored, cp audit.Checkpoint, rotated bool, seen []audit.Anchor) error {
	if c.asJSON {
		return c.print(struct {
			OK        bool           `json:"ok"`
			Journal   string         `json:"journal"`
			Event     string         `json:"event"`
			Type      audit.Type     `json:"type"`
			Time      time.Time      `json:"time"`
			Lines     uint64         `json:"lines"`
			SignedAt  time.Time      `json:"signed_at"`
			Rotated   bool           `json:"rotated"` // signed with a key that the one given signed for
			Witnesses []audit.Anchor `json:"witnesses"`
		}{true, cp.Origin, ev.ID, ev.Type, ev.Time, cp.Size, cp.Time, rotated, append([]audit.Anchor{}, seen...)})
	}
	p := &printer{w: c.stdout}
	p.f("event      %s is in the journal %s\n", ev.ID, cp.Origin)
	p.f("what       %s, %s, at %s by the writer's clock\n", ev.Type, ev.Outcome, stamp(ev.Time))
	if ev.Actor.ID == "" {
		p.f("who        no principal: the trail itself, or a sign-in that failed\n")
	} else {
		p.f("who        %s of %s, for %s\n", ev.Actor.ID, dash(ev.Actor.Tenant), dash(string(ev.Purpose)))
	}
	for _, o := range ev.Objects {
		p.f("record     %s %s of patient %s: %v\n", o.Type, o.Record, o.Patient, o.Fields)
	}
	p.f("signed     over %d lines at %s\n", cp.Size, stamp(cp.Time))
	if rotated {
		p.f("key        not the one given, which signed for it when the journal's keys were rotated\n")
	}
	for _, a := range seen {
		p.f("witnessed  by %s at %s\n", a.By, stamp(a.Time))
	}
	if len(seen) == 0 {
		p.f("UNWITNESSED: the proof rests on the journal's own key\n")
	}
	return p.err
}
