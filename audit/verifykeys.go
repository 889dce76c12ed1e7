// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"slices"

	"golang.org/x/mod/sumdb/note"
)

// A keyring is the public keys that a verification begins with: those in the
// folder, oldest first. Where trusted ones were given, the others only save a
// first reading: each must be vouched for by the one before it, in a checkpoint
// that both signed. It does not change.
type keyring struct {
	trusted   []string
	texts     []string
	verifiers []note.Verifier // of texts
}

// newKeyring returns the keys in a folder, or the trusted ones where none of
// them is among those.
func newKeyring(found, trusted []string) (*keyring, error) {
	k := &keyring{trusted: trusted, texts: found}
	if len(trusted) > 0 && !overlap(found, trusted) {
		k.texts = trusted
	}
	for _, text := range k.texts {
		v, err := note.NewVerifier(text)
		if err != nil {
			return nil, err
		}
		if len(k.verifiers) > 0 && v.Name() != k.verifiers[0].Name() {
			return nil, errors.New("the keys are of two journals")
		}
		k.verifiers = append(k.verifiers, v)
	}
	if len(k.verifiers) == 0 {
		return nil, errors.New("there is no key")
	}
	return k, nil
}

// overlap reports whether a and b have an entry in common.
func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// signer returns which of the keys alone signed a checkpoint; -1 for none.
func (k *keyring) signer(f *frame, t tree) int {
	for i, v := range k.verifiers {
		if checkCheckpoint(f, t, v.Name(), v) == nil {
			return i
		}
	}
	return -1
}

// A keyChain follows a journal from one signing key to the next.
type keyChain struct {
	met     []string      // the keys that signed, each but the first with the one before
	next    note.Verifier // announced, and not signed for yet
	nextKey string
}

// start begins with key i of the keyring, which signed the first checkpoint:
// where the oldest segments were purged it is not the first one.
func (v *verification) start(i int) {
	if i < 0 {
		return
	}
	v.verifier = v.known.verifiers[i]
	v.keys.met = append(v.keys.met, v.known.texts[i])
}

// announce takes note of the key that the journal goes on with.
func (k *keyChain) announce(f *frame, current note.Verifier) error {
	r, err := rotationOf(f)
	if err != nil {
		return err
	}
	from, err := note.NewVerifier(r.From)
	if err != nil || from.Name() != current.Name() || from.KeyHash() != current.KeyHash() {
		return errors.New("the rotation is not from the key that the journal is signed with")
	}
	next, err := note.NewVerifier(r.To)
	if err != nil || next.Name() != current.Name() || next.KeyHash() == current.KeyHash() {
		return errors.New("the rotation is not to another key of this journal")
	}
	k.next, k.nextKey = next, r.To
	return nil
}

// signers returns who must have signed the checkpoint to come.
func (k *keyChain) signers(current note.Verifier) []note.Verifier {
	if k.next != nil {
		return []note.Verifier{current, k.next}
	}
	return []note.Verifier{current}
}

// follow goes on behind a checkpoint that all signers have signed.
func (k *keyChain) follow(current note.Verifier) note.Verifier {
	if k.next == nil {
		return current
	}
	current = k.next
	k.met = append(slices.Clip(k.met), k.nextKey)
	k.next, k.nextKey = nil, ""
	return current
}

// checkKeys finds that no trusted key signed anything of the journal.
func (v *verification) checkKeys() {
	if n := len(v.keys.met); n > 0 {
		v.report.Verifier = v.keys.met[n-1]
	}
	if len(v.known.trusted) > 0 && len(v.keys.met) > 0 && !overlap(v.keys.met, v.known.trusted) {
		v.defect(Defect{File: verifierFile, Problem: "nothing of the journal is signed with the public key that was given"})
	}
}

// checkHead finds that the journal's oldest lines are gone, and that it was not
// the journal that purged them.
func (v *verification) checkHead() error {
	if v.head.index == 0 {
		return nil
	}
	var signers []note.Verifier
	for _, text := range v.keys.met {
		if s, err := note.NewVerifier(text); err == nil {
			signers = append(signers, s)
		}
	}
	var problem string
	if v.report.Purged, problem = v.head.explain(v.dir, v.origin, signers); problem != "" {
		v.defect(Defect{File: segmentName(v.head.index - 1), Problem: problem})
		return nil
	}
	r := v.report.Purged
	if problem = explainCarried(v.ctx, v.dir, r); problem != "" {
		if now, _ := v.head.explain(v.dir, v.origin, signers); now != nil && now.Segments != r.Segments {
			return errMoved
		}
		v.defect(Defect{File: carriedFile(r.Segments), Problem: problem})
	}
	return v.ctx.Err()
}
