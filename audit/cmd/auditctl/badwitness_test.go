// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
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

// A liar is a witness with its own key that answers what it is told to.
type liar struct {
	signer  *fnote.Signer
	url     string
	ca, key string // files
	answer  http.HandlerFunc
}

func newLiar(t *testing.T) *liar {
	t.Helper()
	secret, verifier, err := witness.GenerateKey("witness.test/liar")
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{ca: filepath.Join(t.TempDir(), "ca.pem"), key: filepath.Join(t.TempDir(), "liar.pub")}
	if l.signer, err = fnote.NewSignerForCosignatureV1(secret); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { l.answer(rw, r) }))
	t.Cleanup(srv.Close)
	l.url = srv.URL
	for path, text := range map[string][]byte{
		l.key: []byte(verifier),
		l.ca:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// cosign adds the liar's signature to a note.
func (l *liar) cosign(t *testing.T, signed []byte) []byte {
	t.Helper()
	text := signed[:bytes.LastIndex(signed, []byte("\n\n"))+1]
	cosigned, err := note.Sign(&note.Note{Text: string(text)}, l.signer)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(signed, cosigned[len(text)+1:])
}

func (l *liar) roster(t *testing.T, notes ...[]byte) http.HandlerFunc {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for _, n := range notes {
		if err := enc.Encode(map[string]string{"checkpoint": string(n)}); err != nil {
			t.Fatal(err)
		}
	}
	return says(200, out.String())
}

func says(code int, body string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(code)
		_, _ = io.WriteString(rw, body)
	}
}

// TestVerifyBelievesNoLie: each lie of a witness has its exit code and its
// words, with --require-witness and without; none passes as witnessed.
func TestVerifyBelievesNoLie(t *testing.T) {
	t.Parallel()
	dir, other := journal(t), journal(t)
	at := func(dir string) audit.Checkpoint {
		cp, err := audit.LastCheckpoint(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return cp
	}
	mine := at(dir)
	l := newLiar(t)
	honest := watch(t, dir)
	honestNotes, err := witness.Notes(honest.file)
	if err != nil {
		t.Fatal(err)
	}
	// With the witness's own key: what the journal never signed.
	edited := func(old, new string) []byte {
		text, sigs, _ := strings.Cut(string(mine.Note), "\n\n")
		lines := strings.SplitN(text, "\n", 4)
		for i := range lines {
			if lines[i] == old {
				lines[i] = new
			}
		}
		return l.cosign(t, []byte(strings.Join(lines, "\n")+"\n\n"+sigs))
	}
	rows := strings.SplitN(string(mine.Note), "\n", 4)
	down := func(rw http.ResponseWriter, r *http.Request) {
		conn, _, err := rw.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	for _, tt := range []struct {
		name     string
		answer   http.HandlerFunc
		code     int
		required int    // with --require-witness
		says     string // on stdout or stderr
	}{
		{"the truth", l.roster(t, l.cosign(t, mine.Note)), exitOK, exitOK, "witnessed at"},
		{"another root for our size", l.roster(t, edited(rows[2], "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")), exitBroken, exitBroken, "ROLLED BACK or FORKED"},
		{"a size over ours", l.roster(t, edited(rows[1], "1000")), exitBroken, exitBroken, "TRUNCATED: 988 lines are missing"},
		{"another journal only", l.roster(t, l.cosign(t, at(other).Note)), exitBroken, exitBroken, "ABSENT"},
		{"no journal at all", l.roster(t), exitUnwitnessed, exitUnwitnessed, "UNWITNESSED: the witness that was named has not seen this journal"},
		{"signed by another key", l.roster(t, honestNotes...), exitCannotRun, exitCannotRun, "not signed with its key"},
		{"one of two by another key", l.roster(t, l.cosign(t, mine.Note), honestNotes[0]), exitCannotRun, exitCannotRun, "not signed with its key"},
		{"no cosignature", l.roster(t, mine.Note), exitCannotRun, exitCannotRun, "not signed with its key"},
		{"garbage", says(200, "<html>welcome</html>"), exitCannotRun, exitCannotRun, "cut off"},
		{"a line of garbage", says(200, "<html>welcome</html>\n"), exitCannotRun, exitCannotRun, "no line of a witness"},
		{"endless", func(rw http.ResponseWriter, r *http.Request) {
			for chunk := bytes.Repeat([]byte("x\n"), 1<<15); r.Context().Err() == nil; {
				if _, err := rw.Write(chunk); err != nil {
					return
				}
			}
		}, exitCannotRun, exitCannotRun, "longer than 16 MiB"},
		{"a redirection", func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/checkpoints" {
				http.Redirect(rw, r, "/elsewhere/checkpoints", http.StatusFound)
				return
			}
			l.roster(t, l.cosign(t, mine.Note))(rw, r)
		}, exitCannotRun, exitCannotRun, "redirections are not followed"},
		{"a witness of another kind", says(404, ""), exitCannotRun, exitCannotRun, "give the file"},
		{"an error", says(500, "no"), exitCannotRun, exitCannotRun, "status 500"},
		{"down", down, exitCannotRun, exitCannotRun, "does not answer"},
	} {
		l.answer = tt.answer
		args := []string{"verify", dir, "--witness", l.url, "--witness-key", l.key, "--witness-ca", l.ca}
		if code, out, errs := ctl(t, args...); code != tt.code || !strings.Contains(out+errs, tt.says) || code != exitOK && strings.Contains(out, "\ncompleteness   witnessed") {
			t.Errorf("%s: exit %d, want %d: %s%s", tt.name, code, tt.code, out, errs)
		}
		if code, out, errs := ctl(t, append(args, "--require-witness")...); code != tt.required {
			t.Errorf("%s, --require-witness: exit %d, want %d: %s%s", tt.name, code, tt.required, out, errs)
		}
		event := strings.TrimPrefix(mine.Origin, "part164/") + ".2"
		code, _, errs := ctl(t, "prove", dir, event, "--witness", l.url, "--witness-key", l.key, "--witness-ca", l.ca)
		if want := tt.name == "the truth"; (code == exitOK) != want || code != exitOK && code != exitCannotRun {
			t.Errorf("%s: prove: exit %d: %s", tt.name, code, errs)
		}
	}

	// It never answers: whoever waits may stop.
	l.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"verify", dir, "--witness", l.url, "--witness-key", l.key, "--witness-ca", l.ca}, &out, &errs)
	if code != exitCannotRun || out.Len() > 0 || !strings.Contains(errs.String(), "does not answer") {
		t.Errorf("silent: exit %d, %s%s", code, &out, &errs)
	}

	// As a file the same lies have the same codes.
	for name, tt := range map[string]struct {
		text string
		code int
	}{
		"a fork":          {`{"checkpoint":` + quoted(t, edited(rows[2], "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")) + "}\n", exitBroken},
		"another witness": {`{"checkpoint":` + quoted(t, honestNotes[0]) + "}\n", exitCannotRun},
		"garbage":         {"garbage\n", exitCannotRun},
		"empty":           {"", exitUnwitnessed},
	} {
		path := filepath.Join(t.TempDir(), "witness.jsonl")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, errs := ctl(t, "verify", dir, "--witness", path, "--witness-key", l.key, "--require-witness"); code != tt.code {
			t.Errorf("%s: exit %d, want %d: %s%s", name, code, tt.code, out, errs)
		}
	}
}

// The file of a witness that was emptied, or cut within a line, is not taken for
// one that saw nothing, with --require-witness and without.
func TestVerifyTakesNoWipedWitnessFile(t *testing.T) {
	t.Parallel()
	dir := journal(t)
	x := watch(t, dir)
	whole, err := os.ReadFile(x.file)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text []byte
		code int
		says string
	}{
		"whole":                     {whole, exitOK, "witnessed at"},
		"emptied":                   {nil, exitUnwitnessed, "the witness that was named has not seen this journal"},
		"cut within its only line":  {whole[:len(whole)-9], exitCannotRun, "its last line is cut off"},
		"without its last newline":  {whole[:len(whole)-1], exitCannotRun, "its last line is cut off"},
		"cut within its last line":  {slices.Concat(whole, whole[:len(whole)/2]), exitCannotRun, "its last line is cut off"},
		"zeros in the place of all": {make([]byte, len(whole)), exitCannotRun, "its last line is cut off"},
		"zeros behind it":           {append(bytes.Clone(whole), make([]byte, 512)...), exitCannotRun, "its last line is cut off"},
	} {
		path := filepath.Join(t.TempDir(), "witness.jsonl")
		if err := os.WriteFile(path, tt.text, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, more := range [][]string{nil, {"--require-witness"}, {"--json"}} {
			args := append([]string{"verify", dir, "--witness", path, "--witness-key", x.key}, more...)
			if code, out, errs := ctl(t, args...); code != tt.code || len(more) == 0 && !strings.Contains(out+errs, tt.says) {
				t.Errorf("%s %v: exit %d, want %d and %q: %s%s", name, more, code, tt.code, tt.says, out, errs)
			}
		}
	}
}

// With --require-witness what a witness saw must be of late, and be most of it:
// a cut back to it shows nowhere.
func TestRequiredWitnessMustHaveSeenItLately(t *testing.T) {
	t.Parallel()
	dir := journal(t)
	x := watch(t, dir)
	args := []string{"verify", dir, "--witness", x.file, "--witness-key", x.key}
	for _, tt := range []struct {
		more []string
		code int
		says string
	}{
		{[]string{"--require-witness"}, exitOK, ""},
		{[]string{"--require-witness", "--max-age", "1h", "--max-tail", "1"}, exitOK, ""},
		{[]string{"--require-witness", "--max-age", "0", "--max-tail", "0"}, exitOK, ""},
		{[]string{"--require-witness", "--max-age", "1ns"}, exitUnwitnessed, "over --max-age 1ns"},
		{[]string{"--require-witness", "--max-age", "1ns", "--json"}, exitUnwitnessed, "over --max-age 1ns"},
		{[]string{"--max-age", "1h"}, exitCannotRun, "need --require-witness"},
		{[]string{"--require-witness", "--max-age", "-1h"}, exitCannotRun, "negative"},
	} {
		if code, _, errs := ctl(t, append(args, tt.more...)...); code != tt.code || !strings.Contains(errs, tt.says) {
			t.Errorf("%v: exit %d, want %d: %s", tt.more, code, tt.code, errs)
		}
	}
	now := time.Now()
	c := audit.Completeness{Length: audit.Witnessed, Anchor: audit.Anchor{Time: now.Add(-23 * time.Hour)}, Tail: 99_999}
	for _, tt := range []struct {
		age  time.Duration
		tail uint64
		late bool
	}{{24 * time.Hour, 100_000, false}, {22 * time.Hour, 100_000, true}, {24 * time.Hour, 99_998, true}, {0, 0, false}} {
		if why := lateness(&c, now, tt.age, tt.tail); (why != "") != tt.late {
			t.Errorf("within %v and %d lines: %q", tt.age, tt.tail, why)
		}
	}
}

func quoted(t *testing.T, n []byte) string {
	t.Helper()
	text, err := json.Marshal(string(n))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What Run kept of a remote witness does for verify and prove while it is down.
func TestWhatIsKeptOfARemoteWitness(t *testing.T) {
	t.Parallel()
	dir := journal(t)
	x := watch(t, dir)
	kept, err := filepath.Glob(filepath.Join(dir, "witness-*.jsonl"))
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	with := []string{"--witness", kept[0], "--witness-key", x.key}
	if code, out, errs := ctl(t, append([]string{"verify", dir, "--pubkey", x.pub, "--require-witness"}, with...)...); code != exitOK || !strings.Contains(out, "witnessed at 11 lines by witness.test/w1") {
		t.Errorf("verify: exit %d, %s%s", code, out, errs)
	}
	cp, err := audit.LastCheckpoint(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	code, proof, errs := ctl(t, append([]string{"prove", dir, strings.TrimPrefix(cp.Origin, "part164/") + ".2"}, with...)...)
	if code != exitOK {
		t.Fatalf("prove: exit %d, %s", code, errs)
	}
	path := filepath.Join(t.TempDir(), "proof.json")
	if err := os.WriteFile(path, []byte(proof), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := ctl(t, "verify-proof", path, "--pubkey", x.pub, "--witness-key", x.key, "--require-witness"); code != exitOK {
		t.Errorf("verify-proof: exit %d, %s", code, errs)
	}
}
