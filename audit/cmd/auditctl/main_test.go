// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"io"
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
	for _, want := range []string{"integrity      ok\n", "key from folder", "UNWITNESSED", "segments       1\n", "events         8 ", "open attempts  1 (the outcome may lie with another writer", "retention      from its first line\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("output has no %q:\n%s", want, out)
		}
	}
	for _, word := range []string{"complete\n", "authentic\n"} {
		if strings.Contains(out, word) {
			t.Errorf("output claims %q", word)
		}
	}
	if code, _, _ := ctl(t, "verify", dir, "--require-witness"); code != exitUnwitnessed {
		t.Errorf("--require-witness: exit %d, want %d", code, exitUnwitnessed)
	}
	code, out, _ = ctl(t, "verify", "--pubkey", filepath.Join(dir, "verifier.pub"), dir, "--json")
	var sum summary
	if err := json.Unmarshal([]byte(out), &sum); err != nil || code != exitOK || len(sum.Journals) != 1 {
		t.Fatalf("--json: exit %d, %v", code, err)
	}
	if r := sum.Journals[0]; !sum.OK || sum.Witnessed || !r.Integrity || r.PublicKeyFrom != "given" || r.Witnessed || r.Events != 8 || r.Completeness != "unwitnessed" ||
		!strings.Contains(out, `"defects": []`) || !strings.Contains(out, `"absent": []`) {
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
	if code != exitBroken || strings.Contains(out, "integrity      ok") || !strings.Contains(out, "integrity      BROKEN: 1 defect\n") ||
		!strings.Contains(out, "BROKEN 00000001.jsonl: offset ") || !strings.Contains(out, ": sequence 6: ") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

func TestVerifyCannotRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, args := range [][]string{
		{}, {"bogus"}, {"verify"}, {"tail"}, {"tail", dir}, {"tail", "--lines", "-1", dir}, {"verify", dir, dir}, {"verify", dir}, {"verify", filepath.Join(dir, "none")},
		{"verify", "--bogus", dir}, {"verify", dir, "--pubkey", filepath.Join(dir, "none")},
	} {
		if code, out, errs := ctl(t, args...); code != exitCannotRun || out != "" || errs == "" {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", args, code, out, errs)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	_, all, _ := ctl(t, "--help")
	for _, args := range [][]string{{"--help"}, {"help"}} {
		if code, out, _ := ctl(t, args...); code != exitOK || !strings.Contains(out, "EXIT STATUS") {
			t.Errorf("%v: exit %d, %q", args, code, out)
		}
	}
	for _, cmd := range commands() {
		if !strings.Contains(all, "    "+cmd.name+"  ") || !strings.Contains(all, cmd.summary) {
			t.Errorf("help does not list %s", cmd.name)
		}
		for _, args := range [][]string{{cmd.name, "--help"}, {"help", cmd.name}, {cmd.name, "x", "-h"}} {
			code, out, errs := ctl(t, args...)
			if code != exitOK || errs != "" || out != cmd.manual {
				t.Errorf("%v: exit %d, %q, %q", args, code, out, errs)
			}
		}
		for _, part := range []string{"NAME\n    auditctl " + cmd.name + " - ", "\nSYNOPSIS\n", "\nDESCRIPTION\n", "\nOPTIONS\n", "\nEXIT STATUS\n", "\nEXAMPLES\n", "    --help\n"} {
			if !strings.Contains(cmd.manual, part) {
				t.Errorf("the manual of %s has no %q", cmd.name, part)
			}
		}
		for l := range strings.Lines(cmd.manual) {
			if len(l) > 81 {
				t.Errorf("the manual of %s has a line of %d characters: %s", cmd.name, len(l)-1, l)
			}
		}
	}
}

func TestTailPrintsTheLastEvents(t *testing.T) {
	t.Parallel()
	dir := journal(t)
	code, out, errs := ctl(t, "tail", dir, "--lines", "3")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitOK || errs != "" || len(lines) != 3 || !strings.Contains(lines[0], "  search ") || !strings.Contains(lines[0], "u-1@t-1  TREAT count 2") ||
		!strings.Contains(lines[1], "write.attempt") || !strings.Contains(lines[2], "journal.closed") {
		t.Errorf("exit %d, %q:\n%s", code, errs, out)
	}
	_, out, _ = ctl(t, "tail", dir, "--lines", "0", "--json")
	data, err := os.ReadFile(filepath.Join(dir, "00000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for l := range strings.Lines(out) {
		if n++; !bytes.Contains(data, []byte(l)) {
			t.Errorf("the journal has no line %s", l)
		}
	}
	if n != 8 {
		t.Errorf("%d lines, want 8", n)
	}
	at := bytes.Index(data, []byte(`"search"`)) + 2
	data[at] ^= 1
	if err := os.WriteFile(filepath.Join(dir, "00000001.jsonl"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := ctl(t, "tail", dir); code != exitBroken || !strings.Contains(errs, "is damaged at offset") {
		t.Errorf("damaged: exit %d, %q", code, errs)
	}
}

// Whoever opens a journal with its keys stands in it.
func TestOpeningWithTheKeysIsRecorded(t *testing.T) {
	t.Parallel()
	dir := journal(t)
	open := func(args ...string) (*audit.Journal, error) {
		c := newCall("test", args, io.Discard, io.Discard)
		k := c.keyed()
		if _, err := c.parse(); err != nil {
			t.Fatal(err)
		}
		j, _, err := k.open(t.Context(), dir)
		return j, err
	}
	kek := dir + ".kek"
	for _, args := range [][]string{
		{}, {"--kek", kek}, {"--kek", kek, "--tenant", "t-1"}, {"--kek", kek, "--tenant", "t-1", "--purpose", "CURIOUS"},
		{"--kek", kek, "--tenant", "a b", "--purpose", "HCOMPL"}, {"--kek", kek + "x", "--tenant", "t-1", "--purpose", "HCOMPL"},
	} {
		if j, err := open(args...); err == nil {
			t.Errorf("%v: opened", args)
			j.Close()
		}
	}
	j, err := open("--kek", kek, "--tenant", "t-1", "--purpose", "HCOMPL")
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	who, err := osUser()
	if err != nil {
		t.Fatal(err)
	}
	_, out, _ := ctl(t, "tail", dir)
	if !strings.Contains(out, "report             success  "+who+"@t-1  HCOMPL open_journal") {
		t.Errorf("not recorded:\n%s", out)
	}
}
