// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"github.com/part164/part164/access"
)

// RotateKeys makes a new version of each of the journal's keys and goes on
// with it. It records a [JournalKeyRotated] by the principal of ctx, which is
// required; the checkpoint behind it is signed by the old and the new key, so
// that [Verify] follows from the one to the other. verifier.pub then has both:
// give the new one to whoever keeps a copy.
//
// Old versions stay in keys.json. Pseudonyms of older lines are brought forward
// to the new key where the journal is read, tickets of older versions are still
// good, and details that were sealed before still open. Rotate when somebody
// may have seen the keys, or as often as a policy asks; the lines that were
// written before stay as exposed as the old keys are.
//
// The KEK is not changed. An error means that the old keys stay in use, unless
// it says otherwise; call it again.
func (j *Journal) RotateKeys(ctx context.Context) error {
	if err := j.rotateKeys(ctx); err != nil {
		return fmt.Errorf("audit: rotate keys of %s: %w", j.dir, err)
	}
	return nil
}

func (j *Journal) rotateKeys(ctx context.Context) error {
	s, err := Stamp(ctx, Event{Type: JournalKeyRotated, Outcome: Success})
	if err != nil {
		return err
	}
	if s.Actor.ID == "" {
		return access.ErrNoPrincipal
	}
	j.rotating.Lock()
	defer j.rotating.Unlock()
	if j.isClosed() {
		return ErrClosed
	}
	have := j.keys.now.Load()
	if len(have.signers) == have.version { // else an earlier try made the new version
		wrapped, err := addVersion(have.wrapped, have.handles, j.keys.kek)
		if err != nil {
			return err
		}
		all, err := wrapped.state(j.keys.kek)
		if err != nil {
			return err
		}
		if all, err = all.use(have.version); err != nil {
			return err
		}
		// Before anything is written with it: a key that is lost with a crash
		// would leave lines that nobody can go on from.
		if err := wrapped.write(j.dir, keysFile); err != nil {
			return fmt.Errorf("%w: %w", ErrFolder, err)
		}
		have = all
		j.mu.Lock()
		j.keys.now.Store(all)
		j.mu.Unlock()
	}
	next, err := have.use(have.version + 1)
	if err != nil {
		return err
	}
	next.both = true
	s.Rotation = &Rotation{From: have.wrapped.Verifiers[have.version-1], To: have.wrapped.Verifiers[have.version]}
	bodies, err := have.bodies(&s)
	if err != nil {
		return err
	}
	var entries []entry
	if j.cfg.Durability != nil {
		e, err := j.keysEvent()
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	if _, _, err := j.submit(append(entries, entry{bodies: bodies, turn: next})...); err != nil {
		return err
	}
	if err := j.publish(); err != nil {
		return fmt.Errorf("the new key is in use, and %s does not have it until the journal is opened again: %w", verifierFile, err)
	}
	return nil
}

// turn goes on with other keys, behind the line that was just added and that
// says so: one checkpoint is signed by both. j.mu is held. Where the line is
// refused later, so is the turn.
func (j *Journal) turn(next *keyState) error {
	before := j.keys.now.Load()
	j.keys.now.Store(next)
	j.group.lost = append(j.group.lost, func() { j.keys.now.Store(before) })
	_, _, err := j.addCheckpoint()
	return err
}

// resume takes the version of the keys that the journal went on with before it
// was closed, or crashed.
func (k *keys) resume(s *scanned) error {
	have := k.now.Load()
	version := s.signed + 1
	if s.to != "" {
		version = slices.Index(have.wrapped.Verifiers, s.to) + 1
	}
	if version < 1 {
		return &CorruptError{File: keysFile, Problem: "it lacks the key that the journal was rotated to"}
	}
	next, err := have.use(version)
	if err != nil {
		return err
	}
	k.now.Store(next)
	return nil
}

// verifiers returns those of all versions of the keys.
func (k *keys) verifiers() []note.Verifier {
	var out []note.Verifier
	for _, s := range k.now.Load().signers {
		out = append(out, s.verifier)
	}
	return out
}

// signedByOne checks a checkpoint that one of verifiers must have signed, or
// two that follow each other, and returns which: of two the later.
func signedByOne(f *frame, t tree, origin string, verifiers []note.Verifier) (int, error) {
	err := errors.New("there is no key to check the checkpoint with")
	for i, v := range slices.Backward(verifiers) {
		if err = checkCheckpoint(f, t, origin, v); err == nil {
			return i, nil
		}
		if i > 0 && checkCheckpoint(f, t, origin, verifiers[i-1], v) == nil {
			return i, nil
		}
	}
	return 0, err
}

// rotationOf reads the keys that a JournalKeyRotated names.
func rotationOf(f *frame) (Rotation, error) {
	var l struct {
		Rotation lineRotation `json:"rotation"`
	}
	if err := json.Unmarshal(append([]byte(`{"type":""`), append(slices.Clone(f.rest), '}')...), &l); err != nil {
		return Rotation{}, errors.New("the rotation of keys is not JSON")
	}
	return Rotation(l.Rotation), nil
}
