// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// A SignerError means that a checkpoint, or a proof under one, cannot be
// checked with the public keys at hand: none of them signed it. The journal's
// key was rotated since, or somebody else signed it.
type SignerError struct {
	Signed []string // the keys of journals that it names, as NAME+HASH: not checked
	Given  []string // those that were given, likewise
}

func (e *SignerError) Error() string {
	signed := strings.Join(e.Signed, ", ")
	if signed == "" {
		signed = "no journal's"
	}
	return fmt.Sprintf("its key is %s, and not %s: if the journal's keys were rotated since, take its newest verifier.pub, from a safe place; if not, it is not the journal's",
		signed, strings.Join(e.Given, ", "))
}

// signerError makes one of a note that none of list signed.
func signerError(n *note.Note, list []note.Verifier) *SignerError {
	e := new(SignerError)
	for _, s := range n.UnverifiedSigs {
		if writer, ok := strings.CutPrefix(s.Name, originPrefix); ok && isID(writer) { // others are witnesses
			e.Signed = append(e.Signed, fmt.Sprintf("%s+%08x", s.Name, s.Hash))
		}
	}
	for _, v := range list {
		e.Given = append(e.Given, fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash()))
	}
	return e
}

// rotations returns the proofs of the rotations that lead to the key that
// signed a checkpoint note, oldest first, from the oldest that was not purged.
func rotations(ctx context.Context, dir string, signed []byte) ([]Proof, error) {
	verifiers, err := readSmall(dir, verifierFile)
	if err != nil {
		return nil, err
	}
	keys := strings.Fields(string(verifiers))
	newest := len(keys) - 1
	for newest > 0 {
		if _, err := ParseCheckpoint(signed, keys[newest]); err == nil {
			break
		}
		newest--
	}
	var out []Proof
	for i := 1; i <= newest; i++ {
		p, err := proveRotation(ctx, dir, keys[i])
		switch {
		case errors.Is(err, errNoRotation): // purged, and so are those before it
			out = nil
		case err != nil:
			return nil, err
		default:
			out = append(out, p)
		}
	}
	return out, nil
}

// follow returns keys with those that the rotations in p lead to from them:
// each named by an event whose checkpoint a key that is trusted by then and the
// new one have both signed. The event must be from a trusted key as well: the
// tree of a new key has the rotations to all the old ones in it, of which one
// may have been stolen since.
func (p *Proof) follow(keys string) string {
	trusted := strings.Fields(keys)
	for i := range p.Rotations {
		r := &p.Rotations[i]
		cp, err := ParseCheckpoint([]byte(r.Checkpoint), strings.Join(trusted, "\n"))
		if err != nil || r.check(cp) != nil {
			continue
		}
		ev, err := decode(strings.TrimPrefix(cp.Origin, originPrefix), []byte(r.Line))
		if err != nil || ev.Type != JournalKeyRotated || ev.Rotation == nil ||
			!slices.Contains(trusted, ev.Rotation.From) || slices.Contains(trusted, ev.Rotation.To) {
			continue
		}
		if _, err := ParseCheckpoint(cp.Note, ev.Rotation.To); err == nil {
			trusted = append(trusted, ev.Rotation.To)
		}
	}
	return strings.Join(trusted, "\n")
}
