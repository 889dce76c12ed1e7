// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/part164/part164/access"
)

// twiceRotated returns a closed journal whose keys were rotated twice, its
// event of before that, and its signers, oldest first.
func twiceRotated(t *testing.T) (dir, event string, keys []string, signers []noteSigner) {
	t.Helper()
	dir = diskFolder(t)
	j, err := Open(dir, Config{Development: true, SegmentSize: minSegment, CheckpointEvery: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)
	r, err := j.Record(ctx, Event{Type: Searched, Outcome: Success})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := j.RotateKeys(ctx); err != nil {
			t.Fatal(err)
		}
	}
	s := j.keys.now.Load()
	keys, signers = slices.Clone(s.wrapped.Verifiers), s.signers
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, r.ID, keys, signers
}

func proofJSON(t *testing.T, p Proof) []byte {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A proof is good with the key of any day from the setting up on.
func TestAProofGoesOnFromAnOlderKey(t *testing.T) {
	t.Parallel()
	dir, event, keys, _ := twiceRotated(t)
	p, err := Prove(t.Context(), dir, event, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range append(slices.Clone(keys), strings.Join(keys, "\n"), keys[0]+"\n"+keys[1]) {
		if ev, _, err := VerifyProof(proofJSON(t, p), key); err != nil || ev.ID != event {
			t.Errorf("with key %d: %v", i+1, err)
		}
	}
	// Without the rotations in it nothing is said of it, and what to do is.
	p.Rotations = nil
	var signer *SignerError
	if _, _, err := VerifyProof(proofJSON(t, p), keys[0]); !errors.As(err, &signer) || len(signer.Signed) != 1 || len(signer.Given) != 1 ||
		!strings.HasPrefix(keys[2], signer.Signed[0]+"+") || !strings.HasPrefix(keys[0], signer.Given[0]+"+") || !strings.Contains(err.Error(), "newest verifier.pub") {
		t.Errorf("%v", err)
	}
}

// What is no rotation from the key that was given leads nowhere.
func TestAProofIsNotLedAstray(t *testing.T) {
	t.Parallel()
	dir, event, keys, signers := twiceRotated(t)
	good, err := Prove(t.Context(), dir, event, nil)
	if err != nil {
		t.Fatal(err)
	}
	origin, _, _ := strings.Cut(good.Checkpoint, "\n")
	writer := strings.TrimPrefix(origin, originPrefix)
	private, public, err := note.GenerateKey(nil, origin)
	if err != nil {
		t.Fatal(err)
	}
	thief, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	// cosign adds a signature to a note, which keys[2] signed.
	cosign := func(signed string, by note.Signer) string {
		var known []note.Verifier
		for _, s := range signers {
			known = append(known, s.verifier)
		}
		n, err := note.Open([]byte(signed), note.VerifierList(known...))
		if err != nil {
			t.Fatal(err)
		}
		out, err := note.Sign(n, by)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	// forged is a proof of a line that never was, in a tree of its own.
	forged := func(by note.Signer, rotations ...Proof) []byte {
		body := `,"type":"search","outcome":"success","actor":{"id":"u-9","tenant":"t-1","kind":"human"},"purpose":"TREAT"`
		now := appendTime(nil, time.Unix(1e9, 0))
		line, l := newLineWriter().append(nil, 0, false, new(leaf), now, batch{}, []byte(body))
		tr, err := newTree(0, nil)
		if err == nil {
			err = tr.add(&l)
		}
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signCheckpoint(tr, now, origin, by)
		if err != nil {
			t.Fatal(err)
		}
		text, err := noteOf(signed[len(`,"type":"checkpoint"`):])
		if err != nil {
			t.Fatal(err)
		}
		return proofJSON(t, Proof{Format: 1, Event: writer + ".0", Line: strings.TrimSpace(string(line)), Size: 1, Checkpoint: string(text), Rotations: rotations})
	}
	if _, _, err := VerifyProof(forged(signers[1]), keys[1]); err != nil {
		t.Fatalf("the forgery itself is no good: %v", err)
	}

	first, second := good.Rotations[0], good.Rotations[1]
	// Whoever stole a key that was replaced adds its signature to the newest
	// checkpoint, over a tree that has the rotation to that key in it.
	last, err := LastCheckpoint(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	back, err := prove(t.Context(), dir, first.Event, []byte(cosign(string(last.Note), signers[1])))
	if err != nil {
		t.Fatal(err)
	}
	// A genuine rotation, its line edited to name the thief's key.
	edited := first
	edited.Line = strings.Replace(first.Line, keys[1], public, 1)
	edited.Line = string(Rechecksum([]byte(edited.Line)))
	edited.Checkpoint = cosign(first.Checkpoint, thief)
	// One that the new key did not sign.
	half := first
	sigs := strings.SplitAfter(first.Checkpoint, "\n")
	half.Checkpoint = strings.Join(slices.DeleteFunc(sigs, func(s string) bool {
		_, err := ParseCheckpoint([]byte(strings.Join(sigs[:5], "")+s), keys[1])
		return strings.HasPrefix(s, "— ") && err == nil
	}), "")
	if half.Checkpoint == first.Checkpoint {
		t.Fatal("no signature was left out")
	}
	for name, x := range map[string]struct {
		data  []byte
		given string
	}{
		"an old key through the newest tree": {forged(signers[1], back), keys[2]},
		"an edited rotation":                 {forged(thief, edited), keys[0]},
		"a key that did not sign":            {forged(signers[1], half), keys[0]},
		"a rotation from a key not given":    {forged(signers[2], second), keys[0]},
		"no rotation but another event":      {forged(thief, good), keys[0]},
		"the thief's own":                    {forged(thief, first, second), keys[0]},
	} {
		var signer *SignerError
		if ev, _, err := VerifyProof(x.data, x.given); !errors.As(err, &signer) {
			t.Errorf("%s: %+v, %v", name, ev, err)
		}
	}
}
