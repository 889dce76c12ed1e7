// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/part164/part164/audit"
)

// A Trust says whose signatures count.
type Trust struct {
	// Witnesses are verifier keys of witnesses. Where there are any, only
	// checkpoints with a cosignature of one of them are taken.
	Witnesses []string

	// Logs are the public keys of journals. Without Witnesses the place that a
	// file was kept in is all that vouches for it; its checkpoints are then
	// taken if they have their journal's signature, under the file's name.
	Logs []string
}

// Read returns what the witness saw whose file is at path, which a [Witness]
// or [Lines] wrote: an anchor a line and witness. Each line must be signed by
// somebody whom trust names. Half a line at the end is an error, too: lines were
// cut off, or the witness is writing one, and it is to be read again.
func Read(path string, trust Trust) ([]audit.Anchor, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("witness: read: %w", err)
	}
	defer f.Close()
	out, err := read(f, filepath.Base(path), trust)
	if err != nil {
		return nil, fmt.Errorf("witness: read %s: %w", path, err)
	}
	return out, nil
}

func read(r io.Reader, name string, trust Trust) ([]audit.Anchor, error) {
	verifiers, err := trust.verifiers()
	if err != nil {
		return nil, err
	}
	var out []audit.Anchor
	err = readWhole(r, func(l line) error {
		var as []audit.Anchor
		if len(verifiers) > 0 {
			as = anchors([]byte(l.Checkpoint), verifiers...)
		} else {
			for _, key := range trust.Logs {
				if cp, err := audit.ParseCheckpoint([]byte(l.Checkpoint), key); err == nil {
					as = append(as, audit.Anchor{Origin: cp.Origin, Size: cp.Size, Root: cp.Root, Time: cp.Time, By: name})
				}
			}
		}
		if len(as) == 0 {
			return errors.New("it has no signature of a key that was given")
		}
		out = append(out, as...)
		return nil
	})
	return out, err
}

// Notes returns the signed notes in the file of a witness, unchecked: [Read]
// checks them.
func Notes(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("witness: read: %w", err)
	}
	defer f.Close()
	var out [][]byte
	err = readWhole(f, func(l line) error {
		out = append(out, []byte(l.Checkpoint))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("witness: read %s: %w", path, err)
	}
	return out, nil
}

func (t Trust) verifiers() ([]note.Verifier, error) {
	var out []note.Verifier
	for _, key := range t.Witnesses {
		v, err := fnote.NewVerifierForCosignatureV1(strings.TrimSpace(key))
		if err != nil {
			return nil, errors.New("a witness's key is not a C2SP verifier key of cosignatures")
		}
		out = append(out, v)
	}
	if len(out) == 0 && len(t.Logs) == 0 {
		return nil, errors.New("no key was given: neither a witness's nor a journal's")
	}
	return out, nil
}

// Cosigned returns what the witnesses whose verifier keys are given say in the
// cosignatures of a checkpoint's signed note, such as that of a proof.
func Cosigned(signed []byte, witnesses ...string) ([]audit.Anchor, error) {
	verifiers, err := Trust{Witnesses: witnesses}.verifiers()
	if err != nil {
		return nil, fmt.Errorf("witness: read cosignatures: %w", err)
	}
	return anchors(signed, verifiers...), nil
}

// anchors returns one for each of the verifiers that cosigned the note.
func anchors(signed []byte, verifiers ...note.Verifier) []audit.Anchor {
	n, err := note.Open(signed, note.VerifierList(verifiers...))
	if err != nil {
		return nil
	}
	var cp log.Checkpoint
	if _, err := cp.Unmarshal([]byte(n.Text)); err != nil || len(cp.Hash) != 32 {
		return nil
	}
	var out []audit.Anchor
	for _, sig := range n.Sigs {
		at, err := fnote.CoSigV1Timestamp(sig)
		if err != nil {
			continue
		}
		out = append(out, audit.Anchor{Origin: cp.Origin, Size: cp.Size, Root: [32]byte(cp.Hash), Time: at.UTC(), By: sig.Name})
	}
	return out
}
