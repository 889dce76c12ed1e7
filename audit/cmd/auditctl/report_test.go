// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

func TestReport(t *testing.T) {
	t.Parallel()
	dir := journal(t)
	kek := filepath.Clean(dir) + ".kek"
	cfg := audit.Config{Development: true, SegmentSize: 256 << 10}
	j, err := audit.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	nurse := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)
	if _, err := j.Record(nurse, audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: []audit.Object{{Type: "patient", Record: "r-1", Patient: "r-1", Fields: []string{"name"}}}}); err != nil {
		t.Fatal(err)
	}
	keys := []string{"--kek", kek, "--tenant", "t-1", "--purpose", "HCOMPL"}
	report := func(args ...string) (int, string, string) {
		t.Helper()
		return ctl(t, append(append([]string{"report"}, args...), keys...)...)
	}

	// The folder is in use: nothing is read that cannot be recorded.
	if code, out, errs := report("access", dir, "--patient", "r-1"); code != exitCannotRun || out != "" || !strings.Contains(errs, "--record") {
		t.Errorf("a folder in use: exit %d, %q, %q", code, out, errs)
	}
	own := filepath.Join(filepath.Dir(dir), "own")
	code, out, errs := report("access", dir, "--patient", "r-1", "--record", own)
	if code != exitOK || !strings.Contains(out, "u-1") || !strings.Contains(out, "patient: name") {
		t.Errorf("--record: exit %d, %q, %q", code, out, errs)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	var made struct {
		Affected []struct {
			Patient string `json:"patient"`
		} `json:"affected"`
	}
	ids := filepath.Join(filepath.Dir(dir), "ids")
	if err := os.WriteFile(ids, []byte("r-0\nr-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs = report("breach", dir, "--actor", "u-1", "--patients", ids, "--json")
	if err := json.Unmarshal([]byte(out), &made); err != nil || code != exitOK || len(made.Affected) != 1 || made.Affected[0].Patient != "r-1" {
		t.Errorf("breach: exit %d, %q, %q", code, out, errs)
	}
	page := filepath.Join(filepath.Dir(dir), "week.html")
	for i, want := range []int{exitOK, exitCannotRun} { // an older page is kept
		if code, _, errs := report("review", dir, "--html", page); code != want {
			t.Errorf("review %d: exit %d, %q", i, code, errs)
		}
	}
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "<svg") && !strings.Contains(string(text), "Review of activity") {
		t.Errorf("the page: %v", err)
	}
	if code, _, errs := report("disclosures", dir, "--patient", "r-1"); code != exitOK {
		t.Errorf("disclosures: exit %d, %q", code, errs)
	}
	for name, args := range map[string][]string{
		"no kind": {dir}, "an unknown kind": {"weather", dir}, "no patient": {"access", dir}, "a bad date": {"access", dir, "--patient", "r-1", "--since", "soon"},
		"two prints": {"access", dir, "--patient", "r-1", "--json", "--html", "x"}, "a State of nobody": {"breach", dir, "--actor", "u-1", "--states", ids},
	} {
		if code, _, errs := report(args...); code != exitCannotRun || errs == "" {
			t.Errorf("%s: exit %d, %q", name, code, errs)
		}
	}

	// Each run stands in the journal that it was to be recorded in, by the
	// user of the operating system and the purpose.
	who, err := osUser()
	if err != nil {
		t.Fatal(err)
	}
	reader, err := audit.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	citations := map[string]int{}
	for ev, err := range reader.Events(t.Context(), audit.Query{Tenant: "t-1", Types: []audit.Type{audit.Reported}}) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Actor.ID != who || ev.Purpose != access.Compliance {
			t.Errorf("recorded by %s for %s", ev.Actor.ID, ev.Purpose)
		}
		citations[ev.Citation]++
	}
	for _, c := range []string{"164.402", "164.308(a)(1)(ii)(D)", "164.528"} {
		if citations[c] == 0 {
			t.Errorf("the report of %s is not recorded: %v", c, citations)
		}
	}
}

// An accounting over a folder that is only read says that detail stays sealed,
// and lists research by protocol where it is described.
func TestReportDisclosures(t *testing.T) {
	t.Parallel()
	dir := journal(t)
	base := filepath.Dir(dir)
	j, err := audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	officer := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Compliance)
	disclose := func(d audit.Disclosure, n int) {
		t.Helper()
		ev := audit.Event{Type: audit.Disclosed, Outcome: audit.Success, Disclosure: &d,
			Detail: &audit.Detail{Recipient: "Registry of Ohio", Description: "immunizations", Statement: "reporting"}}
		for i := range n {
			id := fmt.Sprintf("r-%d", i+1)
			ev.Objects = append(ev.Objects, audit.Object{Type: "patient", Record: id, Patient: id})
		}
		if _, err := j.Record(officer, ev); err != nil {
			t.Fatal(err)
		}
	}
	disclose(audit.Disclosure{Basis: audit.ByPublicHealth, Recipient: "x-registry"}, 1)
	disclose(audit.Disclosure{Basis: audit.ByResearch, Recipient: "x-lab", Protocol: "p-sleep"}, 50)
	args := []string{"report", "disclosures", dir, "--patient", "r-1", "--kek", filepath.Clean(dir) + ".kek", "--tenant", "t-1", "--purpose", "HCOMPL"}
	code, out, errs := ctl(t, append(args, "--record", filepath.Join(base, "own"))...)
	if code != exitOK || !strings.Contains(out, "(sealed)") || !strings.Contains(out, "without --record") || strings.Contains(out, "not held") {
		t.Errorf("--record: exit %d, %q, %q", code, out, errs)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	protocols := filepath.Join(base, "protocols.json")
	for text, want := range map[string]int{
		`{"p-sleep": {"name": "Sleep study", "description": "who sleeps how", "phi": "diaries", "sponsor": "S Inc", "researcher": "Dr R"}}`: exitOK,
		`{"p-sleep": {"title": "Sleep study"}}`: exitCannotRun,
	} {
		if err := os.WriteFile(protocols, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := ctl(t, append(args, "--protocols", protocols)...)
		if code != want || want == exitOK && (!strings.Contains(out, "Registry of Ohio") || !strings.Contains(out, "Sleep study") || strings.Contains(out, "x-lab")) {
			t.Errorf("--protocols: exit %d, %q, %q", code, out, errs)
		}
	}
}
