// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// TestGuideShowsWhatComesOut runs every command of docs/guide-audit.md, in
// its order, against a folder as the guide describes it.
func TestGuideShowsWhatComesOut(t *testing.T) {
	guide, err := os.ReadFile(filepath.FromSlash("../../../docs/guide-audit.md"))
	if err != nil {
		t.Fatal(err)
	}
	base := audittest.Dir(t)
	dir := filepath.Join(base, "audit")
	j, err := audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10, CheckpointEvery: 60e9})
	if err != nil {
		t.Fatal(err)
	}
	nurse := access.Principal{ID: "u-17", Tenant: "clinic-7", Kind: access.Human, Roles: []string{"nurse"}}
	ctx := access.With(t.Context(), nurse, access.Treatment)
	if _, err := j.Record(ctx, audit.Event{Type: audit.Revealed, Outcome: audit.Success, Action: access.Read, Objects: []audit.Object{
		{Type: "patient", Record: "r-1", Patient: "r-1", Fields: []string{"name", "dob"}},
	}}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	x := watch(t, dir)
	for _, path := range []string{x.file, x.key, x.pub} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, filepath.Base(path)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kept := guideKept(t, filepath.Join(base, "keep"))
	t.Chdir(base)

	writer := j.Writer()
	commands := 0
	for _, block := range strings.Split(string(guide), "```")[1:] {
		body, ok := strings.CutPrefix(block, "console\n")
		if !ok {
			continue
		}
		for _, part := range strings.Split("\n"+body, "\n$ ")[1:] {
			line, want, _ := strings.Cut(part, "\n")
			for strings.HasSuffix(line, `\`) { // goes on in the next
				var more string
				more, want, _ = strings.Cut(want, "\n")
				line = strings.TrimSuffix(line, `\`) + more
			}
			line, file, _ := strings.Cut(line, " >")
			args := strings.Fields(strings.NewReplacer(guideWriter, writer, guideKeptWriter, kept).Replace(line))
			commands++
			switch args[0] {
			case "auditctl":
			case "cut-tail": // the guide's own word for what an attacker does
				cutTail(t, filepath.Join(dir, "00000001.jsonl"))
				continue
			default:
				t.Fatalf("the guide runs %s", args[0])
			}
			code, out, errs := ctl(t, args[1:]...)
			out += errs
			if file != "" {
				if err := os.WriteFile(strings.TrimSpace(file), []byte(out), 0o600); err != nil {
					t.Fatal(err)
				}
				out = ""
			}
			if status := regexp.MustCompile(`\nexit status (\d)\n$`).FindStringSubmatch("\n" + want); status != nil {
				if status[1] != string(rune('0'+code)) {
					t.Errorf("%s: exit %d, the guide says %s", line, code, status[1])
				}
				want = strings.TrimSuffix(want, "exit status "+status[1]+"\n")
			} else if code != exitOK {
				t.Errorf("%s: exit %d: %s", line, code, errs)
			}
			if have, want := normal(out), normal(want); have != want {
				t.Errorf("%s\nprints\n%s\nthe guide has\n%s", line, have, want)
			}
		}
	}
	if commands < 14 {
		t.Errorf("%d commands were found in the guide", commands)
	}
}

// These stand in the guide for the journals' random identifiers.
const (
	guideWriter     = "j5e0c1f0d7a9b4c3e8f6a2b1c0d9e8f7a"
	guideKeptWriter = "j1b2c3d4e5f60718293a4b5c6d7e8f901"
)

// guideKept makes the journal of the guide's last part, with one disclosure.
func guideKept(t *testing.T, dir string) (writer string) {
	t.Helper()
	j, err := audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10, CheckpointEvery: 60e9})
	if err != nil {
		t.Fatal(err)
	}
	ctx := access.With(t.Context(), access.Principal{ID: "u-17", Tenant: "clinic-7", Kind: access.Human}, access.Operations)
	if _, err := j.Record(ctx, audit.Event{
		Type: audit.Disclosed, Outcome: audit.Success, Objects: []audit.Object{{Type: "patient", Record: "r-1", Patient: "r-1"}},
		Disclosure: &audit.Disclosure{Basis: audit.ByJudicial, Recipient: "court-1"}, Detail: &audit.Detail{Recipient: "County Court"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return j.Writer()
}

// normal replaces what differs from run to run.
func normal(s string) string {
	for _, r := range [][2]string{
		{`j[0-9a-f]{32}\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+`, "KEY"},
		{`j[0-9a-f]{32}`, "WRITER"},
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`, "TIME"},
		{`(litigation by )os:\S+  patient \S+`, "${1}USER PSEUDONYM"},
		{`(record     patient )\S+ of patient [^:]+`, "${1}PSEUDONYM"},
	} {
		s = regexp.MustCompile(r[0]).ReplaceAllString(s, r[1])
	}
	return strings.TrimSpace(s)
}

func cutTail(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimRight(string(data), "\x00"), "\n")
	cut := make([]byte, len(data))
	copy(cut, strings.Join(lines[:6], ""))
	if err := os.WriteFile(path, cut, 0o600); err != nil {
		t.Fatal(err)
	}
}
