// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/sink"
)

func TestExport(t *testing.T) {
	t.Parallel()
	dir, other := journal(t), journal(t)
	for format, want := range map[string]string{"json": `{"id":"j`, "fhir": `{"resourceType":"AuditEvent"`, "ocsf": `{"activity_id":`, "cef": "CEF:0|part164|"} {
		code, out, errs := ctl(t, "export", dir, other, "--format", format)
		if code != exitOK || errs != "" {
			t.Fatalf("%s: exit %d: %s", format, code, errs)
		}
		n := 0
		for line := range strings.Lines(out) {
			n++
			if !strings.HasPrefix(line, want) || format != "cef" && !json.Valid([]byte(line)) {
				t.Fatalf("%s: %s", format, line)
			}
		}
		if n != 16 {
			t.Errorf("%s: %d documents, want 8 of each journal", format, n)
		}
	}
	if _, out, _ := ctl(t, "export", dir, "--since", "2100-01-01"); out != "" {
		t.Errorf("of the year 2100: %s", out)
	}
	if _, out, _ := ctl(t, "export", dir, "--until", "2000-01-01T00:00:00Z"); out != "" {
		t.Errorf("of the last century: %s", out)
	}
	for _, args := range [][]string{
		{"export"}, {"export", dir, "--format", "xml"}, {"export", dir, "--since", "yesterday"}, {"export", dir, "--json", "--format", "cef"},
		{"export", dir, "--observer", "jane@example.org"}, {"export", t.TempDir()},
	} {
		if code, out, errs := ctl(t, args...); code != exitCannotRun || out != "" || errs == "" || strings.Contains(errs, "jane") {
			t.Errorf("%v: exit %d, %q, %q", args, code, out, errs)
		}
	}
	if code, out, _ := ctl(t, "export", "--help"); code != exitOK || out != exportManual {
		t.Errorf("--help: exit %d", code)
	}
}

func TestExportStopsAtDamage(t *testing.T) {
	t.Parallel()
	dir := journal(t)
	file := filepath.Join(dir, "00000001.jsonl")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(text), `"type":"search"`)
	text[i+9] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := ctl(t, "export", dir); code != exitBroken || !strings.Contains(errs, "is damaged") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs := ctl(t, "compare", dir, os.DevNull); code != exitBroken || !strings.Contains(errs, "is damaged") {
		t.Errorf("compare: exit %d: %s", code, errs)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	dir := journal(t)
	_, copies, _ := ctl(t, "export", dir)
	lines := strings.SplitAfter(strings.TrimSuffix(copies, "\n"), "\n")
	file := filepath.Join(t.TempDir(), "copies")
	compare := func(lines []string, args ...string) (int, compared, string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := ctl(t, append([]string{"compare", dir, file, "--json"}, args...)...)
		var got compared
		if out != "" {
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
		}
		return code, got, errs
	}
	id := func(line string) string {
		var doc struct{ ID string }
		if err := json.Unmarshal([]byte(line), &doc); err != nil {
			t.Fatal(err)
		}
		return doc.ID
	}
	if code, got, _ := compare(lines); code != exitOK || !got.OK || got.Journal != 8 || got.Copies != 8 || len(got.Differences) != 0 {
		t.Errorf("the journal's own: exit %d, %+v", code, got)
	}
	logged := make([]string, len(lines))
	for i, l := range lines {
		logged[i] = "Nov 22 13:00:00 host app[1]: " + l
	}
	if code, got, errs := compare(logged); code != exitOK || !got.OK {
		t.Errorf("a log file: exit %d, %+v, %s", code, got, errs)
	}
	twice := append([]string{lines[0]}, lines...)
	if code, got, _ := compare(twice); code != exitOK || !got.OK || len(got.Differences) != 1 || got.Differences[0].Finding != "repeated" {
		t.Errorf("one twice: exit %d, %+v", code, got)
	}
	less := append(append([]string{}, lines[:3]...), lines[4:]...)
	if code, got, _ := compare(less); code != exitBroken || got.OK || len(got.Differences) != 1 || got.Differences[0].Event != id(lines[3]) || got.Differences[0].Finding != "missing" {
		t.Errorf("one less: exit %d, %+v", code, got)
	}
	// One of another journal, put there under this one's name.
	_, foreign, _ := ctl(t, "export", journal(t))
	var mine, theirs struct{ Writer string }
	stranger := strings.SplitAfter(foreign, "\n")[3]
	if json.Unmarshal([]byte(lines[3]), &mine) != nil || json.Unmarshal([]byte(stranger), &theirs) != nil {
		t.Fatal("no writers")
	}
	swapped := append([]string{}, lines...)
	swapped[3] = strings.ReplaceAll(stranger, theirs.Writer, mine.Writer)
	if code, got, _ := compare(swapped); code != exitBroken || len(got.Differences) != 1 || got.Differences[0].Event != id(lines[3]) || got.Differences[0].Finding != "different" {
		t.Errorf("one exchanged: exit %d, %+v", code, got)
	}
	for name, bad := range map[string]string{"no document": "nothing\n", "a document cut short": lines[3][:90] + "\n"} {
		spoilt := append([]string{}, lines...)
		spoilt[3] = bad
		want := []sink.Difference{{Finding: sink.Different, Event: "line 4 of the copies"}, {Finding: sink.Missing, Event: id(lines[3])}}
		if code, got, errs := compare(spoilt); code != exitBroken || got.OK || got.Copies != 8 || !slices.Equal(got.Differences, want) {
			t.Errorf("%s: exit %d, %+v, %s", name, code, got, errs)
		}
	}
	// Edited, so that its checksum fails: it says which event's it is.
	spoilt := append([]string{}, lines...)
	spoilt[4] = strings.Replace(lines[4], `"outcome":"success"`, `"outcome":"failure"`, 1)
	if code, got, errs := compare(spoilt); code != exitBroken || !slices.Equal(got.Differences, []sink.Difference{{Finding: sink.Different, Event: id(lines[4])}}) {
		t.Errorf("an edited document: exit %d, %+v, %s", code, got, errs)
	}
	if code, _, errs := compare(lines, "--sink", "nosuch"); code != exitCannotRun || !strings.Contains(errs, "no sink") {
		t.Errorf("no such sink: exit %d, %s", code, errs)
	}
	if code, out, _ := ctl(t, "compare", dir, file); code != exitOK || !strings.Contains(out, "the copies are those of the journal: 8 events compared, 8 copies, 0 pending") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// A journal that was wiped, or cut back behind a cursor, is never what the
// receiver's copies are held to have come from.
func TestCompareWithAWipedJournal(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"emptied", "zeroed", "cut to its first checkpoint", "cut back"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := journal(t)
			_, copies, _ := ctl(t, "export", dir)
			file, segment := filepath.Join(t.TempDir(), "copies"), filepath.Join(dir, "00000001.jsonl")
			if err := os.WriteFile(file, []byte(copies), 0o600); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(segment)
			if err != nil {
				t.Fatal(err)
			}
			args, want := []string{"compare", dir, file}, ""
			switch how {
			case "emptied":
				text, want = nil, "it was emptied"
			case "zeroed":
				clear(text)
				want = "it was emptied"
			case "cut to its first checkpoint":
				clear(text[len(bytes.Join(bytes.SplitAfter(text, []byte("\n"))[:2], nil)):])
				want = "no event can be read"
			case "cut back":
				kept := bytes.Join(bytes.SplitAfter(text, []byte("\n"))[:6], nil)
				clear(text[len(kept):])
				var at struct {
					Writer string
					Line   struct{ Seq uint64 }
				}
				last := strings.Split(strings.TrimSpace(copies), "\n")
				if err := json.Unmarshal([]byte(last[len(last)-1]), &at); err != nil {
					t.Fatal(err)
				}
				// The receiver lost them, too.
				if err := os.WriteFile(file, []byte(strings.Join(last[:3], "\n")), 0o600); err != nil {
					t.Fatal(err)
				}
				cursor, _ := json.Marshal(audit.Position{Writer: at.Writer, Seq: at.Line.Seq})
				if err := os.WriteFile(filepath.Join(dir, "sink-siem.json"), cursor, 0o600); err != nil {
					t.Fatal(err)
				}
				args, want = append(args, "--sink", "siem"), "the sink has passed"
			}
			if err := os.WriteFile(segment, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if code, out, errs := ctl(t, args...); code != exitBroken || !strings.Contains(errs, want) || strings.Contains(out, "are those of the journal") {
				t.Errorf("exit %d: %s%s", code, out, errs)
			}
		})
	}
}

// Copies of what was purged are passed over; of segments that are gone without
// a record of it they are not.
func TestCompareWithoutTheFirstSegment(t *testing.T) {
	t.Parallel()
	dir, event, keyed := keeping(t)
	_, copies, _ := ctl(t, "export", dir)
	file := filepath.Join(t.TempDir(), "copies")
	if err := os.WriteFile(file, []byte(copies), 0o600); err != nil {
		t.Fatal(err)
	}
	purged := filepath.Join(filepath.Dir(dir), "purged")
	if err := os.CopyFS(purged, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := ctl(t, append([]string{"purge", purged, "--clock-checked"}, keyed...)...); code != exitOK || !strings.HasPrefix(out, "removed") {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	if _, news, _ := ctl(t, "export", purged); len(news) > 0 {
		if err := os.WriteFile(file+".2", []byte(copies+news), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, out, errs := ctl(t, "compare", purged, file+".2"); code != exitOK || strings.Contains(out, "extra") {
		t.Errorf("after a purge: exit %d: %s%s", code, out, errs)
	}
	if err := os.Remove(filepath.Join(dir, "00000001.jsonl")); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := ctl(t, "compare", dir, file); code != exitBroken || !strings.Contains(out, "extra      "+event+"\n") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}
