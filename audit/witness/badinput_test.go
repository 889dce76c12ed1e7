// SPDX-License-Identifier: Apache-2.0

package witness_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/witness"
)

// cosign signs what no honest witness would.
func cosign(t testing.TB, signer string, signed []byte) (sigs, whole []byte) {
	t.Helper()
	s, err := fnote.NewSignerForCosignatureV1(signer)
	if err != nil {
		t.Fatal(err)
	}
	text := signed[:bytes.LastIndex(signed, []byte("\n\n"))+1]
	cosigned, err := note.Sign(&note.Note{Text: string(text)}, s)
	if err != nil {
		t.Fatal(err)
	}
	sigs = cosigned[len(text)+1:]
	return sigs, slices.Concat(signed, sigs)
}

func rosterOf(t testing.TB, notes ...[]byte) string {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for _, n := range notes {
		if err := enc.Encode(map[string]string{"checkpoint": string(n)}); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func says(code int, contentType, body string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", contentType)
		rw.WriteHeader(code)
		_, _ = io.WriteString(rw, body)
	}
}

// endless writes until nobody listens.
func endless(rw http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	chunk := bytes.Repeat([]byte("— "), 32<<10)
	for r.Context().Err() == nil {
		if _, err := rw.Write(chunk); err != nil {
			return
		}
	}
}

func silent(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client is gone
	<-r.Context().Done()
}

// A witness that lies, is down or is another one: each is an error that says
// so, nothing is kept of what it says, and no roster comes of it.
func TestEachLieOfAWitnessIsNamed(t *testing.T) {
	t.Parallel()
	j, dir := journal(t)
	first := grow(t, j, 0)
	second := grow(t, j, first.Size)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	last, err := audit.LastCheckpoint(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	f, other := newWitness(t, publicKey(t, dir)), newWitness(t, publicKey(t, dir))
	skey, _, err := note.GenerateKey(rand.Reader, "part164/jx")
	if err != nil {
		t.Fatal(err)
	}
	foreign, _ := cosign(t, other.signer, last.Note)
	ofOther, _ := cosign(t, f.signer, sign(t, skey, int(last.Size), 1))
	old, oldNote := cosign(t, f.signer, first.Note)
	_, bySomebody := cosign(t, other.signer, first.Note)
	for name, tt := range map[string]struct {
		h    http.Handler
		want error  // wrapped
		says string // in the error
	}{
		"a signature by another key":          {says(200, "", string(foreign)), witness.ErrCosignature, ""},
		"a cosignature of another origin":     {says(200, "", string(ofOther)), witness.ErrCosignature, ""},
		"a replayed old cosignature":          {says(200, "", string(old)), witness.ErrCosignature, ""},
		"garbage":                             {says(200, "text/html", "<html>welcome</html>"), witness.ErrCosignature, ""},
		"nothing":                             {says(200, "", ""), witness.ErrCosignature, ""},
		"an endless body":                     {http.HandlerFunc(endless), nil, "longer than 16 MiB"},
		"409 with a size over ours":           {says(409, "text/x.tlog.size", "1000000\n"), witness.ErrTruncated, "of which it saw 1000000"},
		"409 with a size that is none":        {says(409, "text/x.tlog.size", "-1\n"), nil, "names none"},
		"409 with a size over all":            {says(409, "text/x.tlog.size", "99999999999999999999\n"), nil, "names none"},
		"409 without a size: another root":    {says(409, "text/plain", "no\n"), witness.ErrFork, ""},
		"422: a fork":                         {says(422, "", ""), witness.ErrFork, ""},
		"403":                                 {says(403, "", ""), witness.ErrSignature, "verifier.pub"},
		"404":                                 {says(404, "", ""), witness.ErrUnknownLog, ""},
		"400":                                 {says(400, "", ""), witness.ErrRequest, ""},
		"500":                                 {says(500, "", ""), nil, "status 500"},
		"a redirection, with the good answer": {http.RedirectHandler("/elsewhere", http.StatusTemporaryRedirect), nil, "redirections are not followed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, tt.h, f.key)
			size, err := witness.Submit(t.Context(), witness.Folder(dir), c)
			if err == nil || size == last.Size || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Submit = %d, %v", size, err)
			}
			if as, err := c.Roster(t.Context()); err == nil && len(as) > 0 {
				t.Errorf("Roster = %+v", as)
			}
		})
	}
	t.Cleanup(func() {
		if files, _ := filepath.Glob(filepath.Join(dir, "witness-*")); len(files) > 0 {
			t.Errorf("something was kept: %v", files)
		}
	})

	// A size that changes with each answer goes on for no longer than three.
	asks := 0
	c := serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asks++
		says(409, "text/x.tlog.size", string(rune('0'+asks))+"\n")(rw, r)
	}), f.key)
	if _, err := witness.Submit(t.Context(), witness.Folder(dir), c); err == nil || !strings.Contains(err.Error(), "its size changes") || asks != 3 {
		t.Errorf("after %d answers: %v", asks, err)
	}

	for name, body := range map[string]string{
		"garbage":                     "<html>welcome</html>\n",
		"half a line":                 rosterOf(t, oldNote)[:100],
		"of another witness":          rosterOf(t, bySomebody),
		"one of another witness":      rosterOf(t, oldNote, bySomebody),
		"without a cosignature":       rosterOf(t, second.Note),
		"no signed note":              rosterOf(t, []byte("x")),
		"a note without text":         rosterOf(t, []byte("\n\n")),
		"a field that nobody expects": `{"checkpoint":"a\n\nb","x":1}` + "\n",
	} {
		if as, err := serve(t, says(200, "application/jsonl", body), f.key).Roster(t.Context()); err == nil {
			t.Errorf("%s: Roster = %+v", name, as)
		}
	}

	// It never answers.
	slow := serve(t, http.HandlerFunc(silent), f.key)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := witness.Submit(ctx, witness.Folder(dir), slow); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a witness that never answers: %v", err)
	}
	// Its certificate is nobody's whom we trust; or nobody listens.
	for _, prefix := range []string{prefixOf(t, says(200, "", "")), "https://127.0.0.1:1/w1"} {
		c, err := witness.NewClient(prefix, f.key, &tls.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Roster(t.Context()); err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("%s: %v", prefix, err)
		}
	}
}

// A witness that was set back to a copy takes what it forgot again, from a
// fork as well: that it did is a finding, in the same process and in a later.
func TestAWitnessThatForgets(t *testing.T) {
	t.Parallel()
	submitters(t, func(t *testing.T, f *fixture, s witness.Submitter, j *audit.Journal, dir string) {
		first := grow(t, j, 0)
		if size, err := witness.Submit(t.Context(), j, s); err != nil || size < first.Size {
			t.Fatal(size, err)
		}
		memory, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		grow(t, j, first.Size)
		seen, err := witness.Submit(t.Context(), j, s)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.path, memory, 0o600); err != nil {
			t.Fatal(err)
		}
		f.open(t, publicKey(t, dir))
		if _, http := s.(*witness.Client); http {
			s = serve(t, f.w, f.key)
		} else {
			s = f.w
		}
		size, err := witness.Submit(t.Context(), j, s)
		if !errors.Is(err, witness.ErrSetBack) || size < seen {
			t.Errorf("Submit = %d, %v; want ErrSetBack", size, err)
		}
		if size, err := witness.Submit(t.Context(), j, s); err != nil || size < seen {
			t.Errorf("once it has caught up: %d, %v", size, err)
		}
	})
}

// What a remote witness cosigned is kept beside the journal: while the witness
// cannot be asked, Verify and Prove go by it.
func TestWhatARemoteWitnessCosignedIsKept(t *testing.T) {
	t.Parallel()
	submitters(t, func(t *testing.T, f *fixture, s witness.Submitter, j *audit.Journal, dir string) {
		cp := grow(t, j, 0)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- witness.Run(ctx, j, s, witness.RunConfig{Report: func(s witness.Status) {
				if s.Err != nil {
					t.Error(s.Err)
				}
				cancel()
			}})
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		size, err := witness.Submit(t.Context(), j, s) // in the place of what Run kept
		if err != nil || size < cp.Size {
			t.Fatal(size, err)
		}
		if err := errors.Join(j.Close(), f.w.Close()); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "witness-*"))
		if err != nil || len(files) != 1 || !strings.HasSuffix(files[0], ".jsonl") {
			t.Fatalf("kept: %v, %v", files, err)
		}
		as, err := witness.Read(files[0], witness.Trust{Witnesses: []string{f.key}})
		if err != nil || len(as) != 1 || as[0].Size != size || as[0].By != "witness.test/w1" {
			t.Fatalf("kept: %+v, %v", as, err)
		}
		r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Anchors: as})
		if err != nil || !r.Witnessed() || r.Broken() {
			t.Errorf("Verify: %v, %v", r.Completeness, err)
		}
		// A file that somebody changed is worth nothing, and is no trap.
		if err := os.WriteFile(files[0], []byte("junk\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := witness.Read(files[0], witness.Trust{Witnesses: []string{f.key}}); err == nil {
			t.Error("junk is read")
		}
	})
}

// It is kept or the submission says that it was not.
func TestWhatCannotBeKeptIsSaid(t *testing.T) {
	t.Parallel()
	s := &script{dir: filepath.Join(t.TempDir(), "gone"), size: 10}
	size, err := witness.Submit(t.Context(), s, cosigner{s})
	if size != 10 || err == nil || !strings.Contains(err.Error(), "keep what was cosigned") {
		t.Errorf("Submit = %d, %v", size, err)
	}
}

type cosigner struct{ *script }

func (c cosigner) AddCheckpoint(ctx context.Context, old uint64, proof [][]byte, signed []byte) ([]byte, error) {
	_, err := c.script.AddCheckpoint(ctx, old, proof, signed)
	return []byte("— w AAAAAAAA\n"), err
}
