// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// aged returns a journal with segments of seven years ago, about three patients
// each and with a detail each, and one of today. patients[i] are those of
// segment i+1.
func aged(t testing.TB) (j *audit.Journal, dir string, clock *wall, patients [][]string) {
	t.Helper()
	clock = new(wall)
	clock.set(-7 * 366 * 24 * time.Hour)
	j, dir = open(t, audit.Config{Now: clock.now, Timeout: 30 * time.Second})
	for i := 0; len(segmentFiles(t, dir)) < 5; i++ {
		if i == 6 {
			t.Fatal("the events do not fill the segments")
		}
		var own []string
		for n := range 3 {
			own = append(own, fmt.Sprintf("r-%d-%d", i, n))
			disclose(t, j, own[n], "Jane Roe")
		}
		patients = append(patients, own)
		if err := j.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	clock.set(0)
	record(t, j, reveal("r-today"))
	return j, dir, clock, patients
}

func segmentFiles(t testing.TB, dir string) (out []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		out = append(out, filepath.Base(f))
	}
	return out
}

// at is a sink that is at a place.
type at audit.Position

func (a at) Passed() audit.Position { return audit.Position(a) }

func TestPurge(t *testing.T) {
	t.Parallel()
	j, dir, _, _ := aged(t)
	before := segmentFiles(t, dir)
	r, err := j.Purge(officer(t), audit.Purge{ClockChecked: true})
	if err != nil || r.Segments != 4 || r.From != 0 || r.Size == 0 || len(r.Root) != 32 {
		t.Fatalf("Purge = %+v, %v", r, err)
	}
	if got := segmentFiles(t, dir); !slices.Equal(got, before[4:]) {
		t.Errorf("segments %v are left of %v", got, before)
	}
	if files := detailFiles(t, dir); len(files) != 0 {
		t.Errorf("details of purged events are left: %v", files)
	}
	purged := types(t, j, audit.Purged)
	if len(purged) != 1 || purged[0].Purge == nil || purged[0].Purge.Size != r.Size || !bytes.Equal(purged[0].Purge.Root, r.Root) || purged[0].Actor.ID != "u-9" {
		t.Errorf("recorded %+v", purged)
	}
	if again, err := j.Purge(officer(t), audit.Purge{ClockChecked: true}); err != nil || again.Segments != 0 || len(types(t, j, audit.Purged)) != 1 {
		t.Errorf("Purge again = %+v, %v", again, err)
	}
	for range 2 {
		n := 0
		for s, err := range j.Events(t.Context(), audit.Query{Tenant: "t-1", Types: []audit.Type{audit.Revealed, audit.Disclosed}}) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; s.Type != audit.Revealed {
				t.Errorf("kept %+v", s)
			}
		}
		if n != 1 {
			t.Errorf("%d events are left, want today's", n)
		}
		if _, err := readAll(t, dir, audit.Position{}); err != nil {
			t.Errorf("Read: %v", err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		v := verify(t, dir)
		if len(v.Defects) > 0 || v.Purged == nil || v.Purged.Size != r.Size || v.Purged.Segments != 4 {
			t.Errorf("Verify: %+v, purged %+v", v.Defects, v.Purged)
		}
		j = reopen(t, dir, audit.Config{})
	}
	if err := j.RotateKeys(officer(t)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if v := verify(t, dir); len(v.Defects) > 0 || v.Purged == nil {
		t.Errorf("Verify after a rotation: %+v", v.Defects)
	}
	if err := reopen(t, dir, audit.Config{}).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPurgeAfterARotation(t *testing.T) {
	t.Parallel()
	clock := new(wall)
	clock.set(-7 * 366 * 24 * time.Hour)
	j, dir := open(t, audit.Config{Now: clock.now})
	record(t, j, reveal("r-1"))
	if err := j.RotateKeys(officer(t)); err != nil {
		t.Fatal(err)
	}
	if err := j.Roll(); err != nil {
		t.Fatal(err)
	}
	clock.set(0)
	if r, err := j.Purge(officer(t), audit.Purge{ClockChecked: true}); err != nil || r.Segments != 1 {
		t.Fatalf("Purge = %+v, %v", r, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	keys := publicKeys(t, dir)
	for _, key := range []string{"", keys[1]} {
		if v, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Verifier: key}); err != nil || len(v.Defects) > 0 {
			t.Errorf("Verify: %+v, %v", v.Defects, err)
		}
	}
	// Nothing that the first key signed is left to follow from.
	if v, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Verifier: keys[0]}); err != nil || len(v.Defects) == 0 {
		t.Errorf("Verify with the key of what is gone finds nothing (%v)", err)
	}
}

func TestPurgeStopsAt(t *testing.T) {
	t.Parallel()
	j, dir, _, patients := aged(t)
	purge := func(p audit.Purge) int {
		t.Helper()
		r, err := j.Purge(officer(t), p)
		if err != nil {
			t.Errorf("Purge: %v", err)
		}
		return r.Segments
	}
	hold := func(h audit.Hold) string {
		t.Helper()
		h.Reason = audit.ReasonLitigation
		receipt, err := j.Hold(officer(t), h)
		if err != nil {
			t.Fatal(err)
		}
		return receipt.ID
	}
	release := func(id string) {
		t.Helper()
		if err := j.Release(officer(t), id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Purge(officer(t), audit.Purge{ClockChecked: true, Before: time.Now().AddDate(-5, 0, 0)}); !errors.Is(err, audit.ErrRetention) {
		t.Errorf("Purge(before six years) = %v", err)
	}
	if _, err := j.Purge(t.Context(), audit.Purge{ClockChecked: true}); !errors.Is(err, access.ErrNoPrincipal) {
		t.Errorf("Purge(nobody) = %v", err)
	}
	if n := purge(audit.Purge{ClockChecked: true, Before: time.Now().AddDate(-8, 0, 0)}); n != 0 {
		t.Errorf("%d segments go that are younger than Before", n)
	}
	// A sink that has not passed, or that is at another journal's place.
	lines, err := readAll(t, dir, audit.Position{})
	if err != nil {
		t.Fatal(err)
	}
	for name, sink := range map[string]at{
		"has nothing":        {},
		"is in the first":    at(lines[0].Position),
		"is another journal": {Writer: "j2", Seq: 1 << 40},
	} {
		if n := purge(audit.Purge{ClockChecked: true, Required: []audit.Passer{at{Writer: j.Writer(), Seq: 1 << 40}, sink}}); n != 0 {
			t.Errorf("%d segments go although a sink %s", n, name)
		}
	}
	for name, tt := range map[string]struct {
		h    audit.Hold
		want int
	}{
		"the patient":         {audit.Hold{Patient: patients[0][1]}, 0},
		"the actor":           {audit.Hold{Actor: "u-17", ActorKind: access.Human}, 0},
		"everything":          {audit.Hold{Until: time.Now()}, 0},
		"actor and patient":   {audit.Hold{Patient: patients[0][2], Actor: "u-17", ActorKind: access.Human}, 0},
		"patient and a time":  {audit.Hold{Patient: patients[0][2], Since: time.Now().AddDate(-10, 0, 0), Until: time.Now()}, 0},
		"until it is written": {audit.Hold{Since: time.Now().AddDate(-10, 0, 0)}, 0},
	} {
		id := hold(tt.h)
		if n := purge(audit.Purge{ClockChecked: true}); n != tt.want {
			t.Errorf("%d segments go that hold %s", n, name)
		}
		release(id)
		if err := j.Release(officer(t), id); !errors.Is(err, audit.ErrNoHold) {
			t.Errorf("Release again = %v", err)
		}
	}
	// What another tenant holds is its own; and who is nobody holds nothing.
	other := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-2", Kind: access.Human}, access.Compliance)
	theirs, err := j.Hold(other, audit.Hold{Patient: patients[0][0], Reason: audit.ReasonCourt})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Release(officer(t), theirs.ID); !errors.Is(err, audit.ErrNoHold) {
		t.Errorf("Release(another tenant's) = %v", err)
	}
	for name, h := range map[string]audit.Hold{
		"nothing":       {Reason: audit.ReasonCourt},
		"no reason":     {Patient: "r-1"},
		"a free reason": {Patient: "r-1", Reason: "Jane Roe sues"},
		"a phone":       {Patient: "617-555-0199", Reason: audit.ReasonCourt},
		"half an actor": {Actor: "u-1", Reason: audit.ReasonCourt},
	} {
		if _, err := j.Hold(officer(t), h); !errors.Is(err, audit.ErrEvent) {
			t.Errorf("Hold(%s) = %v, want ErrEvent", name, err)
		}
	}
	// A hold on a record that was merged into another holds both, before and
	// after a rotation of keys.
	if err := j.RotateKeys(officer(t)); err != nil {
		t.Fatal(err)
	}
	record(t, j, audit.Event{Type: audit.Merged, Outcome: audit.Success, Reason: audit.ReasonMerge, Action: access.Maintain, Objects: []audit.Object{
		{Type: "patient", Record: patients[1][0], Patient: patients[1][0]}, {Type: "patient", Record: "r-new", Patient: "r-new"}}})
	id := hold(audit.Hold{Patient: "r-new"})
	if n := purge(audit.Purge{ClockChecked: true, Required: []audit.Passer{at{Writer: j.Writer(), Seq: 1 << 40}}}); n != 1 {
		t.Errorf("%d segments go, want the one before that of the merged record", n)
	}
	release(id)
	if n := purge(audit.Purge{ClockChecked: true}); n != 4 {
		t.Errorf("segments up to %d go, want 4", n)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if v := verify(t, dir); len(v.Defects) > 0 || v.Purged == nil || v.Purged.Segments != 4 {
		t.Errorf("Verify: %+v", v.Defects)
	}
}

// Only what the journal itself removed is explained.
func TestVerifyTellsAPurgeFromALoss(t *testing.T) {
	t.Parallel()
	j, dir, clock, _ := aged(t)
	first, err := os.ReadFile(filepath.Join(dir, "00000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	// Of the last three segments two are of today.
	if err := j.Roll(); err != nil {
		t.Fatal(err)
	}
	record(t, j, reveal("r-today"))
	if _, err := j.Purge(officer(t), audit.Purge{ClockChecked: true}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	_ = clock
	note, err := os.ReadFile(filepath.Join(dir, "purged"))
	if err != nil {
		t.Fatal(err)
	}
	foreign, theirs, _, _ := aged(t)
	if _, err := foreign.Purge(officer(t), audit.Purge{ClockChecked: true}); err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(theirs, "purged"))
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, data []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err == nil && data != nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(name string, sound bool) {
		t.Helper()
		if v := verify(t, dir); (len(v.Defects) == 0) != sound || sound == (v.Purged == nil) {
			t.Errorf("%s: Verify: %+v, %+v", name, v.Defects, v.Purged)
		}
		opened, err := audit.Open(dir, development)
		if err == nil {
			err = opened.Close()
		}
		var c *audit.CorruptError
		if sound && err != nil || !sound && !errors.As(err, &c) {
			t.Errorf("%s: Open: %v", name, err)
		}
	}
	check("as it was purged", true)
	put("purged", nil)
	check("without the record", false)
	put("purged", other)
	check("with another journal's record", false)
	put("purged", bytes.Replace(note, []byte("purged 4 0"), []byte("purged 5 0"), 1))
	check("with a forged record", false)
	put("purged", append(slices.Clone(note), note...))
	check("with two records", false)
	put("purged", note)
	check("as it was", true)
	// A crash before the last segments were removed.
	put("00000004.jsonl", nil)
	fifth, err := os.ReadFile(filepath.Join(dir, "00000005.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	put("00000005.jsonl", nil)
	check("one segment more is gone", false)
	put("00000005.jsonl", fifth)
	put("00000001.jsonl", first)
	if _, err := audit.Open(dir, development); err == nil {
		t.Error("Open takes a journal with a hole in its head")
	}
	put("00000001.jsonl", nil)
	check("all is as it was", true)
}

// What a crash left of a purge goes at the next Open.
func TestAPurgeThatACrashCutShort(t *testing.T) {
	t.Parallel()
	j, dir, _, _ := aged(t)
	kept := make(map[string][]byte)
	for _, name := range []string{"00000003.jsonl", "00000004.jsonl"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		kept[name] = data
	}
	if _, err := j.Purge(officer(t), audit.Purge{ClockChecked: true}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range kept {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if v := verify(t, dir); len(v.Defects) > 0 || v.Purged == nil {
		t.Errorf("Verify before Open: %+v", v.Defects)
	}
	if err := reopen(t, dir, audit.Config{}).Close(); err != nil {
		t.Fatal(err)
	}
	if got := segmentFiles(t, dir); len(got) != 1 {
		t.Errorf("segments %v are left", got)
	}
	if v := verify(t, dir); len(v.Defects) > 0 || v.Purged == nil {
		t.Errorf("Verify: %+v", v.Defects)
	}
}
