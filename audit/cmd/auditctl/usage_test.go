// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/audit"
)

// Each command's manual has each of its flags and no other, and says each exit
// status that it has; bad usage is 3, with nothing on the standard output.
func TestEachCommandIsDocumented(t *testing.T) {
	t.Parallel()
	flagName := regexp.MustCompile(`--([a-z][a-z-]*)`)
	for _, cmd := range commands() {
		c := newCall(cmd.name, []string{"--no-such-flag"}, io.Discard, io.Discard)
		if _, err := cmd.run(t.Context(), c); err == nil {
			t.Errorf("%s takes a flag that it has not", cmd.name)
		}
		has := map[string]bool{"help": true}
		c.flags.VisitAll(func(f *flag.Flag) {
			has[f.Name] = true
			if !strings.Contains(cmd.manual, "--"+f.Name) {
				t.Errorf("the manual of %s lacks --%s", cmd.name, f.Name)
			}
		})
		// A report has flags by its kind, and a line of another tool may stand in a manual.
		for _, m := range flagName.FindAllStringSubmatch(cmd.manual, -1) {
			if !has[m[1]] && cmd.name != "report" {
				t.Errorf("the manual of %s has --%s, which it has not", cmd.name, m[1])
			}
		}
		status := regexp.MustCompile(`(?m)^    (\d)   `).FindAllString(cmd.manual[strings.Index(cmd.manual, "EXIT STATUS"):], -1)
		if len(status) < 2 || !strings.HasPrefix(status[0], "    0") || !strings.HasPrefix(status[len(status)-1], "    3") {
			t.Errorf("the manual of %s has the exit status %q", cmd.name, status)
		}
		for _, args := range [][]string{{cmd.name}, {cmd.name, "--no-such-flag"}, {cmd.name, "a", "b", "c", "d", "--json=maybe"}} {
			if code, out, errs := ctl(t, args...); code != exitCannotRun || out != "" || !strings.HasPrefix(errs, "auditctl ") {
				t.Errorf("%v: exit %d, %q, %q", args, code, out, errs)
			}
		}
	}
}

// Every command on a sound journal, a damaged one and none: its exit status, and
// with --json nothing but JSON.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	sound, event, _ := keeping(t)
	first := recorded(t, sound, audit.Disclosed)[0]
	damaged, none, base := journal(t), t.TempDir(), t.TempDir()
	path := filepath.Join(damaged, "00000001.jsonl")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(data), `"search"`) + 2
	data[at] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) string {
		path := filepath.Join(base, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	_, copies, _ := ctl(t, "export", sound, "--format", "json")
	all, few := file("all", copies), file("few", copies[:strings.IndexByte(copies, '\n')+1])
	_, proof, _ := ctl(t, "prove", sound, event)
	good, bad := file("proof.json", proof), file("bad.json", strings.Replace(proof, "court-1", "court-2", 1))
	pub := filepath.Join(sound, "verifier.pub")
	key := []string{"--kek", sound + ".kek", "--tenant", "t-1", "--purpose", "HCOMPL"}
	for _, tt := range []struct {
		code int
		args []string
	}{
		{exitOK, []string{"verify", sound}},
		{exitBroken, []string{"verify", damaged}},
		{exitUnwitnessed, []string{"verify", sound, "--require-witness"}},
		{exitCannotRun, []string{"verify", none}},
		{exitOK, []string{"prove", sound, event}},
		{exitCannotRun, []string{"prove", sound, event + "000"}},
		{exitCannotRun, []string{"prove", none, event}},
		{exitOK, []string{"verify-proof", good, "--pubkey", pub}},
		{exitBroken, []string{"verify-proof", bad, "--pubkey", pub}},
		{exitCannotRun, []string{"verify-proof", good, "--pubkey", none}},
		{exitOK, []string{"tail", sound}},
		{exitBroken, []string{"tail", damaged}},
		{exitCannotRun, []string{"tail", none}},
		{exitOK, []string{"export", sound, "--format", "json"}},
		{exitBroken, []string{"export", damaged, "--format", "json"}},
		{exitCannotRun, []string{"export", none, "--format", "cef"}},
		{exitCannotRun, []string{"export", sound, "--format", "xml"}},
		{exitOK, []string{"compare", sound, all}},
		{exitBroken, []string{"compare", sound, few}},
		{exitBroken, []string{"compare", damaged, all}},
		{exitCannotRun, []string{"compare", none, all}},
		{exitOK, []string{"keys", sound}},
		{exitCannotRun, []string{"keys", none}},
		{exitOK, append([]string{"hold", sound}, key...)},
		{exitCannotRun, append([]string{"hold", none}, key...)},
		{exitOK, append([]string{"detail", sound, first.ID}, key...)},
		{exitCannotRun, append([]string{"detail", sound, first.ID + "9"}, key...)},
		{exitCannotRun, append([]string{"detail", none, first.ID}, key...)},
		{exitCannotRun, append([]string{"purge", none}, key...)},
		{exitCannotRun, append([]string{"certificate", sound, good}, key...)},
		{exitCannotRun, append([]string{"report", "access", none}, key...)},
	} {
		code, out, errs := ctl(t, append(tt.args, "--json")...)
		if code != tt.code {
			t.Errorf("%v: exit %d, want %d: %s%s", tt.args, code, tt.code, out, errs)
		}
		for dec := json.NewDecoder(strings.NewReader(out)); ; {
			var v any
			if err := dec.Decode(&v); err == io.EOF {
				break
			} else if err != nil {
				t.Errorf("%v --json: %v: %.200s", tt.args, err, out)
				break
			}
		}
		if (errs != "") != (code != exitOK && out == "") && code == exitCannotRun {
			t.Errorf("%v: exit %d says %q", tt.args, code, errs)
		}
	}
}

// A bar is drawn for a person who waits, and never into a file or a pipe.
func TestTheBarIsForATerminal(t *testing.T) {
	t.Parallel()
	plain, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	_, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	for name, w := range map[string]io.Writer{"a file": plain, "nothing": null, "a pipe": pipe, "a buffer": new(strings.Builder)} {
		if p := newCall("verify", nil, io.Discard, w).progress("verifying"); p != nil {
			t.Errorf("%s gets a bar", name)
		}
	}
	var out strings.Builder
	p := &progress{w: &out, verb: "verifying", start: time.Now()}
	p.show(1, 100<<20)
	if p.clear(); out.Len() > 0 {
		t.Errorf("at once: %q", &out)
	}
	p.start = p.start.Add(-time.Minute)
	p.show(50<<20, 100<<20)
	p.show(51<<20, 100<<20) // too soon after the last
	p.clear()
	if got, want := out.String(), "\rverifying [===============               ]  50% of 100 MiB\r\x1b[K"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
