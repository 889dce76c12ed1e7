// SPDX-License-Identifier: Apache-2.0

package witness_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/witness"
)

func rotate(t testing.TB, j *audit.Journal) {
	t.Helper()
	ctx := access.With(t.Context(), access.Principal{ID: "u-9", Tenant: "t-1", Kind: access.Human}, access.Compliance)
	if err := j.RotateKeys(ctx); err != nil {
		t.Fatal(err)
	}
}

func submit(t testing.TB, j witness.Journal, s witness.Submitter) uint64 {
	t.Helper()
	size, err := witness.Submit(t.Context(), j, s)
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// A witness that knows a journal's first key goes on with the next ones,
// however many there were since it looked, and after a restart.
func TestTheWitnessFollowsARotation(t *testing.T) {
	t.Parallel()
	submitters(t, func(t *testing.T, f *fixture, s witness.Submitter, j *audit.Journal, dir string) {
		first := publicKey(t, dir)
		size := submit(t, j, s)
		rotate(t, j)
		size = grow(t, j, size).Size
		if got := submit(t, j, s); got < size {
			t.Fatalf("after a rotation it saw %d of %d lines", got, size)
		}
		if err := f.w.Close(); err != nil {
			t.Fatal(err)
		}
		f.open(t, first)
		if _, http := s.(*witness.Client); http {
			s = serve(t, f.w, f.key)
		} else {
			s = f.w
		}
		size = submit(t, j, s)
		rotate(t, j)
		rotate(t, j)
		size = grow(t, j, size).Size
		if got := submit(t, j, s); got < size {
			t.Errorf("after two more it saw %d of %d lines", got, size)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		as, err := witness.Read(f.path, witness.Trust{Witnesses: []string{f.key}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Verifier: first, Anchors: as})
		if err != nil || !r.Witnessed() || r.Broken() {
			t.Errorf("%v, %v, %v", r.Completeness, r.Defects, err)
		}
		// Whoever takes the old key from Config.Logs takes what follows from it.
		if err := f.w.Close(); err != nil {
			t.Fatal(err)
		}
		keys := strings.Fields(publicKey(t, dir))
		_, stranger, err := note.GenerateKey(rand.Reader, strings.Split(first, "+")[0])
		if err != nil {
			t.Fatal(err)
		}
		f.open(t, stranger)
		if _, err := witness.Submit(t.Context(), witness.Folder(dir), f.w); !errors.Is(err, witness.ErrSignature) {
			t.Errorf("the first key is no longer trusted: %v", err)
		}
		if err := f.w.Close(); err != nil {
			t.Fatal(err)
		}
		f.open(t, keys[len(keys)-1])
		submit(t, witness.Folder(dir), f.w)
	})
}

// A witness of somebody else's takes the new key by hand, and the error says so.
func TestAWitnessThatCannotFollowIsNamed(t *testing.T) {
	t.Parallel()
	j, dir := journal(t)
	f := newWitness(t, publicKey(t, dir))
	c := serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/add-rotation") {
			http.NotFound(rw, r)
			return
		}
		f.w.ServeHTTP(rw, r)
	}), f.key)
	size := submit(t, j, c)
	rotate(t, j)
	grow(t, j, size)
	_, err := witness.Submit(t.Context(), j, c)
	if !errors.Is(err, witness.ErrSignature) || !strings.Contains(err.Error(), "takes no rotation") || !strings.Contains(err.Error(), "give its verifier.pub") {
		t.Errorf("Submit: %v", err)
	}
}

// What proves no rotation, or not here, gives nobody a key.
func TestNoKeyIsTakenWithoutItsProof(t *testing.T) {
	t.Parallel()
	j, dir := journal(t)
	record(t, j, 1)
	rotate(t, j)
	record(t, j, 3)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	cp, err := audit.LastCheckpoint(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	keys := strings.Fields(publicKey(t, dir))
	good, err := audit.ProveRotation(t.Context(), dir, keys[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := audit.ProveRotation(t.Context(), dir, keys[0]); err == nil {
		t.Error("the key that the journal began with is proved to be a later one")
	}
	other := func(signed []byte) audit.Proof {
		var event string
		for l, err := range audit.Read(t.Context(), dir, audit.Position{}) {
			if err != nil {
				t.Fatal(err)
			}
			if l.Type == audit.Searched {
				event = l.ID
				break
			}
		}
		p, err := audit.Prove(t.Context(), dir, event, signed)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	// The signature lines of a note are independent: whoever has a signed
	// checkpoint can add their own.
	thief, thiefKey, err := note.GenerateKey(rand.Reader, strings.Split(keys[0], "+")[0])
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(thief)
	if err != nil {
		t.Fatal(err)
	}
	both := good
	text, _, _ := strings.Cut(good.Checkpoint, "\n\n")
	added, err := note.Sign(&note.Note{Text: text + "\n"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	both.Checkpoint += string(added[len(text)+2:])
	both.Line = strings.Replace(both.Line, keys[1], thiefKey, 1)
	oldOnly, newOnly := good, good
	lines := strings.SplitAfter(good.Checkpoint, "\n")
	n := len(lines) - 1 // behind the last newline stands nothing
	oldOnly.Checkpoint = strings.Join(append(append([]string{}, lines[:n-1]...), ""), "")
	newOnly.Checkpoint = strings.Join(append(append([]string{}, lines[:n-2]...), lines[n-1]), "")
	data := func(p audit.Proof) []byte {
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, tt := range map[string]struct {
		proof []byte
		want  error
	}{
		"nothing":                               {nil, witness.ErrRequest},
		"junk":                                  {[]byte("{"), witness.ErrRequest},
		"an empty object":                       {[]byte("{}"), witness.ErrUnknownLog},
		"another event":                         {data(other([]byte(good.Checkpoint))), witness.ErrRequest},
		"a line with the thief's key":           {data(both), witness.ErrSignature},
		"the new key has not signed":            {data(oldOnly), witness.ErrSignature},
		"the old key has not signed":            {data(newOnly), witness.ErrSignature},
		"more behind it":                        {append(data(good), "{}"...), witness.ErrRequest},
		"under a checkpoint that was not shown": {data(good), witness.ErrRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newWitness(t, keys[0])
			if name != "under a checkpoint that was not shown" {
				if _, err := f.w.AddCheckpoint(t.Context(), 0, nil, []byte(good.Checkpoint)); err != nil {
					t.Fatal(err)
				}
			}
			for by, add := range map[string]func() error{
				"file": func() error { return f.w.AddRotation(t.Context(), tt.proof) },
				"http": func() error { return serve(t, f.w, f.key).AddRotation(t.Context(), tt.proof) },
			} {
				if err := add(); !errors.Is(err, tt.want) {
					t.Errorf("%s: %v, want %v", by, err, tt.want)
				}
			}
			proof, err := audit.Consistency(t.Context(), dir, good.Size, cp.Size)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.w.AddCheckpoint(t.Context(), good.Size, proof, cp.Note); !errors.Is(err, witness.ErrSignature) {
				t.Errorf("and then the next checkpoint: %v", err)
			}
		})
	}
}
