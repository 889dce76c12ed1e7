// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// Who mistypes a tenant or a patient is told, and holds or reports nothing
// under another's name.
func TestWhatIsMistypedIsSaid(t *testing.T) {
	t.Parallel()
	dir, _, keyed := keeping(t)
	other := append([]string{}, keyed...)
	other[3] = "t-l"
	for range 2 { // its own record of the first try makes no tenant known
		for _, args := range [][]string{{"hold", dir, "--reason", "court", "--patient", "r-1"}, {"report", "access", dir, "--patient", "r-1"},
			{"detail", dir, "j-1.2"}, {"purge", dir, "--before", "2001-01-01"}, {"keys", dir, "--rotate"}} {
			if code, out, errs := ctl(t, append(args, other...)...); code != exitCannotRun || out != "" || !strings.Contains(errs, "no event of this tenant") {
				t.Errorf("%v: exit %d, %q, %q", args, code, out, errs)
			}
		}
	}
	if n := len(recorded(t, dir, audit.Held)); n != 0 {
		t.Errorf("%d holds of a tenant that is none", n)
	}
	for patient, want := range map[string]string{"r-1": ": 6 events\n", "r-l": ": 0 events\n"} {
		if code, _, errs := ctl(t, append([]string{"hold", dir, "--reason", "court", "--patient", patient}, keyed...)...); code != exitOK || !strings.HasSuffix(errs, want) {
			t.Errorf("hold of %s: exit %d, %q, want %q", patient, code, errs, want)
		}
		_, _, errs := ctl(t, append([]string{"report", "access", dir, "--patient", patient}, keyed...)...)
		if strings.Contains(errs, "is the ID right?") != (patient == "r-l") {
			t.Errorf("report of %s: %q", patient, errs)
		}
	}
}

// A journal of report --record has nothing but the reports: its keys are rotated
// and it is purged as any other, and a mistyped tenant is still refused.
func TestAJournalOfReportsIsKept(t *testing.T) {
	t.Parallel()
	dir, _, keyed := keeping(t)
	own := filepath.Join(filepath.Dir(dir), "own")
	if code, _, errs := ctl(t, append([]string{"report", "access", dir, "--patient", "r-1", "--record", own}, keyed...)...); code != exitOK {
		t.Fatal(code, errs)
	}
	for range 2 {
		for _, args := range [][]string{{"keys", own, "--rotate"}, {"purge", own, "--before", "2001-01-01"}} {
			other := append([]string{}, keyed...)
			other[3] = "t-l"
			if code, out, errs := ctl(t, append(args, other...)...); code != exitCannotRun || out != "" || !strings.Contains(errs, "no event of this tenant") {
				t.Errorf("%v of a mistyped tenant: exit %d, %q, %q", args, code, out, errs)
			}
			if code, out, errs := ctl(t, append(args, keyed...)...); code != exitOK {
				t.Errorf("%v: exit %d, %q, %q", args, code, out, errs)
			}
		}
	}
}

// A hold is of one journal: several folders are given in one run.
func TestHoldTakesSeveralFolders(t *testing.T) {
	t.Parallel()
	dir, _, keyed := keeping(t)
	node := filepath.Join(filepath.Dir(dir), "node")
	if err := os.CopyFS(node, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	code, out, errs := ctl(t, append([]string{"hold", dir, node, "--reason", "court", "--patient", "r-1", "--json"}, keyed...)...)
	var held []string
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var h struct {
			Folder, Hold string
			Events       int
		}
		if err := dec.Decode(&h); err != nil || h.Hold == "" || h.Events != 6 {
			t.Fatal(err, h)
		}
		held = append(held, h.Folder)
	}
	if code != exitOK || len(held) != 2 || held[0] != dir || held[1] != node || len(recorded(t, dir, audit.Held)) != 1 || len(recorded(t, node, audit.Held)) != 1 {
		t.Errorf("exit %d, %v, %q", code, held, errs)
	}
	if code, _, _ := ctl(t, append([]string{"hold", dir, node, "--release", "x"}, keyed...)...); code != exitCannotRun {
		t.Errorf("--release of two folders: exit %d", code)
	}
}

// A report that there is none of touches nothing.
func TestReportIsCheckedBeforeItOpens(t *testing.T) {
	t.Parallel()
	dir, _, keyed := keeping(t)
	before := len(recorded(t, dir, audit.Reported))
	for _, args := range [][]string{{"report", "weather", dir}, {"report", "access", dir}, {"report", "disclosures", dir}} {
		if code, _, _ := ctl(t, append(args, keyed...)...); code != exitCannotRun {
			t.Errorf("%v: exit %d", args, code)
		}
	}
	if n := len(recorded(t, dir, audit.Reported)); n != before {
		t.Errorf("%d events of runs that did nothing", n-before)
	}
}

// A proof of a list says whom it shows, and what is no event has none.
func TestProveSaysWhomItShows(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(audittest.Dir(t), "audit")
	j, err := audit.Open(dir, audit.Config{Development: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)
	ids := make(map[string]string)
	for _, list := range []string{"r-1", "r-1 r-2 r-3"} {
		ev := audit.Event{Type: audit.Revealed, Outcome: audit.Success, Action: access.Read}
		for _, r := range strings.Fields(list) {
			ev.Objects = append(ev.Objects, audit.Object{Type: "patient", Record: r, Patient: r})
		}
		receipt, err := j.Record(ctx, ev)
		if err != nil {
			t.Fatal(err)
		}
		ids[list] = receipt.ID
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for list, id := range ids {
		code, out, errs := ctl(t, "prove", dir, id)
		if code != exitOK || !strings.HasPrefix(out, "{") || strings.Contains(errs, "3 records of 3 patients") != (list != "r-1") {
			t.Errorf("%s: exit %d, %q", list, code, errs)
		}
	}
	for _, no := range []string{".0", ".1"} { // the header, and a checkpoint
		if code, out, errs := ctl(t, "prove", dir, j.Writer()+no); code != exitCannotRun || out != "" || !strings.Contains(errs, "is no event") {
			t.Errorf("%s: exit %d, %q", no, code, errs)
		}
	}
}
