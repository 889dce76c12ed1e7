// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

func journal(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(audittest.Dir(t), "audit")
	j, err := audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)
	for range 3 {
		if _, err := j.Record(ctx, audit.Event{Type: audit.Searched, Outcome: audit.Success, Count: 2}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Attempt(ctx, audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func ctl(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestVerifyPrintsItsVerdicts(t *testing.T) {
	t.Parallel()
	dir := journal(t)
	code, out, _ := ctl(t, "verify", dir)
	if code != exitOK {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"integrity ok", "key from folder", "UNWITNESSED", "segments       1\n", "events         8 ", "open attempts  1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("output has no %q:\n%s", want, out)
		}
	}
	for _, word := range []string{"integrity complete", "authentic\n"} {
		if strings.Contains(out, word) {
			t.Errorf("output claims %q", word)
		}
	}
	if code, _, _ := ctl(t, "verify", dir, "--require-witness"); code != exitUnwitnessed {
		t.Errorf("--require-witness: exit %d, want %d", code, exitUnwitnessed)
	}
	code, out, _ = ctl(t, "verify", "--pubkey", filepath.Join(dir, "verifier.pub"), dir, "--json")
	var report struct {
		Integrity     bool   `json:"integrity"`
		PublicKeyFrom string `json:"public_key_from"`
		Witnessed     *bool  `json:"witnessed"`
		Events        int    `json:"events"`
		Defects       []any  `json:"defects"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitOK {
		t.Fatalf("--json: exit %d, %v", code, err)
	}
	if !report.Integrity || report.PublicKeyFrom != "given" || report.Witnessed == nil || *report.Witnessed || report.Events != 8 || report.Defects == nil {
		t.Errorf("--json: %s", out)
	}
}

func TestVerifyNamesWhatIsBroken(t *testing.T) {
	t.Parallel()
	dir := journal(t)
	path := filepath.Join(dir, "00000001.jsonl")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte(`"search"`)) + 2
	data[at] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, _ := ctl(t, "verify", dir)
	if code != exitBroken || strings.Contains(out, "integrity ok") || !strings.Contains(out, "integrity BROKEN") ||
		!strings.Contains(out, "BROKEN 00000001.jsonl: offset ") || !strings.Contains(out, ": sequence 6: ") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

func TestVerifyCannotRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, args := range [][]string{
		{}, {"prove"}, {"verify"}, {"verify", dir, dir}, {"verify", dir}, {"verify", filepath.Join(dir, "none")},
		{"verify", "--bogus", dir}, {"verify", dir, "--pubkey", filepath.Join(dir, "none")},
	} {
		if code, out, errs := ctl(t, args...); code != exitCannotRun || out != "" || errs == "" {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", args, code, out, errs)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--help"}, {"help"}, {"verify", "--help"}} {
		if code, out, _ := ctl(t, args...); code != exitOK || !strings.Contains(out, "EXIT STATUS") {
			t.Errorf("%v: exit %d, %q", args, code, out)
		}
	}
}
