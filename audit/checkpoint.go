// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
)

// A checkpoint line holds a C2SP signed note: a tlog-checkpoint of all lines
// before it, with one extension line, the time at which it was signed.
const checkpointRoom = 1 << 10 // what a checkpoint line takes at most

// signCheckpoint returns the body of a checkpoint line over t.
func (k *keys) signCheckpoint(t tree, now []byte) ([]byte, error) {
	s := k.now.Load()
	signers := []note.Signer{s.signer()}
	if s.both {
		signers = []note.Signer{s.signers[s.version-2], s.signer()}
	}
	body, err := signCheckpoint(t, now, k.origin, signers...)
	if err == nil && s.both {
		done := *s
		done.both = false
		k.now.Store(&done)
	}
	return body, err
}

func signCheckpoint(t tree, now []byte, origin string, signers ...note.Signer) ([]byte, error) {
	root, err := t.root()
	if err != nil {
		return nil, err
	}
	text := string(log.Checkpoint{Origin: origin, Size: t.size(), Hash: root}.Marshal()) + "time " + string(now) + "\n"
	signed, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		return nil, err
	}
	return checkpointBody(signed), nil
}

func checkpointBody(signed []byte) []byte {
	body := append(make([]byte, 0, checkpointRoom), `,"type":"checkpoint","note":"`...)
	body = append(body, strings.ReplaceAll(string(signed), "\n", `\n`)...)
	return append(body, '"')
}

// checkCheckpoint says what is wrong with the checkpoint line f, which t, the
// tree of all lines before it, must agree with, and which every one of
// verifiers must have signed, and nobody else. No verifier at all leaves the
// signatures unchecked.
func checkCheckpoint(f *frame, t tree, origin string, verifiers ...note.Verifier) error {
	var l struct {
		Note string `json:"note"`
	}
	if err := json.Unmarshal(append([]byte(`{"type":"checkpoint"`), append(slices.Clone(f.rest), '}')...), &l); err != nil {
		return errors.New("the checkpoint is not JSON")
	}
	// Everything but the note is fixed: nothing can hide in the line.
	if want := checkpointBody([]byte(l.Note)); !bytes.Equal(want[len(`,"type":"checkpoint"`):], f.rest) {
		return errors.New("the checkpoint has more in it than its note")
	}
	text := l.Note
	if len(verifiers) > 0 {
		n, err := note.Open([]byte(l.Note), note.VerifierList(verifiers...))
		if err != nil {
			return errors.New("the signature of the checkpoint does not verify")
		}
		if len(n.Sigs) != len(verifiers) || len(n.UnverifiedSigs) != 0 ||
			slices.ContainsFunc(n.Sigs, func(s note.Signature) bool { return !strictBase64(s.Base64) }) {
			return errors.New("the checkpoint has other signatures than its journal's")
		}
		text = n.Text
	}
	var cp log.Checkpoint
	rest, err := cp.Unmarshal([]byte(text))
	if err != nil {
		return errors.New("the checkpoint is malformed")
	}
	root, err := t.root()
	if err != nil {
		return err
	}
	switch {
	case cp.Origin != origin:
		return errors.New("the checkpoint is of another journal")
	case cp.Size != f.seq || t.size() != f.seq:
		return fmt.Errorf("the checkpoint is over %d lines, not over the %d before it", cp.Size, t.size())
	case !bytes.Equal(cp.Hash, root):
		return errRoot
	case len(verifiers) > 0 && string(rest) != "time "+string(f.time)+"\n":
		return errors.New("the checkpoint was signed at another time than its line says")
	}
	return nil
}

var errRoot = errors.New("the lines before the checkpoint are not those that were signed")

// strictBase64 reports whether s has one reading only.
func strictBase64(s string) bool {
	_, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil
}
