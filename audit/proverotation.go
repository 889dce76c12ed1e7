// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
)

// ProveRotation returns the [Proof] of the [JournalKeyRotated] that went on
// with the public key to, under the checkpoint behind it, which the key before
// it and to have both signed: whoever trusts the one can so trust the other.
// It reads the journal in dir; a rotation that was purged cannot be proved.
func ProveRotation(ctx context.Context, dir, to string) (Proof, error) {
	p, err := proveRotation(ctx, dir, to)
	if err != nil {
		return Proof{}, fmt.Errorf("audit: prove rotation: %w", err)
	}
	return p, nil
}

var errNoRotation = errors.New("no rotation to that key: it was purged, or the journal began with it")

func proveRotation(ctx context.Context, dir, to string) (Proof, error) {
	var event Line
	for l, err := range Read(ctx, dir, Position{}) {
		if err != nil {
			return Proof{}, err
		}
		if l.Type == JournalKeyRotated && l.Rotation != nil && l.Rotation.To == to {
			event = l
			break
		}
	}
	if event.Rotation == nil {
		return Proof{}, fmt.Errorf("%s has %w", dir, errNoRotation)
	}
	var signed []byte
	err := lines(ctx, dir, event.Seq, nil, func(*segmentHeader, uint64) error { return nil }, func(f *frame, _ []byte, _ leaf) (err error) {
		if f.seq <= event.Seq || Type(f.typ) != typeCheckpoint {
			return nil
		}
		if signed, err = noteOf(f.rest); err == nil {
			err = errStop
		}
		return err
	})
	if err != nil {
		return Proof{}, err
	}
	return prove(ctx, dir, event.ID, signed)
}
