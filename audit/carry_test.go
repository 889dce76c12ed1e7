// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// write records a write of fields of records, and how it ended.
func written(t testing.TB, j *audit.Journal, action access.Action, reason audit.Reason, end audit.Type, version int64, fields string, records ...string) {
	t.Helper()
	ev := audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success, Action: action, Reason: reason}
	for _, r := range records {
		o := audit.Object{Type: "patient", Record: r, Patient: r, Version: version, Fields: strings.Fields(fields)}
		for i := range o.Fields {
			o.Digests = append(o.Digests, fmt.Sprintf("%08x%08x", version, i))
		}
		ev.Objects = append(ev.Objects, o)
	}
	ticket, err := j.Attempt(treat(t), ev)
	if err == nil && end == audit.Committed {
		_, err = j.Commit(t.Context(), []audit.Ticket{ticket})
	}
	if err == nil && end == audit.RolledBack {
		err = j.Rollback(t.Context(), []audit.Ticket{ticket})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// replayed returns what the trail knows of writes, newest first, in words.
func replayed(t testing.TB, j *audit.Journal, names ...string) (out []string) {
	t.Helper()
	name := make(map[string]string)
	for _, n := range names {
		name[j.Pseudonym("t-1", n)] = n
	}
	committed := make(map[string]bool)
	for s, err := range j.Replay(t.Context(), "t-1", audit.WriteAttempt, audit.Committed, audit.RolledBack, audit.Shredded, audit.Merged) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Type == audit.Committed {
			committed[s.Attempt] = true
			continue
		}
		id := s.ID
		if s.Batch != "" {
			id = s.Batch
		}
		for _, o := range s.Objects {
			state := "open"
			if committed[id] {
				state = "committed"
			}
			out = append(out, fmt.Sprint(s.Type, " ", s.Action, " ", s.Reason, " ", name[o.Record], " v", o.Version, " ", o.Fields, " ", len(o.Digests), " ", state, " ", s.Count))
		}
	}
	return out
}

func TestPurgeCarriesForwardWhatOutlastsIt(t *testing.T) {
	t.Parallel()
	clock := new(wall)
	clock.set(-7 * 366 * 24 * time.Hour)
	j, dir := open(t, audit.Config{Now: clock.now, Timeout: 30 * time.Second})
	const done = audit.Committed
	written(t, j, access.Create, "", done, 1, "name dob mrn", "r-a")
	written(t, j, access.Create, "", done, 1, "name", "r-gone")
	written(t, j, access.Update, "", done, 2, "name", "r-a")
	written(t, j, access.Update, "", done, 3, "name", "r-a")
	written(t, j, access.Update, "", audit.RolledBack, 4, "dob", "r-a")
	written(t, j, access.Update, "", "", 4, "mrn", "r-a") // nobody says how it ended
	written(t, j, access.Update, "", done, 5, "dob", "r-else")
	written(t, j, access.Update, "", done, 0, "tags", "r-a") // a link
	written(t, j, access.Delete, "", done, 2, "", "r-gone")
	written(t, j, access.Delete, "", done, 9, "", "r-theirs") // whose creation another node recorded
	record(t, j,
		audit.Event{Type: audit.Shredded, Outcome: audit.Success, Reason: audit.ReasonPending, Action: access.Shred, Count: 3, Objects: []audit.Object{{Type: "patient", Record: "r-s", Patient: "r-s"}}},
		audit.Event{Type: audit.Merged, Outcome: audit.Success, Reason: audit.ReasonMerge, Action: access.Maintain, Objects: []audit.Object{{Type: "patient", Record: "r-m", Patient: "r-m"}, {Type: "patient", Record: "r-a", Patient: "r-a"}}},
		reveal("r-a"))
	written(t, j, access.Update, audit.ReasonMerge, done, 2, "MergedInto", "r-m")
	written(t, j, access.Update, "", done, 3, "MergedInto", "r-m")
	ev := audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success, Action: access.Update} // several lines
	var many []string
	for i := range 2500 {
		many = append(many, fmt.Sprint("r-", i))
		ev.Objects = append(ev.Objects, audit.Object{Type: "patient", Record: many[i], Patient: many[i], Version: 2, Fields: []string{"name"}, Digests: []string{"0000000200000000"}})
	}
	batch, err := j.Attempt(treat(t), ev)
	if err != nil {
		t.Fatal(err)
	}
	late, err := j.Attempt(treat(t), audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success, Action: access.Create, Objects: []audit.Object{{Type: "patient", Record: "r-late", Patient: "r-late", Version: 1, Fields: []string{"name"}, Digests: []string{"0000000100000000"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Roll(); err != nil {
		t.Fatal(err)
	}
	// How these ended stands behind what goes.
	if _, err := j.Commit(t.Context(), []audit.Ticket{batch}); err != nil {
		t.Fatal(err)
	}
	clock.set(0)
	if _, err := j.Commit(t.Context(), []audit.Ticket{late}); err != nil {
		t.Fatal(err)
	}
	r, err := j.Purge(officer(t), audit.Purge{ClockChecked: true})
	if err != nil || r.Segments < 1 || len(r.Carried) != 32 {
		t.Fatalf("Purge = %+v, %v", r, err)
	}
	want := []string{
		"write.attempt create  r-late v1 [name] 1 committed 0",
		"write.attempt update  r-m v3 [MergedInto] 1 committed 0",
		"write.attempt update merge r-m v2 [MergedInto] 1 committed 0",
		"merged maintain merge r-m v0 [] 0 open 0", "merged maintain merge r-a v0 [] 0 open 0",
		"shred shred pending r-s v0 [] 0 open 3",
		"write.attempt update  r-else v5 [dob] 1 committed 0",
		"write.attempt update  r-a v4 [mrn] 1 open 0",
		"write.attempt update  r-a v3 [name] 1 committed 0",
		"write.attempt create  r-a v1 [name dob mrn] 3 committed 0",
		"write.attempt delete  r-theirs v9 [] 0 committed 0",
	}
	names := append(many, "r-a", "r-gone", "r-else", "r-theirs", "r-s", "r-m", "r-late")
	check := func(when string) {
		t.Helper()
		got := replayed(t, j, names...)
		of := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return strings.HasSuffix(s, " v2 [name] 1 committed 0") })
		if len(got)-len(of) != len(many) || !slices.Equal(of, want) {
			t.Errorf("%s: %d of %d records of the batch, and\n%s\nwant\n%s", when, len(got)-len(of), len(many), strings.Join(of, "\n"), strings.Join(want, "\n"))
		}
		if j.Pseudonym("t-1", "r-a") == "" {
			t.Error("no pseudonym")
		}
	}
	check("purged")
	text, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("carried-", r.Segments)))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{`"u-17"`, `"s-9"`, `"nurse"`, `"TREAT"`, `"r-else"`, `"reveal"`} {
		if strings.Contains(string(text), word) {
			t.Errorf("%s is carried forward", word)
		}
	}
	for s, err := range j.Events(t.Context(), audit.Query{Tenant: "t-1", Types: []audit.Type{audit.WriteAttempt, audit.Merged}}) {
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("Events yields %s of what was purged", s.ID)
	}

	// A rotation, and another purge, which has nothing new to carry.
	if err := j.RotateKeys(officer(t)); err != nil {
		t.Fatal(err)
	}
	check("rotated")
	if err := j.Roll(); err != nil {
		t.Fatal(err)
	}
	clock.set(7 * 366 * 24 * time.Hour)
	again, err := j.Purge(officer(t), audit.Purge{ClockChecked: true})
	if err != nil || again.Segments <= r.Segments || len(again.Carried) != 32 {
		t.Fatalf("Purge again = %+v, %v", again, err)
	}
	check("purged again")
	if files, _ := filepath.Glob(filepath.Join(dir, "carried-*")); len(files) != 1 || filepath.Base(files[0]) != fmt.Sprint("carried-", again.Segments) {
		t.Errorf("files %v", files)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if v := verify(t, dir); v.Broken() || v.Purged == nil || !slices.Equal(v.Purged.Carried, again.Carried) {
		t.Errorf("Verify: %v", v.Defects)
	}
	j = reopen(t, dir, audit.Config{Now: clock.now})
	check("opened again")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	// Somebody changes what was carried forward, or takes it away.
	name := fmt.Sprint("carried-", again.Segments)
	text, err = os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]string{
		"changed": strings.Replace(string(text), "0000000300000000", "0000000400000000", 1),
		"cut":     string(text[:len(text)/2]),
		"missing": "",
	} {
		if bad == "" {
			err = os.Remove(filepath.Join(dir, name))
		} else {
			err = os.WriteFile(filepath.Join(dir, name), []byte(bad), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if v := verify(t, dir); len(v.Defects) != 1 || v.Defects[0].File != name || !strings.Contains(v.Defects[0].Problem, "carried forward") {
			t.Errorf("%s: Verify: %v", what, v.Defects)
		}
		j = reopen(t, dir, audit.Config{Now: clock.now})
		var corrupt *audit.CorruptError
		for s, err := range j.Replay(t.Context(), "t-1", audit.WriteAttempt) {
			if err == nil {
				t.Errorf("%s: Replay yields %s", what, s.ID)
			} else if !errors.As(err, &corrupt) || corrupt.File != name {
				t.Errorf("%s: Replay: %v", what, err)
			}
		}
		if corrupt == nil {
			t.Errorf("%s: Replay says nothing", what)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
